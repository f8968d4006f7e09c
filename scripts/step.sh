# Sourced: `step NAME COMMAND...` runs a command and remembers how long it took; `steps_summary` prints the table.
#
# bash switches `set -e` off inside a command whose status is looked at, so a function given to `step` has to
# `|| return` by itself.

STEPS=()
step() {
  local name=$1 started=$SECONDS status=0
  shift
  printf '\n== %s\n' "$name"
  "$@" || status=$?
  local took=$((SECONDS - started))
  if [ "$status" -eq 0 ]; then
    STEPS+=("$(printf '%-34s %5d s  ok' "$name" "$took")")
  else
    STEPS+=("$(printf '%-34s %5d s  FAILED (status %d)' "$name" "$took" "$status")")
  fi
  return "$status"
}

steps_summary() {
  printf '\n%s\n' "---- $1"
  printf '%s\n' "${STEPS[@]}"
}

#!/usr/bin/env bash
# Holds the running gateway against the OpenAPI document that it serves. schemathesis reads the document, makes requests
# that fit it and requests that don't, and checks status codes, headers and bodies of the answers; it knows nothing but the
# document. Twice: with parameters of its own making, and reading a bucket and objects that are there.
#
# STRONGROOM_BIN        the program
# SCHEMATHESIS_CASES    cases per operation; 15
# SCHEMATHESIS_SEED     what cases are drawn from; 1, so that a run can be repeated. `random` draws anew each time
set -euo pipefail
cd "$(dirname "$0")"
here=$PWD
bin=${STRONGROOM_BIN:?the program to test}

stamp=.venv/installed
if ! cmp -s requirements.txt "$stamp"; then
  python3 -m venv --clear .venv
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement requirements.txt
  cp requirements.txt "$stamp"
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/strongroom-openapi.XXXXXX")
up=
finish() {
  local status=$?
  if [ -n "$up" ]; then
    kill -TERM "$up" 2>/dev/null || true
    wait "$up" || true
  fi
  if [ "$status" -ne 0 ]; then
    echo "-- the platform said:" >&2
    tail -n 20 "$work/up.log" >&2 || true
  fi
  rm -rf "$work"
  exit "$status"
}
trap finish EXIT

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
url=http://127.0.0.1:$port
export STRONGROOM_DATA=$work/data STRONGROOM_CONFIG_DIR=$work/config STRONGROOM_PASSPHRASE_FILE=$work/passphrase
export STRONGROOM_ENDPOINT=$url STRONGROOM_LISTEN=127.0.0.1:$port STRONGROOM_GRPC_LISTEN=127.0.0.1:0
echo "only for this test" >"$work/passphrase"
"$bin" --quiet init --recovery-key-file "$work/recovery-key" >/dev/null
"$bin" up >"$work/up.log" 2>&1 &
up=$!
for _ in $(seq 120); do
  "$bin" --quiet admin status >/dev/null 2>&1 && break
  kill -0 "$up" || exit 1
  sleep 0.5
done

# Something to find.
"$bin" --quiet mb photos
head -c 1000 /dev/urandom | "$bin" --quiet put - sr://photos/small
head -c 9000000 /dev/urandom | "$bin" --quiet put --wait-placed - sr://photos/large
version=$("$bin" --json stat sr://photos/large | python3 -c 'import json, sys; print(json.load(sys.stdin)["version"])')
token=$("$bin" --quiet token --scope read --scope write)

export SCHEMATHESIS_HOOKS=hooks
seed=(--seed "${SCHEMATHESIS_SEED:-1}")
[ "${SCHEMATHESIS_SEED:-1}" = random ] && seed=()
check() { # title, settings, then options
  local title=$1 settings=$2
  shift 2
  echo "-- $title"
  # In the throw-away folder: it keeps notes where it runs.
  (cd "$work" && PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$here "$here/.venv/bin/schemathesis" --config-file "$settings" run "$url/v1/openapi.json" --url "$url" \
    --header "Authorization: Bearer $token" --max-examples "${SCHEMATHESIS_CASES:-15}" --continue-on-failure \
    --warnings off "${seed[@]}" "$@")
}

failed=0
check "generated parameters" "$here/schemathesis.toml" || failed=1
{
  cat schemathesis.toml
  printf '[parameters]\nbucket = "photos"\nkey = "large"\nversion = "%s"\n' "$version"
} >"$work/existing.toml"
check "what is there" "$work/existing.toml" --include-method GET || failed=1
exit "$failed"

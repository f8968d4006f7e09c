#!/usr/bin/env bash
# Builds every fuzz target with coverage instrumentation and AddressSanitizer, and runs each for a few seconds.
#
#   fuzz/smoke.sh [TARGET...]      all targets when none is named
#
# FUZZ_SECONDS   seconds for each target, 4 when unset
# FUZZ_CORPUS    folder that keeps the corpora between runs; a folder under the target folder when unset
#
# No nightly toolchain and no cargo-fuzz: RUSTC_BOOTSTRAP lets the installed compiler take the sanitizer flag, in this
# build alone, which has a target folder of its own. A crash prints the input and fails; put it into
# fuzz/regressions/<target>/ with the fix. `cargo fuzz` itself works on this folder too.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${FUZZ_SECONDS:-4}
target_dir=${CARGO_TARGET_DIR:-$PWD/target}/fuzz
corpus=${FUZZ_CORPUS:-$target_dir/corpus}
artifacts=$target_dir/artifacts
host=$(rustc -vV | sed -n 's/^host: //p')
bin=$target_dir/$host/debug

# Each input is one allocation-bounded decode: none may take long, nor more memory than the largest thing it may hold.
LIMITS=(-timeout=10 -rss_limit_mb=2048 -malloc_limit_mb=256 -max_len=131072 -print_final_stats=1)

sancov=(
  -Cpasses=sancov-module
  -Cllvm-args=-sanitizer-coverage-level=4
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
  -Cllvm-args=-sanitizer-coverage-pc-table
  -Cllvm-args=-sanitizer-coverage-trace-compares
)
# `--target` keeps these flags away from build scripts and procedural macros, which run in the compiler.
RUSTC_BOOTSTRAP=1 RUSTFLAGS="--cfg fuzzing ${sancov[*]} -Zsanitizer=address -Ccodegen-units=1" \
  CARGO_INCREMENTAL=0 CARGO_TARGET_DIR=$target_dir \
  cargo build --locked --target "$host" -p fuzz --bins

# LeakSanitizer needs ptrace, which containers refuse; leaks are not what these targets look for.
export ASAN_OPTIONS=detect_leaks=0

mkdir -p "$artifacts" "$corpus"
mapfile -t all < <("$bin/fuzz-seeds" "$corpus")
wanted=("$@")
[ $# -gt 0 ] || wanted=("${all[@]}")

# The canary first: a fuzzer that does not find the defect that is there proves nothing about the others.
if STRONGROOM_FUZZ_CANARY=1 "$bin/fuzz-canary" "$corpus/canary" "${LIMITS[@]}" -max_total_time=60 -seed=1 \
  -artifact_prefix="$artifacts/canary-" >"$target_dir/canary.log" 2>&1; then
  tail -n 20 "$target_dir/canary.log" >&2
  echo "fuzz: the planted defect was not found, so the instrumentation does not work" >&2
  exit 1
fi
if ! grep -q 'the canary was found' "$target_dir/canary.log"; then
  tail -n 20 "$target_dir/canary.log" >&2
  echo "fuzz: the canary ended for another reason than its planted defect" >&2
  exit 1
fi
rm -f "$artifacts"/canary-*

run_one() {
  local name=$1 log=$target_dir/$1.log status=0 folders
  folders=("$corpus/$name")
  [ ! -d "fuzz/regressions/$name" ] || folders+=("fuzz/regressions/$name")
  "$bin/fuzz-$name" "${folders[@]}" "${LIMITS[@]}" -max_total_time="$seconds" \
    -artifact_prefix="$artifacts/$name-" >"$log" 2>&1 || status=$?
  if [ "$status" -eq 0 ]; then
    local inputs covered
    inputs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    covered=$(grep -o 'cov: [0-9]*' "$log" | tail -n 1)
    printf '%-24s ok       %10s inputs  %s\n' "$name" "$inputs" "$covered"
    # An empty run is no run.
    [ "${inputs:-0}" -gt 0 ]
    return
  fi
  printf '%-24s FAILED   status %s\n' "$name" "$status"
  grep -vE '^(#[0-9]|INFO)' "$log" | tail -n 40
  return 1
}
export -f run_one
export seconds corpus artifacts target_dir bin
# Arrays do not cross into other shells.
export LIMITS_TEXT="${LIMITS[*]}"
printf '%s\n' "${wanted[@]}" | grep -vx canary |
  xargs -P "$(nproc)" -I{} bash -c 'read -ra LIMITS <<<"$LIMITS_TEXT"; run_one {}'

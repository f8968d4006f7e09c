#!/usr/bin/env bash
# The long forms of the tests, optimised: tests that have one look for STRONGROOM_SOAK and do more rounds, larger files and
# random seeds. Takes hours. `make soak` calls this; arguments go on to nextest (`-E 'package(shards)'`, say).
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/step.sh
. scripts/test-environment.sh
export STRONGROOM_SOAK=1
export STRONGROOM_BIN=$target/release/strongroom

finish() {
  local status=$?
  stop_postgres || status=1
  steps_summary "make soak"
  exit "$status"
}
trap finish EXIT

step "system packages" scripts/need.sh test
step "cargo-nextest present" scripts/tool.sh cargo-nextest
step "build" cargo nextest run --release --workspace --locked --no-run
step "NIST's vectors" fetch_acvp
step "PostgreSQL" start_postgres
failed=0
step "tests, long form" cargo nextest run --release --workspace --locked --profile soak "$@" || failed=1
step "fuzz targets, an hour in all" env FUZZ_SECONDS="${FUZZ_SECONDS:-240}" fuzz/smoke.sh || failed=1
exit "$failed"

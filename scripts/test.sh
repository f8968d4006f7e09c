#!/usr/bin/env bash
# Every test in its short form. `make test` calls this.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/step.sh
. scripts/test-environment.sh
# The end-to-end tests start the program as a user would.
export STRONGROOM_BIN=$target/debug/strongroom

finish() {
  local status=$?
  stop_postgres || status=1
  steps_summary "make test"
  exit "$status"
}
trap finish EXIT

step "system packages" scripts/need.sh test
step "cargo-nextest present" scripts/tool.sh cargo-nextest
# Tests and the program in one build: `-p strongroom` alone would choose other features and build everything twice.
step "build" cargo nextest run --workspace --locked --no-run
step "NIST's vectors" fetch_acvp
step "PostgreSQL" start_postgres

# One failure does not hide the others.
failed=0
step "unit, integration, end to end" cargo nextest run --workspace --locked || failed=1
step "documentation examples" cargo test --workspace --doc --locked --quiet || failed=1
step "erasure under AddressSanitizer" crates/erasure/asan.sh || failed=1
step "second reader of the format" testing/reader/run.sh || failed=1
step "OpenAPI document against the running gateway" testing/openapi/run.sh || failed=1
step "gRPC against clients of others" testing/grpc/run.sh || failed=1
step "fuzz targets, smoke" fuzz/smoke.sh || failed=1
exit "$failed"

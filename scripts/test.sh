#!/usr/bin/env bash
# Every test in its short form. `make test` calls this.
#
# STRONGROOM_TEST_DATA     published vectors; ../shared/test-data when it is there, and tests that need one fail without it
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/step.sh
export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
target=${CARGO_TARGET_DIR:-$PWD/target}

if [ -z "${STRONGROOM_TEST_DATA-}" ] && [ -d ../shared/test-data ]; then
  STRONGROOM_TEST_DATA=$(cd ../shared/test-data && pwd)
  export STRONGROOM_TEST_DATA
fi
# Here a missing reference is a failure, not a reason to skip what it would have shown.
export STRONGROOM_REQUIRE_ISAL=1 STRONGROOM_REQUIRE_POSTGRES=1
# The end-to-end tests start the program as a user would.
export STRONGROOM_BIN=$target/debug/strongroom

postgres_dir=
finish() {
  local status=$?
  [ -z "$postgres_dir" ] || testing/postgres.sh stop "$postgres_dir" || status=1
  steps_summary "make test"
  exit "$status"
}
trap finish EXIT

start_postgres() {
  postgres_dir=$(mktemp -d "${TMPDIR:-/tmp}/strongroom-postgres.XXXXXX")
  STRONGROOM_TEST_POSTGRES=$(testing/postgres.sh start "$postgres_dir") || return
  export STRONGROOM_TEST_POSTGRES
}

step "system packages" scripts/need.sh test
step "cargo-nextest present" scripts/tool.sh cargo-nextest
step "programs" cargo build --workspace --bins --locked
step "PostgreSQL" start_postgres

# One failure does not hide the others.
failed=0
step "unit, integration, end to end" cargo nextest run --workspace --locked || failed=1
step "documentation examples" cargo test --workspace --doc --locked --quiet || failed=1
step "erasure under AddressSanitizer" crates/erasure/asan.sh || failed=1
step "second reader of the format" testing/reader/run.sh || failed=1
step "fuzz targets, smoke" fuzz/smoke.sh || failed=1
exit "$failed"

# Sourced by the scripts that run tests, from the root of the tree: what the tests find in their environment.
#
# STRONGROOM_TEST_DATA       published vectors; ../shared/test-data when it is there
# STRONGROOM_REQUIRE_...     here a missing reference is a failure, not a reason to skip what it would have shown
# STRONGROOM_TEST_POSTGRES   URL of a throw-away server, set by `start_postgres`
# STRONGROOM_ACVP            NIST's vectors for ML-KEM, set by `fetch_acvp`

export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
target=${CARGO_TARGET_DIR:-$PWD/target}

if [ -z "${STRONGROOM_TEST_DATA-}" ] && [ -d ../shared/test-data ]; then
  STRONGROOM_TEST_DATA=$(cd ../shared/test-data && pwd)
  export STRONGROOM_TEST_DATA
fi
export STRONGROOM_REQUIRE_ISAL=1 STRONGROOM_REQUIRE_POSTGRES=1 STRONGROOM_REQUIRE_ACVP=1

fetch_acvp() {
  STRONGROOM_ACVP=$(testing/acvp.sh "$target/acvp") || return
  export STRONGROOM_ACVP
}

postgres_dir=
start_postgres() {
  postgres_dir=$(mktemp -d "${TMPDIR:-/tmp}/strongroom-postgres.XXXXXX") || return
  STRONGROOM_TEST_POSTGRES=$(testing/postgres.sh start "$postgres_dir") || return
  export STRONGROOM_TEST_POSTGRES
}

stop_postgres() {
  [ -z "$postgres_dir" ] || testing/postgres.sh stop "$postgres_dir"
}

#!/usr/bin/env bash
# Installs a development tool at the version the project uses, unless one is there.
#
#   scripts/tool.sh cargo-deny | cargo-nextest      into cargo's own bin folder, compiled from crates.io
#   scripts/tool.sh typos                           into a Python environment under the target folder; prints its path
set -euo pipefail

CARGO_DENY_VERSION=0.20.2
CARGO_NEXTEST_VERSION=0.9.143
TYPOS_VERSION=1.52.0

root=$(cd "$(dirname "$0")/.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"

# A tool's own build must not land in the project's target folder, nor inherit flags meant for it.
install_crate() { # crate, version
  echo "installing $1 $2 from crates.io; this takes some minutes, once" >&2
  env -u RUSTFLAGS -u RUSTC_BOOTSTRAP CARGO_TARGET_DIR="$target/tools/build-$1" CARGO_PROFILE_RELEASE_LTO=off \
    cargo install --locked --version "$2" "$1" >&2
  rm -rf "$target/tools/build-$1"
}

case ${1-} in
  cargo-deny) command -v cargo-deny >/dev/null || install_crate cargo-deny "$CARGO_DENY_VERSION" ;;
  cargo-nextest) command -v cargo-nextest >/dev/null || install_crate cargo-nextest "$CARGO_NEXTEST_VERSION" ;;
  typos)
    venv=$target/tools/typos-$TYPOS_VERSION
    if ! "$venv/bin/typos" --version >/dev/null 2>&1; then
      rm -rf "$venv"
      python3 -m venv "$venv" >&2
      "$venv/bin/pip" install --quiet --disable-pip-version-check "typos==$TYPOS_VERSION" >&2
    fi
    echo "$venv/bin/typos"
    ;;
  *)
    echo "tool.sh: no tool '${1-}' (cargo-deny, cargo-nextest, typos)" >&2
    exit 2
    ;;
esac

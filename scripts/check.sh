#!/usr/bin/env bash
# Static checks only: nothing of the project is run but its own tidy. `make check` calls this.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/step.sh
export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"

spelling() {
  local typos
  typos=$(scripts/tool.sh typos) || return
  "$typos" --config typos.toml
}

trap 'steps_summary "make check"' EXIT
step "system packages" scripts/need.sh check
step "format" cargo fmt --all --check
step "tidy" cargo xtask tidy
step "spelling" spelling
step "cargo-deny present" scripts/tool.sh cargo-deny
step "bans, licences, sources" cargo deny --locked check bans licenses sources
step "clippy" cargo clippy --workspace --all-targets --locked -- -D warnings

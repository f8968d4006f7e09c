#!/usr/bin/env bash
# Builds the release program and lets it prove itself: start everything, store a real file, kill 4 nodes, read it back.
# `make run` calls this; arguments go on to `strongroom prove` (`--once` exits after the proof).
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-$PWD/target}

scripts/need.sh build
cargo build --release --locked -p strongroom -p custodian -p worker
exec "$target/release/strongroom" prove --data "${STRONGROOM_DATA:-./data}" "$@"

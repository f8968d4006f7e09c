#!/usr/bin/env bash
# Measures the codec, the AEAD and the hashes alone, then the whole platform over Unix sockets and over mutual TLS, fsync
# on. Prints what docs/benchmarks.md holds. `make bench` calls this; arguments go on to `strongroom bench`
# (`--load 64MiB --time 30s`, say).
#
# BENCH_DIR   where the throw-away platform lies: choose the disk to be measured; the temporary folder when unset
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-$PWD/target}
bin=$target/release/strongroom

scripts/need.sh build test
cargo build --release --locked -p strongroom -p custodian -p worker

machine() {
  echo "commit     $(git describe --always --dirty)"
  echo "processor  $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), $(nproc) cores"
  echo "vectors    $(grep -o -w -E 'avx2|gfni|avx512f|vaes' /proc/cpuinfo | sort -u | tr '\n' ' ')"
  echo "memory     $(awk '/^MemTotal/ { printf "%.1f GiB", $2 / 1048576 }' /proc/meminfo)"
  echo "kernel     $(uname -r)"
}

work=$(mktemp -d "${BENCH_DIR:-${TMPDIR:-/tmp}}/strongroom-bench.XXXXXX")
up=
stop_platform() {
  [ -n "$up" ] || return 0
  kill -TERM "$up" 2>/dev/null || true
  wait "$up" || true
  up=
}
trap 'stop_platform; rm -rf "$work"' EXIT

# The disk's ceiling as durable writes meet it: 4 MiB appended, fdatasync, again.
disk() {
  python3 - "$work/disk" <<'PY'
import os, sys, time
path, piece, pieces = sys.argv[1], os.urandom(4 << 20), 128
fd = os.open(path, os.O_WRONLY | os.O_CREAT)
start = time.monotonic()
for _ in range(pieces):
    os.write(fd, piece)
    os.fdatasync(fd)
took = time.monotonic() - start
os.close(fd)
os.unlink(path)
print(f"disk       {pieces * len(piece) / took / 1e6:.0f} MB/s appending 4 MiB with fdatasync each")
PY
}

platform() { # title, then options of `up`
  local title=$1
  shift
  printf '\n== platform, %s\n' "$title"
  local port
  port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  export STRONGROOM_DATA=$work/data STRONGROOM_CONFIG_DIR=$work/config STRONGROOM_PASSPHRASE_FILE=$work/passphrase
  export STRONGROOM_ENDPOINT=http://127.0.0.1:$port STRONGROOM_LISTEN=127.0.0.1:$port
  rm -rf "$work/data" "$work/config"
  echo "only for this measurement" >"$work/passphrase"
  "$bin" init --recovery-key-file "$work/recovery-key-$port" >/dev/null
  "$bin" up "$@" >"$work/up.log" 2>&1 &
  up=$!
  local waited=0
  until "$bin" admin status >/dev/null 2>&1; do
    waited=$((waited + 1))
    if [ "$waited" -gt 120 ] || ! kill -0 "$up" 2>/dev/null; then
      cat "$work/up.log" >&2
      echo "bench: the platform did not start" >&2
      exit 1
    fi
    sleep 0.5
  done
  "$bin" bench "${bench_args[@]}"
  # What more of them in flight cost in memory.
  [ ${#bench_args[@]} -gt 0 ] || "$bin" bench --load 64MiB --in-flight 16
  stop_platform
}

bench_args=("$@")
machine
disk
printf '\n== codec\n'
cargo bench --locked --quiet -p erasure
printf '\n== encryption and hashes\n'
cargo bench --locked --quiet -p crypto --bench datapath
platform "Unix sockets to the nodes"
platform "mutual TLS to the nodes" --tls-nodes --node-port 0

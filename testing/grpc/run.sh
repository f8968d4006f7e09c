#!/usr/bin/env bash
# Holds the running gateway's gRPC against clients that nobody here wrote: Python's grpcio, which learns the contract by reflection
# alone. Then the program itself goes through it: a bridge passes what it asks over REST on as gRPC calls.
#
# STRONGROOM_BIN        the program
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

# Sockets lie in it: a short path.
work=$(mktemp -d /tmp/sr-grpc.XXXXXX)
up=
finish() {
  local status=$?
  if [ -n "$up" ]; then
    kill -TERM "$up" 2>/dev/null || true
    wait "$up" || true
  fi
  if [ "$status" -ne 0 ]; then
    echo "-- the platform said:" >&2
    tail -n 20 "$work/up.log" "$work/data/gateway/log" >&2 || true
  fi
  rm -rf "$work"
  exit "$status"
}
trap finish EXIT

export STRONGROOM_DATA=$work/data STRONGROOM_CONFIG_DIR=$work/config STRONGROOM_PASSPHRASE_FILE=$work/passphrase
echo "only for this test" >"$work/passphrase"
"$bin" --quiet init --recovery-key-file "$work/recovery-key" >/dev/null
"$bin" up --json --listen 127.0.0.1:0 --grpc-listen 127.0.0.1:0 >"$work/ready" 2>"$work/up.log" &
up=$!
for _ in $(seq 240); do
  [ -s "$work/ready" ] && break
  kill -0 "$up" || exit 1
  sleep 0.5
done
PYTHONDONTWRITEBYTECODE=1 STRONGROOM_READY=$work/ready STRONGROOM_BIN=$bin STRONGROOM_WORK=$work \
  "$here/.venv/bin/python" -m unittest --quiet test_grpc

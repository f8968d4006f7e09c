#!/usr/bin/env bash
# Makes the deployment fixture of a release: data and configuration folders of a small platform, for the end-to-end test that
# opens them with every later build. Run it once when a format of the data folder changes; older fixtures stay.
#
#   testing/make-deployment.sh NAME      writes test-data/deployments/NAME.tar.xz; STRONGROOM_BIN is the program
set -euo pipefail
cd "$(dirname "$0")/.."
name=${1:?the name of the fixture, v1 for example}
bin=${STRONGROOM_BIN:?the program that makes it}
out=$PWD/test-data/deployments/$name.tar.xz
[ ! -e "$out" ] || {
  echo "$out is there already: fixtures never change" >&2
  exit 1
}

work=$(mktemp -d "${TMPDIR:-/tmp}/strongroom-fixture.XXXXXX")
up=
trap '[ -z "$up" ] || kill -TERM "$up"; rm -rf "$work"' EXIT
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
export STRONGROOM_DATA=$work/data STRONGROOM_CONFIG_DIR=$work/config STRONGROOM_PASSPHRASE_FILE=$work/config/passphrase
export STRONGROOM_ENDPOINT=http://127.0.0.1:$port STRONGROOM_LISTEN=127.0.0.1:$port STRONGROOM_GRPC_LISTEN=127.0.0.1:0
mkdir -m 700 "$work/config"
echo "a fixture protects nothing" >"$work/config/passphrase"
"$bin" --quiet init --recovery-key-file "$work/config/recovery-key"
"$bin" up >"$work/log" 2>&1 &
up=$!
for _ in $(seq 120); do
  "$bin" --quiet admin status >/dev/null 2>&1 && break
  sleep 0.5
done

# Contents that the test makes again: the decimal numbers from 1, one a line.
"$bin" --quiet mb photos
seq 100 | "$bin" --quiet put --wait-placed - sr://photos/small
seq 50000 | "$bin" --quiet put --wait-placed - "sr://photos/Größe/chunked"
"$bin" --quiet cp sr://photos/small sr://photos/copy
"$bin" --quiet rm sr://photos/small
kill -TERM "$up"
wait "$up" || true
up=
find "$work" -type s -delete
find "$work/data" -name log -delete
mkdir -p "$(dirname "$out")"
tar -C "$work" --sort=name --owner=0 --group=0 --numeric-owner --sparse -cJf "$out" config data
ls -l "$out"

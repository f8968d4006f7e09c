#!/usr/bin/env bash
# A throw-away PostgreSQL server on a free loopback port, for tests.
#
#   testing/postgres.sh start DIR     makes a cluster in DIR (created, must be empty), prints its URL
#   testing/postgres.sh stop DIR      stops that server and removes DIR
#
# PostgreSQL refuses to run as root: then it runs as user `postgres`, or `nobody` where there is none. Nothing of an
# installed server's own cluster is touched. fsync is off, because the data outlive nothing.
set -euo pipefail

usage() {
  echo "usage: testing/postgres.sh start|stop DIR" >&2
  exit 2
}
[ $# -eq 2 ] || usage
dir=$2

bin=
if command -v pg_ctl >/dev/null && command -v initdb >/dev/null; then
  bin=$(dirname "$(command -v initdb)")
else
  # Debian keeps the server's programs out of PATH; the newest version wins.
  bin=$(compgen -G '/usr/lib/postgresql/*/bin' | sort -V | tail -n 1 || true)
fi
if [ -z "$bin" ] || [ ! -x "$bin/initdb" ]; then
  echo "postgres.sh: no PostgreSQL server programs here; run scripts/need.sh test" >&2
  exit 1
fi

as_server=()
if [ "$(id -u)" -eq 0 ]; then
  user=nobody
  ! id postgres >/dev/null 2>&1 || user=postgres
  as_server=(runuser -u "$user" --)
fi

free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

start() {
  mkdir -p "$dir"
  dir=$(cd "$dir" && pwd)
  if [ -n "$(ls -A "$dir")" ]; then
    echo "postgres.sh: $dir is not empty" >&2
    exit 1
  fi
  chmod 700 "$dir"
  local password
  password=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
  printf '%s\n' "$password" >"$dir/password"
  [ ${#as_server[@]} -eq 0 ] || chown -R "$user" "$dir"

  # The server's own user may not be able to read the folder this was called from.
  cd /
  "${as_server[@]}" "$bin/initdb" --pgdata="$dir/cluster" --username=strongroom --pwfile="$dir/password" \
    --auth=scram-sha-256 --encoding=UTF8 --locale=C --no-sync >"$dir/initdb.log" 2>&1 || {
    cat "$dir/initdb.log" >&2
    exit 1
  }
  # Another program may take the port between the choice and the start: choose again then.
  local attempt port
  for attempt in 1 2 3 4 5; do
    port=$(free_port)
    if "${as_server[@]}" "$bin/pg_ctl" start --pgdata="$dir/cluster" --wait --timeout=60 --log="$dir/server.log" \
      --options="-c listen_addresses=127.0.0.1 -c port=$port -c unix_socket_directories= -c max_connections=300 \
        -c fsync=off -c synchronous_commit=off -c full_page_writes=off -c shared_buffers=64MB" \
      >"$dir/start.log" 2>&1 </dev/null; then
      echo "postgres://strongroom:$password@127.0.0.1:$port/postgres"
      return
    fi
    echo "postgres.sh: start attempt $attempt on port $port failed" >&2
  done
  cat "$dir/start.log" "$dir/server.log" >&2
  exit 1
}

stop() {
  [ -d "$dir" ] || return 0
  dir=$(cd "$dir" && pwd)
  cd /
  if [ -f "$dir/cluster/postmaster.pid" ]; then
    "${as_server[@]}" "$bin/pg_ctl" stop --pgdata="$dir/cluster" --mode=immediate --wait --timeout=60 >/dev/null
  fi
  # Only what `start` made is removed; a folder of something else stays.
  rm -rf "$dir/cluster" "$dir/password" "$dir/initdb.log" "$dir/start.log" "$dir/server.log"
  rmdir "$dir"
}

case $1 in
  start) start ;;
  stop) stop ;;
  *) usage ;;
esac

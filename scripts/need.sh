#!/usr/bin/env bash
# Installs the system packages that a step needs, and does nothing when they are there.
#
#   scripts/need.sh build         a C and C++ compiler and pkg-config (aws-lc, blake3 and SQLite are compiled from source)
#   scripts/need.sh check         what the static checks need: Python's venv module
#   scripts/need.sh test          what the tests need: ISA-L, PostgreSQL, xz, Python's venv module, Node
#
# What counts is whether a thing works, not which package brought it. Debian and Ubuntu get the rest installed with
# apt-get, as root or through sudo; elsewhere the script names what is missing and fails.
set -euo pipefail

missing=()
lacks() { # package, then a command that succeeds when it is there
  local package=$1
  shift
  "$@" >/dev/null 2>&1 || missing+=("$package")
}

has_postgres() { command -v initdb || compgen -G '/usr/lib/postgresql/*/bin/initdb'; }
has_isal() { pkg-config --exists libisal || [ -e /usr/include/isa-l.h ]; }
has_venv() { python3 -c 'import venv, ensurepip'; }

need_build() {
  lacks build-essential sh -c 'command -v cc && command -v c++ && command -v make'
  lacks pkg-config command -v pkg-config
}

for group in "$@"; do
  case $group in
    build) need_build ;;
    check)
      need_build
      lacks python3-venv has_venv
      ;;
    test)
      need_build
      lacks libisal-dev has_isal
      lacks postgresql has_postgres
      lacks xz-utils command -v xz
      lacks python3-venv has_venv
      lacks nodejs command -v node
      lacks npm command -v npm
      ;;
    *)
      echo "need.sh: no group '$group' (build, check, test)" >&2
      exit 2
      ;;
  esac
done

[ "${#missing[@]}" -gt 0 ] || exit 0

if ! command -v apt-get >/dev/null; then
  echo "missing: ${missing[*]} (names as in Debian). Install them with this system's package manager and run again." >&2
  exit 1
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "missing: ${missing[*]}. Run as root: apt-get install ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi
echo "installing ${missing[*]}"
# Another run of apt (an automatic update, say) may hold its lock for a while.
apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300)
"${apt[@]}" update
"${apt[@]}" install --no-install-recommends "${missing[@]}"

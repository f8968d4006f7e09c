#!/usr/bin/env bash
# Fetches NIST's ACVP vectors for ML-KEM and prints the path of one JSON file with what our tests read of them (ML-KEM-768).
# They are not ours to keep here: they come with the source distribution of kyber-py, pinned by its digest.
#
#   testing/acvp.sh DIR      DIR keeps the download for the next time
set -euo pipefail
dir=${1:?a folder to keep the vectors in}
version=1.2.0
digest=9062b7c307b4b84980ec6b775091558d60c488985c4e8081eeb66fd4bb29a354
mkdir -p "$dir"
archive=$dir/kyber_py-$version.tar.gz
if ! sha256sum --check --status <<<"$digest  $archive" 2>/dev/null; then
  rm -f "$archive"
  # pip of an environment of its own: Debian's python3 has none. It builds the package's metadata, and nothing more.
  python3 -m venv --clear "$dir/venv"
  "$dir/venv/bin/python" -m pip download --quiet --disable-pip-version-check --no-deps --no-binary kyber-py \
    --dest "$dir" "kyber-py==$version" >&2
  sha256sum --check --quiet <<<"$digest  $archive" >&2
fi
python3 - "$archive" "$dir/acvp-768.json" <<'PY'
import json
import os
import sys
import tarfile

archive, out = sys.argv[1:]


def groups(name):
    with tarfile.open(archive) as tar:
        member = f"kyber_py-1.2.0/assets/{name}/internalProjection.json"
        sets = json.load(tar.extractfile(member))["testGroups"]
    return [group for group in sets if group["parameterSet"] == "ML-KEM-768"]


def fields(test, *names):
    return {name: test[name].lower() for name in names}


found = {}
for group in groups("ML-KEM-keyGen-FIPS203"):
    found["keygen"] = [fields(test, "d", "z", "ek") for test in group["tests"]]
for group in groups("ML-KEM-encapDecap-FIPS203"):
    if group["function"] == "encapsulation":
        found["encapsulate"] = [fields(test, "ek", "m", "c", "k") for test in group["tests"]]
    else:
        tests = [fields(test, "c", "k") for test in group["tests"]]
        found["decapsulate"] = {"dk": group["dk"].lower(), "tests": tests}
with open(out + ".new", "w") as file:
    json.dump(found, file)
os.replace(out + ".new", out)
print(out)
PY

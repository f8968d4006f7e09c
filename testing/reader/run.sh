#!/usr/bin/env bash
# The second reader's tests: Python from docs/format.md (objects, the KEM of named keys, envelopes), docs/threshold.md
# (sharings), docs/ledger.md and docs/ledger-records.md (records, proofs, exported keys), and CIDs in the Python and JavaScript multiformats libraries.
# Installs what it needs, pinned, into .venv and node_modules here (both ignored by git).
set -euo pipefail
cd "$(dirname "$0")"

stamp=.venv/installed
if ! cmp -s requirements.txt "$stamp"; then
  python3 -m venv --clear .venv
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement requirements.txt
  cp requirements.txt "$stamp"
fi
.venv/bin/python -m unittest --quiet test_reader test_envelope test_threshold test_ledger

if ! cmp -s package-lock.json node_modules/installed; then
  npm ci --silent --no-audit --no-fund
  cp package-lock.json node_modules/installed
fi
node --test cid_test.mjs

#!/usr/bin/env bash
# Install the clients of other makers that tests/clients drives, into .venv/clients. Without node
# the JavaScript client is left out, and its test says so. Called by the Makefile after install.sh.
set -euo pipefail
place=.venv/clients
log=.venv/install-clients.log
mkdir -p "$place/node"

echo "Installing the clients that the tests drive"
if ! { .venv/bin/python -m venv "$place/python" &&
  "$place/python/bin/python" -m pip install --disable-pip-version-check --progress-bar off \
    -r tools/clients/requirements.txt -c tools/clients/constraints.txt; } > "$log" 2>&1; then
  tail -n 20 "$log" >&2
  echo "Installing the clients failed; the whole log is in $log" >&2
  exit 1
fi
if command -v npm > /dev/null; then
  cp tools/clients/package.json "$place/node/"
  npm install --prefix "$place/node" --no-audit --no-fund --silent >> "$log" 2>&1 || {
    tail -n 20 "$log" >&2
    exit 1
  }
else
  echo "There is no npm here: the JavaScript client is left out"
fi

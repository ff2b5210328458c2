#!/usr/bin/env bash
# Make .venv and install Banyan into it with one set of extras: tools/install.sh demo|dev|docs
# Shows a line while it works, keeps pip's own words in .venv/install.log, and prints their end
# when something fails. Called by the Makefile only when pyproject.toml or constraints.txt changed.
set -euo pipefail
extra=$1
python=${PYTHON:-python3}
log=.venv/install.log

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
  echo "Banyan needs Python 3.11 or newer; '$python' is not. Try: make PYTHON=python3.11" >&2
  exit 1
fi
if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
  echo "Creating .venv with $("$python" --version)"
  "$python" -m venv --clear .venv || {
    echo "Cannot create .venv; on Debian and Ubuntu: apt-get install python3-venv" >&2
    exit 1
  }
fi

# A counter on a terminal, a line for every tenth package elsewhere.
show_progress() {
  awk -v terminal="$([ -t 1 ] && echo 1 || echo 0)" '
    { print >> log_file; fflush(log_file) }
    /^ *Collecting |^ *Downloading |^Installing / {
      if ($1 == "Installing") { line = "  unpacking all of them" } else {
        if ($1 == "Collecting") count++
        name = $2; sub(/[<>=!~;(].*/, "", name); sub(/.*\//, "", name)
        line = sprintf("  package %d: %s", count, name)
      }
      if (terminal) { printf "\r\033[K%s", substr(line, 1, 78); fflush() }
      else if ($1 == "Installing" || ($1 == "Collecting" && count % 10 == 1)) print line
    }
    END { if (terminal) printf "\r\033[K" }
  ' log_file="$log"
}

echo "Installing Banyan with its $extra dependencies (the first time takes a few minutes)"
: > "$log"
began=$SECONDS
if ! .venv/bin/python -m pip install --disable-pip-version-check --progress-bar off \
  -c constraints.txt -e ".[$extra]" 2>&1 | show_progress; then
  tail -n 20 "$log" >&2
  echo "Installing failed; the whole log is in $log" >&2
  exit 1
fi
echo "Installed in $((SECONDS - began)) s"

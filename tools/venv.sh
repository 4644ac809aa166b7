#!/bin/sh
# Makes .venv from requirements.txt when there is none or it is stale. PYTHON=... chooses
# the interpreter. What was interrupted, or moved to another folder, is made anew.
set -eu
cd "$(dirname "$0")/.."
fail() { printf '%s\n' "$@" >&2; exit 1; }

wanted="$PWD $(cat requirements.txt pyproject.toml | cksum)"
works() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }
if works .venv/bin/python && [ "$(cat .venv/stamp 2>/dev/null)" = "$wanted" ]; then
    exit 0
fi

if [ -n "${PYTHON:-}" ]; then
    works "$PYTHON" || fail "PYTHON=$PYTHON does not run, or is older than 3.11."
else
    for PYTHON in python3 python3.13 python3.12 python3.11 none; do
        if works "$PYTHON"; then break; fi
    done
    [ "$PYTHON" != none ] || fail \
        "The book needs Python 3.11 or newer; python3 is $(python3 -V 2>&1 || echo absent)." \
        "Install one, or name it: make PYTHON=/path/to/python3.11"
fi

if ! works .venv/bin/python || ! grep -qxF "$PWD" .venv/complete 2>/dev/null; then
    free=$(df -Pk . | awk 'NR == 2 { print int($4 / 1024) }')
    [ "$free" -ge 3072 ] || fail \
        "The environment needs 3 GB of free disk; here are $free MB. Nothing was changed."
    echo "Making .venv with $("$PYTHON" -V)"
    "$PYTHON" -m venv --clear .venv || fail \
        "$PYTHON cannot make a virtual environment (on Debian: apt install python3-venv)."
fi

rm -f .venv/stamp .venv/complete
echo "Installing requirements.txt into .venv: some minutes the first time"
.venv/bin/python -m pip install -q --disable-pip-version-check -r requirements.txt &&
    .venv/bin/python -m pip install -q --disable-pip-version-check --no-deps -e . ||
    fail "The installation stopped (see above). Run make again to redo it."
printf '%s\n' "$PWD" >.venv/complete
printf '%s' "$wanted" >.venv/stamp

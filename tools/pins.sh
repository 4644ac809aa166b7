#!/bin/sh
# Makes requirements.txt from requirements.in, with the oldest Python that the book
# supports. Any index serves: no index, and no build of torch for one device, is named.
set -eu
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder"
"$folder/bin/python" -m pip install -q pip-tools
CUSTOM_COMPILE_COMMAND="make pins" "$folder/bin/pip-compile" -q --upgrade --strip-extras \
    --allow-unsafe --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
    --output-file "$folder/requirements.txt" requirements.in
awk '/^(nvidia-|triton|cuda-)/ { skip = 1; next } /^[^ ]/ { skip = 0 } !skip && !/^--/' \
    "$folder/requirements.txt" | sed 's/+cpu$//' >requirements.txt
if grep -n '://' requirements.txt; then exit 1; fi
echo "requirements.txt: $(grep -c == requirements.txt) packages"

#!/usr/bin/env bash
# Runs public clients of ComfyUI, unmodified and in pinned versions, against the four real services (debug build).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/lib.sh
source scripts/lib.sh

target=${CARGO_TARGET_DIR:-target}
mkdir -p "$target"
target=$(realpath "$target")
work=$(mktemp -d)
trap 'stop_stack; rm -rf "$work"' EXIT

# The clients are kept in the target folder, until their versions change.
clients=$target/comfyui-clients
if ! cmp -s <(cat scripts/clients/{requirements.txt,package.json}) "$clients/installed"; then
    need_node
    need_python_venv
    rm -rf "$clients"
    mkdir -p "$clients"
    say "installing the clients"
    python3 -m venv "$clients/venv"
    "$clients/venv/bin/python" -m pip install --quiet --disable-pip-version-check -r scripts/clients/requirements.txt
    cp scripts/clients/package.json "$clients/"
    (cd "$clients" && npm install --no-audit --no-fund --ignore-scripts --loglevel=error)
    cat scripts/clients/{requirements.txt,package.json} >"$clients/installed"
fi
# Node resolves packages from where the test lies.
cp scripts/clients/{clients.test.mjs,workflow.json} "$clients/"

start_stack "$work" 3
export COMFY_URL=$stack_api
timeout 300 "$clients/venv/bin/python" scripts/clients/clients_test.py
timeout 300 node --test "$clients/clients.test.mjs"

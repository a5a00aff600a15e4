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
pids=()
finish() {
    [ ${#pids[@]} -eq 0 ] || kill "${pids[@]}" 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT

# The clients are kept in the target folder, until their versions change.
clients=$target/comfyui-clients
if ! cmp -s <(cat scripts/clients/{requirements.txt,package.json}) "$clients/installed"; then
    need_node
    command -v python3 >/dev/null || apt_packages python3
    python3 -m venv --help >/dev/null 2>&1 && python3 -c 'import ensurepip' 2>/dev/null || apt_packages python3-venv
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

source <(scripts/install_imagemagick.sh --print-env)
export GATEWAY_ADDR=127.0.0.1:27084 UI_ADDR=127.0.0.1:27080 ORCHESTRATOR_ADDR=127.0.0.1:27090
export STAGE_SAMPLER_ADDR=127.0.0.1:27091 STAGE_IMAGE_ADDR=127.0.0.1:27092
export CHECKPOINTS_DIR=$work/checkpoints VAE_DIR=$work/vae DATA_DIR=$work/data ARTIFACTS_ROOT=$work/artifacts
export INPUT_DIR=$work/input OUTPUT_DIR=$work/output TEMP_DIR=$work/temp USER_DIR=$work/user LOG_DIR=$work/log
mkdir -p "$CHECKPOINTS_DIR"
cp models/checkpoints/starter.safetensors "$CHECKPOINTS_DIR/"
for service in "${services[@]}"; do
    "$target/debug/$service" </dev/null >"$work/$service.out" 2>&1 &
    pids+=($!)
done
for _ in $(seq 600); do
    curl -fsS -o /dev/null "http://$GATEWAY_ADDR/readyz" 2>/dev/null && break
    sleep 0.1
done
curl -fsS -o /dev/null "http://$GATEWAY_ADDR/readyz" || { cat "$work"/*.out; die "the stack did not become ready"; }

export COMFY_URL=http://$GATEWAY_ADDR
timeout 300 "$clients/venv/bin/python" scripts/clients/clients_test.py
timeout 300 node --test "$clients/clients.test.mjs"

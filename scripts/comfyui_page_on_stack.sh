#!/usr/bin/env bash
# Runs ComfyUI's own page in a browser against the four real services (debug build), on ports of their own.
#
#   scripts/comfyui_page_on_stack.sh [VERSION...]     versions of the page; both tested ones without an argument
#
# SHOTS names a folder for screenshots. Pages are kept in the target folder.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/lib.sh
source scripts/lib.sh

versions=("$@")
[ ${#versions[@]} -gt 0 ] || versions=(1.27.10 1.58.1)
# The page of 1.27 makes no node that loads a model unless it knows all of these.
readonly loaders_of_1_27="CheckpointLoaderSimple ControlNetLoader GLIGENLoader ImageOnlyCheckpointLoader LoraLoader \
LoraLoaderModelOnly StyleModelLoader UNETLoader UpscaleModelLoader VAELoader"

target=${CARGO_TARGET_DIR:-target}
work=$(mktemp -d)
pids=()
stop_stack() {
    [ ${#pids[@]} -eq 0 ] || kill "${pids[@]}" 2>/dev/null || true
    wait 2>/dev/null || true
    pids=()
}
trap 'stop_stack; rm -rf "$work"' EXIT

source <(scripts/install_imagemagick.sh --print-env)
export UI=comfyui
export GATEWAY_ADDR=127.0.0.1:28084 UI_ADDR=127.0.0.1:28080 ORCHESTRATOR_ADDR=127.0.0.1:29090
export STAGE_SAMPLER_ADDR=127.0.0.1:29091 STAGE_IMAGE_ADDR=127.0.0.1:29092

# Starts the services with folders of their own, for the page in a folder.
start_stack() {
    local data=$1 service
    export COMFYUI_FRONTEND_DIR=$2
    export CHECKPOINTS_DIR=$data/checkpoints VAE_DIR=$data/vae DATA_DIR=$data/data ARTIFACTS_ROOT=$data/artifacts
    export INPUT_DIR=$data/input OUTPUT_DIR=$data/output TEMP_DIR=$data/temp USER_DIR=$data/user LOG_DIR=$data/log
    mkdir -p "$CHECKPOINTS_DIR"
    cp models/checkpoints/starter.safetensors "$CHECKPOINTS_DIR/"
    for service in "${services[@]}"; do
        "$target/debug/$service" </dev/null >"$data/$service.out" 2>&1 &
        pids+=($!)
    done
    for _ in $(seq 600); do
        curl -fsS -o /dev/null "http://$GATEWAY_ADDR/readyz" 2>/dev/null && return
        sleep 0.1
    done
    cat "$data"/*.out
    die "the stack did not become ready"
}

missing_loaders() {
    local known class
    known=$(curl -fsS "http://$GATEWAY_ADDR/object_info")
    for class in $loaders_of_1_27; do
        [[ $known == *"\"$class\":"* ]] || echo "$class"
    done
}

for version in "${versions[@]}"; do
    page=$target/comfyui-page-$version
    [ -f "$page/templates/index.json" ] || COMFYUI_FRONTEND_DIR=$page scripts/sync_comfyui_frontend.sh --version "$version"
    start_stack "$work/$version" "$page"
    missing=$(missing_loaders)
    if [[ $version == 1.27.* && -n $missing ]]; then
        say "not tested: the page of $version needs nodes that no stage offers yet: ${missing//$'\n'/, }"
    else
        say "ComfyUI's page $version"
        [ -z "${SHOTS:-}" ] || mkdir -p "$SHOTS/$version"
        (cd ui && SHOTS=${SHOTS:+$SHOTS/$version} COMFY_URL="http://$UI_ADDR" npx --no-install playwright test -c e2e-comfyui) ||
            { tail -n 20 "$work/$version"/*.out; exit 1; }
    fi
    stop_stack
done

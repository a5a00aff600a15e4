#!/usr/bin/env bash
# Runs the page's browser test against the four real services (debug build) on ports of their own.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/lib.sh
source scripts/lib.sh

work=$(mktemp -d)
pids=()
finish() {
    [ ${#pids[@]} -eq 0 ] || kill "${pids[@]}" 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT

target=${CARGO_TARGET_DIR:-target}/debug
source <(scripts/install_imagemagick.sh --print-env)
export GATEWAY_ADDR=127.0.0.1:18084 UI_ADDR=127.0.0.1:18080 ORCHESTRATOR_ADDR=127.0.0.1:19090
export STAGE_SAMPLER_ADDR=127.0.0.1:19091 STAGE_IMAGE_ADDR=127.0.0.1:19092
export CHECKPOINTS_DIR=$work/checkpoints VAE_DIR=$work/vae DATA_DIR=$work/data ARTIFACTS_ROOT=$work/artifacts
export INPUT_DIR=$work/input OUTPUT_DIR=$work/output TEMP_DIR=$work/temp USER_DIR=$work/user LOG_DIR=$work/log
export UI_DIR=$PWD/ui/dist
mkdir -p "$CHECKPOINTS_DIR"
cp models/checkpoints/starter.safetensors "$CHECKPOINTS_DIR/"
for service in "${services[@]}"; do
    "$target/$service" </dev/null >"$work/$service.out" 2>&1 &
    pids+=($!)
done
for _ in $(seq 300); do
    curl -fsS -o /dev/null "http://$GATEWAY_ADDR/readyz" 2>/dev/null && break
    sleep 0.1
done
curl -fsS -o /dev/null "http://$GATEWAY_ADDR/readyz" || { cat "$work"/*.out; die "the stack did not become ready"; }
(cd ui && COMFY_URL="http://$UI_ADDR" npm run --silent e2e)

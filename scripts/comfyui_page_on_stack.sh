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
target=${CARGO_TARGET_DIR:-target}
work=$(mktemp -d)
trap 'stop_stack; rm -rf "$work"' EXIT
export UI=comfyui

for version in "${versions[@]}"; do
    page=$target/comfyui-page-$version
    [ -f "$page/templates/index.json" ] || COMFYUI_FRONTEND_DIR=$page scripts/sync_comfyui_frontend.sh --version "$version"
    mkdir "$work/$version"
    export COMFYUI_FRONTEND_DIR=$page
    start_stack "$work/$version" 2
    say "ComfyUI's page $version"
    [ -z "${SHOTS:-}" ] || mkdir -p "$SHOTS/$version"
    (cd ui && SHOTS=${SHOTS:+$SHOTS/$version} COMFY_URL=$stack_page npx --no-install playwright test -c e2e-comfyui) ||
        { tail -n 20 "$work/$version"/*.out; exit 1; }
    stop_stack
done

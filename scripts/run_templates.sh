#!/usr/bin/env bash
# Runs the templates of ComfyUI's packages that are for Stable Diffusion 1.5, 2 and XL end to end: the four real
# services (debug build), tiny random models under the names that the templates ask for, small pictures, few steps.
#
# Downloads about 90 MB once, into the target folder. Ends with an error if any template fails.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/lib.sh
source scripts/lib.sh

work=$(mktemp -d)
trap 'stop_stack; rm -rf "$work"' EXIT

need_templates
start_stack "$work" 4
COMFY_URL=$stack_api PYTHONDONTWRITEBYTECODE=1 python3 scripts/templates/run.py \
    "${CARGO_TARGET_DIR:-target}/debug/random-checkpoint" "$MODELS_DIR" "$INPUT_DIR" "${template_packages[@]}"

#!/usr/bin/env bash
# Runs the page's browser test against the four real services (debug build) on ports of their own.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/lib.sh
source scripts/lib.sh

work=$(mktemp -d)
trap 'stop_stack; rm -rf "$work"' EXIT

export UI_DIR=$PWD/ui/dist
start_stack "$work" 1
(cd ui && COMFY_URL=$stack_page npm run --silent e2e)

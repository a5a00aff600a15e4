#!/usr/bin/env bash
# Runs every test: formatting, lints, licences, Rust tests (the stack as real processes among them), and the page's
# tests in a real browser. COMFY_TEST_FULL=1 adds the full-size checkpoint (2 GB of disk, minutes of work).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/lib.sh
source scripts/lib.sh

step() { printf '\n== %s (%ss)\n' "$*" "$SECONDS"; }

step "tools"
need_build_tools
command -v cargo-nextest >/dev/null || say "cargo-nextest is not installed: using cargo test"

step "format"
cargo fmt --all --check

step "build"
# All targets at once, tests included: a build of the binaries alone would select other features and compile twice.
cargo build --locked --workspace --all-targets
step "rust tests"
if command -v cargo-nextest >/dev/null; then
    cargo nextest run --locked --workspace --no-fail-fast
else
    cargo test --locked --workspace --no-fail-fast
fi

step "lints"
cargo clippy --locked --workspace --all-targets -- -D warnings
if command -v cargo-deny >/dev/null; then cargo deny --locked check licenses bans sources; else say "cargo-deny is not installed: licences not checked"; fi

step "page"
build_ui
(cd ui && npm test --silent)
step "page in a browser"
if [ -z "${CHROMIUM:-}" ]; then apt_packages chromium; fi
(cd ui && npm run --silent e2e)
step "page on the real stack"
scripts/page_on_stack.sh
# ComfyUI's page and its public clients are not part of this project: they come from the package indexes.
if package_index_answers; then
    step "ComfyUI's own page on the real stack"
    scripts/comfyui_page_on_stack.sh
    step "public clients of ComfyUI"
    scripts/client_tests.sh
    step "templates of ComfyUI on the real stack"
    scripts/run_templates.sh
    step "the gateway against its description"
    scripts/api_check.sh
else
    say "the Python package index does not answer: ComfyUI's own page, public clients, templates and the description of the API are not tested"
fi
step "done"

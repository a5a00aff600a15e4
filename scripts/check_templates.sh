#!/usr/bin/env bash
# Converts every template of ComfyUI's template packages from the page's format to API format, and counts.
#
#   scripts/check_templates.sh OBJECT_INFO     a file or an address: http://127.0.0.1:8084/object_info of our stack or
#                                              of a ComfyUI
#
# Downloads about 90 MB once, into the target folder. Ends with an error if any template cannot be converted.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/lib.sh
source scripts/lib.sh

[ $# -eq 1 ] || die "which nodes? give the address or the file of an /object_info"
target=${CARGO_TARGET_DIR:-target}
templates=$target/comfyui-templates
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

case $1 in
    http://* | https://*) curl -fsS "$1" -o "$work/object_info.json" ;;
    *) cp "$1" "$work/object_info.json" ;;
esac
fetch() {
    [ -d "$templates/$1" ] && return
    echo "$1==$2 --hash=sha256:$3" >"$work/requirements.txt"
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
        --dest "$work" -r "$work/requirements.txt"
    python3 -m zipfile -e "$work/${1//-/_}-$2"-*.whl "$work/$1"
    mkdir -p "$templates"
    mv "$work/$1" "$templates/$1"
}
fetch comfyui-workflow-templates 0.1.95 89e20f310f7e7c323d5fe69af895cdb9053d05442404f45e121773cdec95af8a
fetch comfyui-workflow-templates-json 0.1.123 fc321960cfc4f52dddc3ee111f33489b167eb7958028eb5b6a7f3fa8865a385e

need_rust
cargo build --locked --quiet --package comfy-graph --example convert
for package in comfyui-workflow-templates comfyui-workflow-templates-json; do
    find "$templates/$package" -path '*/templates/*.json' -not -name 'index*' -print0 |
        xargs -0 "$target/debug/examples/convert" "$work/object_info.json" >"$work/$package.jsonl"
    python3 - "$package" "$work/$package.jsonl" <<'P'
import json, sys

package, file = sys.argv[1:]
results = [json.loads(line) for line in open(file)]
failed = [result for result in results if "error" in result]
known = [result for result in results if result.get("unknown") == []]
print(f"{package}: {len(results)} workflows, {len(results) - len(failed)} converted, {len(known)} of them of known nodes only")
for result in failed:
    print(f"  {result['file']}: {result['error']}")
sys.exit(1 if failed or not results else 0)
P
done

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
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

case $1 in
    http://* | https://*) curl -fsS "$1" -o "$work/object_info.json" ;;
    *) cp "$1" "$work/object_info.json" ;;
esac
need_templates

need_rust
cargo build --locked --quiet --package comfy-graph --example convert
for folder in "${template_packages[@]}"; do
    package=$(basename "$folder")
    find "$folder" -path '*/templates/*.json' -not -name 'index*' -print0 |
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

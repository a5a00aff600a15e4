#!/usr/bin/env bash
# Draws the pictures of README.md: posts the default workflow to the running stack with other prompts and seeds.
#
#   scripts/draw_gallery.sh [FOLDER]     default: docs/gallery
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/lib.sh
source scripts/lib.sh
apt_packages curl jq

gateway=${GATEWAY_ADDR:-127.0.0.1:8084}
folder=${1:-docs/gallery}
mkdir -p "$folder"

draw() {
    local prompt=$1 seed=$2 file=$3 job
    job=$(jq --arg prompt "$prompt" --argjson seed "$seed" \
        '.["2"].inputs.text = $prompt | .["5"].inputs.seed = $seed' ui/public/workflows/default_api.json |
        curl -fsS -X POST "http://$gateway/v1/workflows" --data-binary @- | jq -r .job_id)
    for _ in $(seq 600); do
        case $(curl -fsS "http://$gateway/v1/jobs/$job" | jq -r .status) in
            completed) curl -fsS -o "$file" "http://$gateway/v1/jobs/$job/output" && return ;;
            queued | running) sleep 0.2 ;;
            *) die "job $job failed: $(curl -fsS "http://$gateway/v1/jobs/$job")" ;;
        esac
    done
    die "job $job has not ended after two minutes"
}

while IFS='|' read -r name seed prompt; do
    say "$prompt"
    draw "$prompt" "$seed" "$folder/$name.png"
done <<'PROMPTS'
circle|1|a red circle on a blue background
star|2|a yellow star on a purple background
heart|3|a white heart on a pink background
square|4|a green square on a white background
moon|5|a yellow moon on a black background
ring|6|a cyan ring on a brown background
cross|7|a black cross on a yellow background
diamond|8|a pink diamond on a green background
triangle|9|an orange triangle on a blue background
small|10|a small blue star on a white background
left|11|a red heart on the left of a white background
two|12|a red circle and a blue square on a white background
PROMPTS

#!/usr/bin/env bash
# Holds the running gateway (debug build, with the three services behind it) against its own description: thousands of
# requests, right and wrong ones, made from /openapi.json by schemathesis.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/lib.sh
source scripts/lib.sh

target=${CARGO_TARGET_DIR:-target}
mkdir -p "$target"
target=$(realpath "$target")
work=$(mktemp -d)
trap 'stop_stack; rm -rf "$work"' EXIT

# The tool is kept in the target folder, until its version changes.
tool=$target/api-check
python_tool "$tool" scripts/api_check/requirements.txt

# How often one may ask is another matter.
export RATE_LIMIT=0
start_stack "$work" 4

# The job and the picture that the description gives as examples.
submit() {
    printf '{"prompt": %s, "prompt_id": "%s"}' "$(cat scripts/clients/workflow.json)" "$1" |
        curl -fsS -o /dev/null -H 'Content-Type: application/json' --data-binary @- "$stack_api/prompt"
}
submit 6c3f4a52-5f7e-4c3a-9a6e-0d4c1e4a3b2f
for _ in $(seq 600); do
    curl -fsS -o "$work/example.png" "$stack_api/v1/jobs/6c3f4a52-5f7e-4c3a-9a6e-0d4c1e4a3b2f/output" 2>/dev/null && break
    sleep 0.1
done
curl -fsS -o /dev/null -F "image=@$work/example.png" "$stack_api/upload/image"

# The same seed every time: a failure here is a failure there.
timeout 600 "$tool/venv/bin/schemathesis" --config-file scripts/api_check/schemathesis.toml \
    run "$stack_api/openapi.json" --phases examples,coverage,fuzzing --max-examples "${API_CHECK_EXAMPLES:-12}" \
    --seed "${API_CHECK_SEED:-1}" --workers 2 --request-timeout 30 --continue-on-failure --no-color "$@"

#!/usr/bin/env bash
# Runs the stack as containers and looks whether it does what README.md and docker-compose.yml say.
#
#   scripts/compose_test.sh            everything, and leaves nothing behind
#   scripts/compose_test.sh --keep     leaves images and the engine it started, for a faster next run
#
# Starts a Docker engine where none runs and makes the base image where it cannot be pulled (both need root and Debian
# packages). Builds the images, draws through port 8080, looks at users, rights, ports, file systems and logs, kills
# every container during a run, and draws the same pictures again, undisturbed, through TLS.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/lib.sh
source scripts/lib.sh
# shellcheck source=scripts/docker_lib.sh
source scripts/docker_lib.sh

keep=no
case ${1:-} in
    '') ;;
    --keep) keep=yes ;;
    -h | --help) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; exit ;;
    *) die "unknown option \`$1\`, see --help" ;;
esac

folder=$(mktemp -d)
chmod 755 "$folder"
# Names of their own, so that a stack that somebody uses is left alone. The settings of docker-compose.yml that the
# caller may have set are taken back to their defaults.
export COMPOSE_PROJECT_NAME=comfy-services-test IMAGE_TAG=compose-test LOG_DIR=$folder/log
unset MODELS_DIR UI TLS_DIR COMFYUI_FRONTEND_DIR SERVICE_UID SERVICE_GID DEFAULT_CHECKPOINT
page=http://127.0.0.1:${UI_PORT:-8080}
edge=https://127.0.0.1:${EDGE_PORT:-8443}

step() { printf '\n== %s (%ss)\n' "$*" "$SECONDS"; }
passed=0
# Counts a check, or ends the test with what it is about.
check() {
    local what=$1
    shift
    "$@" || { say "not so: $what"; exit 1; }
    passed=$((passed + 1))
}
is() { [ "$1" = "$2" ] || { say "\`$1\` is not \`$2\`"; return 1; }; }

compose() { docker compose --profile edge "$@"; }
container() { docker ps --all --quiet --filter "name=^$COMPOSE_PROJECT_NAME-$1-1\$"; }

finish() {
    local code=$?
    trap - EXIT
    if [ $code -ne 0 ] && docker info >/dev/null 2>&1; then
        compose ps --all >&2 || true
        compose logs --tail 20 >&2 || true
    fi
    tear_down || code=1
    [ $code -ne 0 ] || step "done, $passed checks"
    exit $code
}
tear_down() {
    if docker info >/dev/null 2>&1; then
        compose down --volumes --remove-orphans --timeout 5 >/dev/null 2>&1 || return 1
        if [ $keep = no ]; then
            compose down --rmi all >/dev/null 2>&1 || true
            if own_engine; then stop_engine; elif [ ${#made_images[@]} -gt 0 ]; then docker rmi "${made_images[@]}" >/dev/null; fi
        fi
    fi
    as_root rm -rf "$folder"
}
trap finish EXIT
trap 'exit 130' INT TERM

workflow() {
    jq --arg prompt "$1" --argjson seed "$2" --argjson steps "$3" \
        '.["2"].inputs.text = $prompt | .["5"].inputs.seed = $seed | .["5"].inputs.steps = $steps' \
        ui/public/workflows/default_api.json
}
submit() { curl -fsSk -X POST "$1/v1/workflows" --data-binary @- | jq -re .job_id; }
status() { curl -fsSk --max-time 5 "$1/v1/jobs/$2" 2>/dev/null | jq -r .status || true; }
# Waits for the end of a job, also while the gateway is away, and writes its picture.
picture() {
    local base=$1 job=$2 file=$3 state
    for _ in $(seq 1200); do
        state=$(status "$base" "$job")
        case $state in
            completed) curl -fsSk -o "$file" "$base/v1/jobs/$job/output"; return ;;
            failed | cancelled) die "job $job ended: $(curl -sk "$base/v1/jobs/$job")" ;;
        esac
        sleep 0.25
    done
    die "job $job has not ended"
}
# Waits until the sampler is at work on a job.
sampling() {
    timeout 60 sh -c "curl -sN '$page/v1/events?job_id=$1&after=0' | grep -qm1 'node_progress'" || die "job $1 does not start"
}
ends_of() {
    { curl -sN --max-time 3 "$page/v1/events?job_id=$1&after=0" || true; } |
        grep -cE '^event: (succeeded|failed|cancelled)$' || true
}
healthy() {
    local id
    id=$(container "$1")
    for _ in $(seq 240); do
        [ "$(docker inspect -f '{{.State.Health.Status}}' "$id")" != healthy ] || return 0
        sleep 0.25
    done
    return 1
}

# What a container says about itself, in one call: each costs a second on a busy machine.
readonly probe='
id -u; id -g
grep -cE "^Cap(Inh|Prm|Eff|Bnd|Amb):.0+$" /proc/1/status
grep -c "^NoNewPrivs:.1$" /proc/1/status
for place in / /etc /usr/local/bin /models; do touch "$place/probe" 2>/dev/null && echo "wrote to $place"; done
touch /tmp/probe && echo tmp
find / -xdev -perm /6000 -type f 2>/dev/null
true'
look_at_rights() {
    local service id
    for service in "$@"; do
        id=$(container "$service")
        check "$service has a read-only root" is "$(docker inspect -f '{{.HostConfig.ReadonlyRootfs}}' "$id")" true
        # User and group; five empty sets of capabilities; no new privileges; nothing written but /tmp; nothing setuid.
        check "$service has no rights" is "$(docker exec "$id" sh -c "$probe" | xargs)" "10001 10001 5 1 tmp"
    done
}

look_at_ports() {
    local service
    for service in stage-image stage-sampler orchestrator; do
        check "$service publishes nothing" is "$(docker port "$(container "$service")")" ''
        check "$service is on the inner network only" is "$(networks_of "$service")" "${COMPOSE_PROJECT_NAME}_inside"
    done
    check "the inner network leads nowhere" is "$(docker network inspect -f '{{.Internal}}' "${COMPOSE_PROJECT_NAME}_inside")" true
    check "the gateway is published on loopback only" is \
        "$(docker port "$(container gateway)" | sed 's/.*-> //' | sort | xargs)" \
        "127.0.0.1:${UI_PORT:-8080} 127.0.0.1:${GATEWAY_PORT:-8084}"
}
networks_of() { docker inspect -f '{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}' "$(container "$1")" | xargs; }

look_at_logs() {
    local service file
    for service in "${services[@]}"; do
        file=$LOG_DIR/$service/$service.log
        check "$file holds lines" [ -s "$file" ]
        check "$file holds JSON only" jq -e . "$file" >/dev/null
        check "$file belongs to the service" is "$(stat -c %u "$file")" 10001
    done
}

step "engine and base image"
apt_packages curl jq
need_engine
need_debian_image trixie

step "images"
compose build --quiet
docker images --format '{{.Repository}}:{{.Tag}} {{.Size}}' | grep ":$IMAGE_TAG "

step "start"
docker compose up --detach --wait --wait-timeout 180 >/dev/null 2>&1
for service in "${services[@]}"; do check "$service is healthy" healthy "$service"; done
check "the page is there" grep -q 'id="app"\|<canvas\|<script' <(curl -fsS "$page/")
check "edge does not run unasked" is "$(container edge)" ''

step "users, rights, ports"
look_at_rights "${services[@]}"
look_at_ports

step "a picture through port ${UI_PORT:-8080}"
began=$(date +%s%N)
job=$(workflow "a red circle on a blue background" 1 20 | submit "$page")
picture "$page" "$job" "$folder/circle.png"
# Long enough to be disturbed, on a fast machine too; on a slow one no longer than needed.
took_ms=$((($(date +%s%N) - began) / 1000000))
steps=$((20 * 8000 / took_ms)) steps=$((steps < 10 ? 10 : steps > 1000 ? 1000 : steps))
say "20 steps in $took_ms ms: the runs to disturb have $steps"
check "the picture is a PNG of 64x64" is "$(od -An -tx1 -j1 -N23 "$folder/circle.png" | tr -d ' \n')" \
    504e470d0a1a0a0000000d494844520000004000000040
look_at_logs

step "kill every container during a run"
seed=100
for service in "${services[@]}"; do
    seed=$((seed + 1))
    job=$(workflow "a yellow star on a purple background" $seed "$steps" | submit "$page")
    sampling "$job"
    began=$SECONDS
    docker kill --signal KILL "$(container "$service")" >/dev/null
    docker start "$(container "$service")" >/dev/null
    check "$service recovers" healthy "$service"
    picture "$page" "$job" "$folder/killed-$seed.png"
    check "one end of the job during which $service was killed" is "$(ends_of "$job")" 1
    say "$service killed at work: one end, $((SECONDS - began)) s to the picture"
done

step "a crash, and Docker's own restart"
seed=$((seed + 1))
job=$(workflow "a yellow star on a purple background" $seed "$steps" | submit "$page")
sampling "$job"
as_root kill -9 "$(docker inspect -f '{{.State.Pid}}' "$(container stage-sampler)")"
picture "$page" "$job" "$folder/killed-$seed.png"
check "Docker restarted the sampler" is "$(docker inspect -f '{{.RestartCount}}' "$(container stage-sampler)")" 1
check "one end of the job" is "$(ends_of "$job")" 1
check "every job saved one picture" is "$(docker exec "$(container gateway)" sh -c 'ls /files/output/*.png | wc -l')" $((seed - 99))

step "down, and up again with what was there"
docker compose down --timeout 5 >/dev/null 2>&1
docker compose up --detach --wait --wait-timeout 180 >/dev/null 2>&1
check "the last job is remembered" is "$(status "$page" "$job")" completed
picture "$page" "$job" "$folder/again.png"
check "its picture too" cmp "$folder/again.png" "$folder/killed-$seed.png"
compose down --volumes --timeout 5 >/dev/null 2>&1

step "an empty stack with TLS and ComfyUI's own page"
if package_index_answers; then
    COMFYUI_FRONTEND_DIR=$folder/comfyui-frontend scripts/sync_comfyui_frontend.sh --no-templates
    export UI=comfyui COMFYUI_FRONTEND_DIR=$folder/comfyui-frontend
else
    say "the Python package index does not answer: ComfyUI's own page is not tested"
fi
compose up --detach --wait --wait-timeout 180 >/dev/null 2>&1
if [ "${UI:-}" = comfyui ]; then
    check "ComfyUI's page is served" cmp "$COMFYUI_FRONTEND_DIR/index.html" <(curl -fsSk "$edge/")
fi
look_at_rights edge
check "the edge is published on loopback only" is "$(docker port "$(container edge)" | sed 's/.*-> //')" "127.0.0.1:${EDGE_PORT:-8443}"
for number in $(seq 101 "$seed"); do
    job=$(workflow "a yellow star on a purple background" "$number" "$steps" | submit "$edge")
    picture "$edge" "$job" "$folder/calm-$number.png"
    check "the undisturbed picture $number is the same" cmp "$folder/calm-$number.png" "$folder/killed-$number.png"
done
check "a request of another site is refused" is \
    "$(curl -sk -o /dev/null -w '%{http_code}' -H 'Origin: https://elsewhere.example' "$edge/v1/jobs")" 403
check "a request of its own page is not" is \
    "$(curl -sk -o /dev/null -w '%{http_code}' -H "Origin: $edge" "$edge/v1/jobs")" 200
check "a WebSocket opens through the edge" is "$(curl -sk --http1.1 --max-time 2 -o /dev/null -w '%{http_code}' \
    -H 'Connection: Upgrade' -H 'Upgrade: websocket' -H 'Sec-WebSocket-Version: 13' \
    -H 'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==' "$edge/ws")" 101
check "the edge writes its log" grep -q 'POST /v1/workflows' "$LOG_DIR/nginx/access.log"

step "tear down"

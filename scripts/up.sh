#!/usr/bin/env bash
# Runs the stack on this machine without containers.
#
#   scripts/up.sh            build what is missing, start what does not run, wait until it answers
#   scripts/up.sh stop       end the services
#   scripts/up.sh status     say which run
#
# Ports, folders and models come from the environment variables that README.md lists. Process ids are kept in .run/,
# logs in .log/<service>/.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/lib.sh
source scripts/lib.sh

run_dir=${RUN_DIR:-.run}
export LOG_DIR=${LOG_DIR:-.log}
checkpoints=${CHECKPOINTS_DIR:-${MODELS_DIR:-models}/checkpoints}
gateway=${GATEWAY_ADDR:-127.0.0.1:8084}
page=${UI_ADDR:-127.0.0.1:8080}
target=${CARGO_TARGET_DIR:-target}/release

pid_of() {
    local pid
    pid=$(cat "$run_dir/$1.pid" 2>/dev/null) && kill -0 "$pid" 2>/dev/null && echo "$pid"
}

stop_all() {
    local service pid
    # Callers first, so that nobody talks to a service that is going away.
    for service in gateway orchestrator stage-sampler stage-image; do
        pid=$(pid_of "$service") || continue
        kill "$pid" 2>/dev/null || true
        for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
        kill -9 "$pid" 2>/dev/null || true
        rm -f "$run_dir/$service.pid"
        say "stopped $service"
    done
}

start_one() {
    local service=$1 pid
    if pid=$(pid_of "$service"); then
        say "$service runs already (process $pid)"
        return
    fi
    mkdir -p "$LOG_DIR/$service" "$run_dir"
    setsid nohup "$target/$service" </dev/null >>"$LOG_DIR/$service/stdout.log" 2>&1 &
    echo $! >"$run_dir/$service.pid"
}

wait_until_ready() {
    local service
    for _ in $(seq 600); do
        curl -fsS -o /dev/null "http://$gateway/readyz" 2>/dev/null && return
        for service in "${services[@]}"; do
            pid_of "$service" >/dev/null || { tail -n 20 "$LOG_DIR/$service/stdout.log" >&2; die "$service ended, see above"; }
        done
        sleep 0.1
    done
    die "the stack did not become ready within a minute, see $LOG_DIR/"
}

has_checkpoint() {
    find -L "$checkpoints" -type f \( -name '*.safetensors' -o -name '*.sft' -o -name '*.ckpt' -o -name '*.pt' -o -name '*.pth' -o -name '*.bin' \) 2>/dev/null | grep -q .
}

start_all() {
    need_build_tools
    cargo build --release --locked --bins
    [ -n "${UI_DIR:-}" ] || build_ui
    has_checkpoint || say "there is no checkpoint in $checkpoints: put a Stable Diffusion file there to draw"
    local service
    for service in "${services[@]}"; do start_one "$service"; done
    wait_until_ready
    say "ready: page http://$page, API http://$gateway"
}

case ${1:-start} in
    start) start_all ;;
    stop) stop_all ;;
    status) for service in "${services[@]}"; do echo "$service: $(pid_of "$service" || echo stopped)"; done ;;
    *) die "unknown command \`$1\`, expected start, stop or status" ;;
esac

# Shared by the scripts: where things are, and how to get what is missing. Source it, do not run it.
# shellcheck shell=bash

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly repo
services=(stage-image stage-sampler orchestrator gateway)

say() { echo "$(basename "$0"): $*" >&2; }
die() { say "$*"; exit 1; }

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

# Installs the packages that are not there yet. Does nothing, and needs no rights, when all are.
apt_packages() {
    local missing=() package
    for package in "$@"; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return
    command -v apt-get >/dev/null || die "install these packages first: ${missing[*]}"
    say "installing ${missing[*]}"
    as_root apt-get update -q >&2
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" >&2
}

# Whether packages of Python can be had here.
package_index_answers() {
    local folder answer=0
    command -v python3 >/dev/null || apt_packages python3
    python3 -m pip --version >/dev/null 2>&1 || apt_packages python3-pip
    folder=$(mktemp -d)
    timeout 120 python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$folder" \
        comfy-api-simplified==1.6.0 >/dev/null 2>&1 || answer=1
    rm -rf "$folder"
    return "$answer"
}

# Makes FOLDER/venv with the packages of REQUIREMENTS, unless they are there already.
python_tool() {
    local folder=$1 requirements=$2
    cmp -s "$requirements" "$folder/installed" && return
    need_python_venv
    rm -rf "$folder"
    mkdir -p "$folder"
    say "installing $(paste -sd ' ' "$requirements")"
    python3 -m venv "$folder/venv"
    "$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$requirements"
    cp "$requirements" "$folder/installed"
}

need_python_venv() {
    command -v python3 >/dev/null || apt_packages python3
    python3 -m venv --help >/dev/null 2>&1 && python3 -c 'import ensurepip' 2>/dev/null || apt_packages python3-venv
}

# ComfyUI's packages of templates in pinned versions, in the target folder. Sets template_packages.
template_packages=()
need_templates() {
    local templates=${CARGO_TARGET_DIR:-target}/comfyui-templates
    fetch_templates "$templates" comfyui-workflow-templates 0.1.95 \
        89e20f310f7e7c323d5fe69af895cdb9053d05442404f45e121773cdec95af8a
    fetch_templates "$templates" comfyui-workflow-templates-json 0.1.123 \
        fc321960cfc4f52dddc3ee111f33489b167eb7958028eb5b6a7f3fa8865a385e
    template_packages=("$templates"/comfyui-workflow-templates{,-json})
}

fetch_templates() {
    local templates=$1 name=$2 version=$3 hash=$4 download
    [ -d "$templates/$name" ] && return
    download=$(mktemp -d)
    echo "$name==$version --hash=sha256:$hash" >"$download/requirements.txt"
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
        --dest "$download" -r "$download/requirements.txt"
    python3 -m zipfile -e "$download/${name//-/_}-$version"-*.whl "$download/$name"
    mkdir -p "$templates"
    mv "$download/$name" "$templates/$name"
    rm -rf "$download"
}

need_rust() {
    [ -d "$HOME/.cargo/bin" ] && PATH="$HOME/.cargo/bin:$PATH"
    if ! command -v cargo >/dev/null && apt-cache show rustup >/dev/null 2>&1; then
        apt_packages rustup
        rustup default stable
    fi
    command -v cargo >/dev/null || die "Rust is not installed; get version 1.90 or newer from https://rustup.rs"
}

need_node() {
    command -v node >/dev/null || apt_packages nodejs npm
    local major
    major=$(node --version | sed 's/^v\([0-9]*\).*/\1/')
    [ "$major" -ge 20 ] || die "Node.js 20 or newer is needed to build the page, this is $(node --version)"
}

# Everything a build needs: compiler, Rust, ImageMagick 7 and its environment.
need_build_tools() {
    apt_packages build-essential pkg-config libclang-dev curl ca-certificates
    need_rust
    "$repo/scripts/install_imagemagick.sh"
    # shellcheck disable=SC1090
    source <("$repo/scripts/install_imagemagick.sh" --print-env)
}

# Builds the page into ui/dist.
build_ui() {
    need_node
    (cd "$repo/ui" && npm ci --no-audit --no-fund --loglevel=error && npm run --silent build)
}

# Starts the four services of the debug build with all their folders in FOLDER, and the starter checkpoint. PREFIX stands
# before the usual ports. Sets stack_api and stack_page; stop_stack ends what was started.
stack_pids=()
start_stack() {
    local folder=$1 prefix=$2 target=${CARGO_TARGET_DIR:-target}/debug service
    source <(scripts/install_imagemagick.sh --print-env)
    export UI_ADDR=127.0.0.1:${prefix}8080 GATEWAY_ADDR=127.0.0.1:${prefix}8084
    export ORCHESTRATOR_ADDR=127.0.0.1:${prefix}9090
    export STAGE_SAMPLER_ADDR=127.0.0.1:${prefix}9091 STAGE_IMAGE_ADDR=127.0.0.1:${prefix}9092
    export MODELS_DIR=$folder/models DATA_DIR=$folder/data ARTIFACTS_ROOT=$folder/artifacts INPUT_DIR=$folder/input
    export OUTPUT_DIR=$folder/output TEMP_DIR=$folder/temp USER_DIR=$folder/user LOG_DIR=$folder/log
    mkdir -p "$MODELS_DIR/checkpoints"
    cp models/checkpoints/starter.safetensors "$MODELS_DIR/checkpoints/"
    for service in "${services[@]}"; do
        "$target/$service" </dev/null >"$folder/$service.out" 2>&1 &
        stack_pids+=($!)
    done
    stack_api=http://$GATEWAY_ADDR stack_page=http://$UI_ADDR
    for _ in $(seq 600); do
        curl -fsS -o /dev/null "$stack_api/readyz" 2>/dev/null && return
        sleep 0.1
    done
    cat "$folder"/*.out
    die "the stack did not become ready"
}

stop_stack() {
    [ ${#stack_pids[@]} -eq 0 ] || kill "${stack_pids[@]}" 2>/dev/null || true
    wait 2>/dev/null || true
    stack_pids=()
}

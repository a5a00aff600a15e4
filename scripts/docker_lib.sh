# A Docker engine where none runs, and base images where none can be pulled. Source it after lib.sh, do not run it.
# shellcheck shell=bash

engine_dir=${DOCKER_TEST_DIR:-/var/tmp/comfy-services-docker}
made_images=()

# Whether the engine is one that `need_engine` started, now or in an earlier run.
own_engine() {
    local pid
    pid=$(cat "$engine_dir/dockerd.pid" 2>/dev/null) && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = dockerd ]
}

# Engine, compose v2 and buildx from the system's packages. Debian 12 has no compose v2: there these three come from
# Debian 13, through lists of their own, so that the system's stay as they are.
install_engine() {
    local plugin
    command -v apt-get >/dev/null || die "install Docker with compose v2 first: this is not Debian or Ubuntu"
    as_root apt-get update -q >&2
    apt_packages iptables containerd runc tini
    for plugin in docker-compose-v2 docker-compose; do
        [[ $(apt-cache policy "$plugin" | sed -n 's/ *Candidate: *//p') == 2.* ]] || continue
        apt_packages docker.io docker-buildx "$plugin"
        return
    done
    # shellcheck disable=SC1091
    [ "$(. /etc/os-release && echo "${VERSION_CODENAME:-}")" = bookworm ] || die "install Docker with compose v2 first"
    local apt=$engine_dir/apt
    as_root mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/debs"
    as_root tee "$apt/sources.list" >/dev/null <<EOF
deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $(debian_mirror) trixie main
EOF
    as_root tee "$apt/apt.conf" >/dev/null <<EOF
Dir::Etc::sourcelist "$apt/sources.list";
Dir::Etc::sourceparts "-";
Dir::State::lists "$apt/lists";
Dir::Cache "$apt/cache";
Acquire::Languages "none";
APT::Sandbox::User "root";
EOF
    as_root env APT_CONFIG="$apt/apt.conf" apt-get update -q >&2
    as_root sh -c "cd '$apt/debs' && APT_CONFIG='$apt/apt.conf' apt-get download -q docker.io docker-compose docker-buildx" >&2
    as_root sh -c "DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends '$apt'/debs/*.deb" >&2
}

# The Debian mirror that this machine uses.
debian_mirror() {
    local mirror
    mirror=$(grep -hoE 'https?://[^ ]+/debian/?( |$)' /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | head -n 1)
    mirror=${mirror% }
    echo "${mirror:-http://deb.debian.org/debian}"
}

# Has an engine running: the one that runs already, else one of our own with its data in a folder of its own.
need_engine() {
    docker info >/dev/null 2>&1 || start_engine
    docker compose version --short 2>/dev/null | grep -qE '^v?2\.' || die "docker compose v2 is not installed"
}

start_engine() {
    command -v dockerd >/dev/null && docker compose version >/dev/null 2>&1 || install_engine
    as_root mkdir -p "$engine_dir"
    # What the engine changes on the host and does not put back.
    as_root sh -c "cat /proc/sys/net/ipv4/ip_forward >'$engine_dir/ip_forward'; iptables -S FORWARD | head -n 1 >'$engine_dir/forward'"
    as_root sh -c "nohup dockerd --data-root='$engine_dir/data' --storage-driver=overlay2 >'$engine_dir/dockerd.log' 2>&1 & echo \$! >'$engine_dir/dockerd.pid'"
    for _ in $(seq 120); do
        docker info >/dev/null 2>&1 && return
        own_engine || break
        sleep 0.5
    done
    as_root tail -n 20 "$engine_dir/dockerd.log" >&2
    die "the Docker engine did not start"
}

# Ends the engine that `start_engine` started, and puts back what it changed on the host.
stop_engine() {
    local pid table link
    pid=$(cat "$engine_dir/dockerd.pid")
    as_root kill "$pid"
    for _ in $(seq 120); do own_engine || break; sleep 0.5; done
    ! own_engine || die "the Docker engine (process $pid) does not end"
    as_root sh -c 'umount /run/docker/netns/* 2>/dev/null || true'
    for table in nat filter; do
        as_root iptables-save -t "$table" | grep -vE 'DOCKER|docker0|br-[0-9a-f]{12}' | as_root iptables-restore -T "$table"
    done
    # shellcheck disable=SC2046
    as_root iptables $(cat "$engine_dir/forward")
    as_root sh -c "cat '$engine_dir/ip_forward' >/proc/sys/net/ipv4/ip_forward"
    link=$(ip -br link show docker0 2>/dev/null | cut -d' ' -f1)
    [ -z "$link" ] || as_root ip link del docker0
    as_root rm -rf "$engine_dir"
}

# Has a base image: pulled, or else made from Debian's packages. Authorities that this machine trusts besides the usual
# ones go into a made image, or nothing could be fetched from inside where a proxy opens TLS; it never leaves the machine.
need_debian_image() {
    local suite=$1 image=debian:$1-slim
    docker image inspect "$image" >/dev/null 2>&1 && return
    if timeout 120 docker pull -q "$image" >/dev/null 2>&1; then return; fi
    say "$image cannot be pulled: making it from Debian's packages"
    apt_packages mmdebstrap
    # shellcheck disable=SC2016
    as_root mmdebstrap --quiet --variant=minbase \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        --customize-hook='mkdir -p "$1/usr/local/share/ca-certificates"; cp /usr/local/share/ca-certificates/*.crt "$1/usr/local/share/ca-certificates/" 2>/dev/null || true' \
        "$suite" - "$(debian_mirror)" |
        docker import -c 'CMD ["bash"]' -c 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' - "$image" >/dev/null
    made_images+=("$image")
}

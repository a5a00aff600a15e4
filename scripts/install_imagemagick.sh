#!/usr/bin/env bash
# Makes ImageMagick 7 (>= 7.1.1) available to comfy-imaging, whose binding needs its headers and shared library.
#
#   scripts/install_imagemagick.sh [PREFIX]              install if it is missing; safe to run again
#   scripts/install_imagemagick.sh --print-env [PREFIX]  print the `export` lines a build or a run needs
#   source <(scripts/install_imagemagick.sh --print-env)
#
# PREFIX defaults to $IMAGEMAGICK_PREFIX, else ~/.local/share/comfy-services/imagemagick-7.
# Where the distribution carries version 7 its package is used. Debian 12 only has version 6: there the source
# archive of Debian 13's package is fetched through a private apt configuration (checked by apt's signatures, the
# machine's own sources untouched) and a small library is built: PNG, JPEG and WebP, no delegates, no modules.
# That build lacks the fixes Debian adds later: it is for development and CI, containers use the package.
# IMAGEMAGICK_MIRROR names a Debian mirror where apt's own sources have none.
set -euo pipefail

readonly minimum=7.1.1
readonly source_suite=trixie
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly repo policy="$repo/docker/imagemagick-policy.xml"

say() { echo "install_imagemagick: $*" >&2; }
die() { say "$*"; exit 1; }

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

apt_install() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" >&2
}

has_system_imagemagick() {
    command -v pkg-config >/dev/null && pkg-config --atleast-version="$minimum" MagickWand 2>/dev/null
}

# The marker is written last, so a build that was interrupted is not taken for a finished one.
has_built_imagemagick() { [ -f "$prefix/.complete" ]; }

print_env() {
    if has_built_imagemagick; then
        echo "export PKG_CONFIG_PATH=\"$prefix/lib/pkgconfig\${PKG_CONFIG_PATH:+:\$PKG_CONFIG_PATH}\""
        echo "export PATH=\"$prefix/bin:\$PATH\""
        echo "export LD_LIBRARY_PATH=\"$prefix/lib\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}\""
    elif ! has_system_imagemagick; then
        die "ImageMagick >= $minimum is not installed; run scripts/install_imagemagick.sh first"
    fi
    echo "export MAGICK_CONFIGURE_PATH=\"$prefix/etc/ImageMagick-7\""
}

install_policy() {
    mkdir -p "$prefix/etc/ImageMagick-7"
    cp "$policy" "$prefix/etc/ImageMagick-7/policy.xml"
}

# Prints the machine's main Debian archive, in whichever format its sources are written.
debian_mirror() {
    if [ -n "${IMAGEMAGICK_MIRROR:-}" ]; then echo "$IMAGEMAGICK_MIRROR"; return; fi
    . /etc/os-release
    [ "${ID:-}" = debian ] || return 1
    # The whole list is read before the first line is taken: a closed pipe would fail under pipefail.
    apt-get indextargets --format '$(CODENAME) $(COMPONENT) $(REPO_URI)' \
        | awk -v suite="$VERSION_CODENAME" '$1 == suite && $2 == "main" && !found { print $3; found = 1 }'
}

fetch_source() {
    local work=$1 mirror
    mirror=$(debian_mirror) || true
    [ -n "$mirror" ] || die "no Debian mirror in apt's sources; name one in IMAGEMAGICK_MIRROR"
    mkdir -p "$work/apt/lists/partial" "$work/apt/cache/archives/partial" "$work/source"
    echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $source_suite main" \
        >"$work/apt/sources.list"
    cat >"$work/apt/apt.conf" <<CONF
Dir::Etc::sourcelist "$work/apt/sources.list";
Dir::Etc::sourceparts "-";
Dir::State::lists "$work/apt/lists";
Dir::Cache "$work/apt/cache";
Acquire::Languages "none";
APT::Sandbox::User "";
CONF
    (
        cd "$work/source"
        export APT_CONFIG="$work/apt/apt.conf"
        apt-get update -q >&2
        apt-get source -q --download-only --tar-only imagemagick >&2
    )
}

build_from_source() {
    say "installing the build's packages"
    apt_install build-essential pkg-config xz-utils libclang-dev libpng-dev libjpeg62-turbo-dev libwebp-dev \
        liblcms2-dev libfreetype-dev zlib1g-dev
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT  # `work` is global: the trap runs after this function has returned
    say "fetching the source"
    fetch_source "$work"
    mkdir "$work/tree"
    tar -xf "$work"/source/imagemagick_*.orig.tar.* -C "$work/tree" --strip-components=1
    say "building into $prefix (a few minutes)"
    mkdir -p "$prefix"
    (
        cd "$work/tree"
        ./configure --prefix="$prefix" --sysconfdir="$prefix/etc" --quiet \
            --enable-shared --disable-static --disable-docs \
            --with-quantum-depth=16 --disable-hdri --disable-openmp --disable-opencl --without-modules \
            --without-x --without-perl --without-magick-plus-plus --without-gslib --without-gvc \
            --without-bzlib --without-djvu --without-dps --without-fftw --without-flif --without-fontconfig \
            --without-fpx --without-heic --without-jbig --without-jxl --without-dmr --without-lqr --without-lzma \
            --without-openexr --without-openjp2 --without-pango --without-raqm --without-raw --without-rsvg \
            --without-tiff --without-wmf --without-xml --without-zip --without-zstd --without-uhdr \
            --with-png --with-jpeg --with-webp --with-lcms --with-freetype --with-zlib
        make -s -j"$(nproc)"
        make -s install
    ) >"$prefix/build.log" 2>&1 || { tail -30 "$prefix/build.log" >&2; die "the build failed; see $prefix/build.log"; }
}

install() {
    if has_built_imagemagick; then
        install_policy
        say "ImageMagick is already built in $prefix; nothing to do"
    elif has_system_imagemagick; then
        install_policy
        say "pkg-config finds MagickWand $(pkg-config --modversion MagickWand); nothing to do"
    elif apt-cache show libmagickwand-7.q16-dev >/dev/null 2>&1; then
        apt_install pkg-config libclang-dev libmagickwand-7.q16-dev
        install_policy
    else
        build_from_source
        install_policy
        touch "$prefix/.complete"
        say "built ImageMagick $(PKG_CONFIG_PATH=$prefix/lib/pkgconfig pkg-config --modversion MagickWand) in $prefix"
    fi
}

action=install
if [ "${1:-}" = --print-env ]; then action=print_env; shift; fi
case "${1:-}" in -*) die "unknown option \`$1\`; the only option is \`--print-env\`" ;; esac
prefix=${1:-${IMAGEMAGICK_PREFIX:-$HOME/.local/share/comfy-services/imagemagick-7}}
[[ $prefix = /* ]] || prefix="$PWD/$prefix"
"$action"

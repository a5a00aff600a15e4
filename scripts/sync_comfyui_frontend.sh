#!/usr/bin/env bash
# Installs ComfyUI's own page, which the gateway serves with UI=comfyui.
#
#   scripts/sync_comfyui_frontend.sh                  the package comfyui-frontend-package, in the pinned version
#   scripts/sync_comfyui_frontend.sh PATH             from a ComfyUI checkout, a built page or a downloaded package
#
#   --version X       another version of the package
#   --sha256 HEX      its checksum, for versions that this script does not know
#   --previews        the pictures of the template browser too (hundreds of MB)
#   --no-templates    without the template browser's workflows
#
# A checkout gives the page it holds (`web/`, or the package in its virtual environment); else the package in the
# version that its requirements name is downloaded. The page goes to COMFYUI_FRONTEND_DIR (data/comfyui-frontend).
# It is GPL-3.0, so it is downloaded by whoever wants it and is not part of this project.
set -euo pipefail
invoked_from=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/lib.sh
source scripts/lib.sh

readonly page_package=comfyui-frontend-package
readonly pinned=1.58.1

# What this project is tested with: package, version, SHA-256 of the wheel.
known_checksum() {
    case $1==$2 in
        comfyui-frontend-package==1.27.10) echo 822b2ef715771ec83ad19605d02e25b069991d366b81ccc550ab280ae9c831b8 ;;
        comfyui-frontend-package==1.58.1) echo 37912597537a731a8f421179618a736c24184c5bdbfa327f38b2fb7c291852d9 ;;
        comfyui-workflow-templates==0.1.95) echo 89e20f310f7e7c323d5fe69af895cdb9053d05442404f45e121773cdec95af8a ;;
        comfyui-workflow-templates-json==0.1.123) echo fc321960cfc4f52dddc3ee111f33489b167eb7958028eb5b6a7f3fa8865a385e ;;
        comfyui-workflow-templates-media-api==0.3.84) echo c2d6a5999ac39e4f37f47ae231c92557defe5addb2cc6ab5c11410b4d5a2910a ;;
        comfyui-workflow-templates-media-video==0.3.101) echo 6270fd61c8c3931b6f0031abac7d4c90ced624de6c7918bff85b89e6c3d7493c ;;
        comfyui-workflow-templates-media-image==0.3.160) echo d4a5c5541c7088f6adb1c7da41f5d7c1c14a037eda6a61cd8b4b76c251faaa93 ;;
        comfyui-workflow-templates-media-other==0.3.229) echo ce3d98fa9d84b914c335fe5c9bc903cfefbe1932b1bc3cb6baef7f371b4bd435 ;;
        comfyui-workflow-templates-media-assets-01==0.1.48) echo 7733ed12867e95e6b8b39be20bcc73579c28e97e5a44086ffb977cc2c1c78c43 ;;
        comfyui-workflow-templates-media-assets-02==0.1.24) echo ddc94f46da4987ec6e9a4ced6007eaaca126899beea6242ece786e49cd14b065 ;;
    esac
}

source_path='' version='' checksum='' previews=no templates=yes
while [ $# -gt 0 ]; do
    case $1 in
        --version) version=${2:?--version needs a value}; shift ;;
        --sha256) checksum=${2:?--sha256 needs a value}; shift ;;
        --previews) previews=yes ;;
        --no-templates) templates=no ;;
        -h | --help) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; exit ;;
        -*) die "unknown option \`$1\`, see --help" ;;
        *)
            [ -z "$source_path" ] || die "one PATH at most, see --help"
            source_path=$(cd "$invoked_from" && realpath -e -- "$1") || die "\`$1\` does not exist"
            ;;
    esac
    shift
done
[ -z "$source_path" ] || [ -z "$version" ] || die "a PATH says which version it is: leave --version out"

destination=${COMFYUI_FRONTEND_DIR:-data/comfyui-frontend}
mkdir -p "$(dirname "$destination")"
work=$(mktemp -d "$(dirname "$destination")/.comfyui-frontend.XXXXXX")
trap 'rm -rf "$work"' EXIT

need_python() {
    command -v python3 >/dev/null || apt_packages python3
    python3 -m pip --version >/dev/null 2>&1 || apt_packages python3-pip
}

# Downloads a wheel from the package index that pip is set up for, checks it, and unpacks it into a folder.
fetch_package() {
    local name=$1 wanted=$2 into=$3 sum=${4:-}
    [ -n "$sum" ] || sum=$(known_checksum "$name" "$wanted")
    [ -n "$sum" ] || die "no checksum is known for $name $wanted: give it with --sha256, or leave the version out for $pinned"
    need_python
    say "downloading $name $wanted"
    echo "$name==$wanted --hash=sha256:$sum" >"$work/requirements.txt"
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
        --dest "$work/wheels" -r "$work/requirements.txt" || die "could not get $name $wanted"
    unpack "$work/wheels/${name//-/_}-$wanted"-*.whl "$into"
}

# The zip reader of Python refuses names that lead out of the folder.
unpack() {
    need_python
    python3 -m zipfile -e "$1" "$2"
}

# Finds the page in what a person has: prints its folder, or the version that a checkout asks for.
find_page() {
    local candidate
    for candidate in "$1" "$1"/web "$1"/dist "$1"/static "$1"/comfyui_frontend_package/static \
        "$1"/{venv,.venv,env}/lib/python3*/site-packages/comfyui_frontend_package/static; do
        if [ -f "$candidate/index.html" ] && [ -d "$candidate/assets" ]; then
            echo "folder $candidate"
            return
        fi
    done
    candidate=$(sed -n "s/^$page_package==\([0-9][0-9.]*\).*/\1/p" "$1/requirements.txt" 2>/dev/null | head -n 1)
    [ -n "$candidate" ] || die "\`$1\` is neither a ComfyUI checkout nor a built page: no index.html, no $page_package in requirements.txt"
    echo "version $candidate"
}

page=$work/page
if [ -z "$source_path" ]; then
    version=${version:-$pinned}
elif [ -f "$source_path" ]; then
    [ -z "$checksum" ] || echo "$checksum  $source_path" | sha256sum --check --quiet || die "\`$source_path\` has another checksum"
    unpack "$source_path" "$work/package"
    source_path=$work/package
fi
if [ -n "$source_path" ]; then
    found=$(find_page "$source_path")
    case $found in
        folder\ *) say "copying ${found#folder }"; cp -rL "${found#folder }" "$page" ;;
        version\ *) version=${found#version } ;;
    esac
fi
if [ -n "$version" ]; then
    fetch_package "$page_package" "$version" "$work/package" "$checksum"
    mv "$work/package/comfyui_frontend_package/static" "$page"
fi
[ -f "$page/index.html" ] || die "the page has no index.html"

# The workflows that the page's template browser lists. Pages of the time of 0.1.95 expect that package's folders.
fetch_templates() {
    local part
    if [ "$version" = 1.27.10 ] && [ "$previews" = yes ]; then
        fetch_package comfyui-workflow-templates 0.1.95 "$work/templates"
    else
        fetch_package comfyui-workflow-templates-json 0.1.123 "$work/templates"
        [ "$previews" = no ] || for part in api==0.3.84 video==0.3.101 image==0.3.160 other==0.3.229 assets-01==0.1.48 assets-02==0.1.24; do
            fetch_package "comfyui-workflow-templates-media-${part%%==*}" "${part##*==}" "$work/templates"
        done
    fi
    mkdir -p "$page/templates"
    # Later packages add files to the same flat folder.
    find "$work/templates" -path '*/comfyui_workflow_templates*/templates/*' -type f -exec cp -t "$page/templates" {} +
}
[ "$templates" = no ] || [ -f "$page/templates/index.json" ] || fetch_templates

# The old page stays until the new one is complete.
rm -rf "$destination.old"
[ ! -e "$destination" ] || mv "$destination" "$destination.old"
mv "$page" "$destination"
rm -rf "$destination.old"
chmod -R a+rX "$destination"
say "installed${version:+ version $version} in $destination: start the gateway with UI=comfyui"

# SPDX-License-Identifier: BSD-3-Clause
# What ./run and ./test do first: install the Debian packages that are missing, and build. Sourced by both.

set -o pipefail
root=$(dirname "$(dirname "$(realpath "${BASH_SOURCE[0]}")")")
plugin=$root/build/nbdkit-python-plugin.so

# The system's own tools, whatever the caller's PATH prefers: the plugin embeds the system's Python.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin:$PATH

packages=(
    # to build
    g++ cmake ninja-build pkgconf python3 libpython3-dev pybind11-dev libgtest-dev nbdkit nbdkit-plugin-dev
    # clients to try; nbdinfo calls `file`
    libnbd-bin file qemu-utils e2fsprogs
)

# need PACKAGE…: install those that are missing; with none missing, this is one quick look at dpkg's records.
need() {
    local missing
    mapfile -t missing < <(comm -13 \
        <(dpkg-query --show --showformat='${db:Status-Status} ${Package}\n' "$@" 2>/dev/null |
            sed -n 's/^installed //p' | sort) <(printf '%s\n' "$@" | sort))
    if [ ${#missing[@]} -eq 0 ]; then
        return
    elif [ "$(id -u)" -ne 0 ]; then
        echo "Some packages are missing. To install them: sudo apt-get install ${missing[*]}" >&2
        exit 1
    fi
    echo "Installing ${missing[*]}" >&2
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq update >&2
    without_starting_services apt-get -qq install --yes --no-install-recommends "${missing[@]}" >&2
}

# unpack REGEX FOLDER: the newest package of such a name, in a folder instead of the system, where it would have services
# started at each boot. Nothing happens where Debian has none for this machine, or the folder is there.
unpack() {
    local name new=$2.new
    [ ! -e "$2" ] || return 0
    name=$(apt-cache search --names-only "$1" | sed 's/ .*//' | sort --version-sort | tail -n 1)
    [ "$name" ] || return 0
    echo "Unpacking $name in $2" >&2
    rm -rf "$new" && mkdir -p "$new"
    (cd "$new" && apt-get -qq download -o APT::Sandbox::User=root "$name" && dpkg -x ./*.deb . && rm ./*.deb) >&2
    mv "$new" "$2"
}

# without_starting_services COMMAND…: the tests start a web server of their own; none is wanted on port 80.
without_starting_services() {
    local policy=/usr/sbin/policy-rc.d status=0
    [ -e $policy ] && policy=''
    [ "$policy" ] && printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy
    "$@" || status=$?
    [ "$policy" ] && rm $policy
    return $status
}

# build PRESET: an incremental build, silent when there is nothing to do. Sets `folder`, where it is built.
build() {
    folder=$root/build-$1
    [ "$1" = dev ] && folder=$root/build
    if [ ! -e "$folder/build.ninja" ]; then
        echo "Building in $folder" >&2
        (cd "$root" && cmake --preset "$1") >&2
    fi
    cmake --build "$folder" -- --quiet | sed '/^ninja: no work to do\.$/d' >&2
}

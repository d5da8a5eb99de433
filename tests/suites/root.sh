# SPDX-License-Identifier: BSD-3-Clause
# Root folders of Debian suites. Sourced by those who want one; `root` is the project's folder.

# make_root SUITE FOLDER: a minimal system, with nothing installed in it.
make_root() {
    local suite=$1 folder=$2 mirror
    # This machine's own mirror, if it is a Debian.
    mirror=$(sed -nE 's/^(URIs: *|deb (\[[^]]*\] )?)(https?:[^ ]*debian\/?)( .*)?$/\3/p' /etc/apt/sources.list \
        /etc/apt/sources.list.d/* 2>/dev/null | head -n 1 || true)
    echo "Installing $suite in $folder" >&2
    mkdir -p "$folder"
    debootstrap --variant=minbase "$suite" "$folder" "${mirror:-http://deb.debian.org/debian}" >"$folder.log" ||
        { tail "$folder.log" >&2 && return 1; }
    # What the tests of networks ask for; and a mirror's lists of unstable may be some days old.
    echo '127.0.0.1 localhost' >"$folder/etc/hosts"
    echo 'Acquire::Check-Valid-Until "false";' >"$folder/etc/apt/apt.conf.d/90lists"
}

# in_root FOLDER COMMAND: a line for bash to run there, in a mount namespace of its own, whose mounts end with it.
in_root() {
    cp -L /etc/resolv.conf "$1/etc/resolv.conf"
    # shellcheck disable=SC2016
    unshare --mount bash -c '
        mount --bind /proc "$0/proc" && mount --rbind /dev "$0/dev" && mount --rbind /sys "$0/sys"
        exec chroot "$0" env --ignore-environment HOME=/root TERM=dumb LANG=C.UTF-8 \
            PATH=/usr/sbin:/usr/bin:/sbin:/bin bash -c "$1"
    ' "$1" "$2"
}

#!/bin/sh
# Gets what the VM checks need: QEMU, mmdebstrap and a few small tools, by apt. Says in one line what cannot be had.
# No apt configuration, package list or source of this machine is changed: where only backports fit (a qemu-utils from
# there refuses the release's own QEMU), the list of sources is a temporary one.
set -eu

missing() {
    for pair in qemu-system-x86_64:qemu-system-x86 qemu-img:qemu-utils mmdebstrap:mmdebstrap mke2fs:e2fsprogs \
        cpio:cpio setpriv:util-linux flock:util-linux; do
        command -v "${pair%%:*}" >/dev/null 2>&1 || printf ' %s' "${pair#*:}"
    done
    python3 -c 'import ensurepip, venv' >/dev/null 2>&1 || printf ' python3-venv'
    [ -e /usr/share/keyrings/debian-archive-trixie-stable.gpg ] || printf ' debian-archive-keyring'
}

apt() {
    DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends \
        -o DPkg::Lock::Timeout=600 --no-remove -o Dpkg::Use-Pty=0 "$@" </dev/null
}

# install_from_backports PACKAGE…: with sources and package lists of its own.
install_from_backports() {
    # shellcheck source=/dev/null
    release=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null |
        grep -v '^#' | grep -o 'https\?://[^ ]*/debian/\? *$\|https\?://[^ ]*/debian/\? ' | head -n 1 | tr -d ' ')
    mirror=${mirror:-http://deb.debian.org/debian}
    lists=$(mktemp -d)
    mkdir -p "$lists/lists/partial"
    chmod -R a+rX "$lists"
    key=signed-by=/usr/share/keyrings/debian-archive-keyring.gpg
    for suite in "$release" "$release-updates" "$release-backports"; do
        echo "deb [$key] $mirror $suite main"
    done >"$lists/sources.list"
    echo "deb [$key] http://deb.debian.org/debian-security $release-security main" >>"$lists/sources.list"
    set -- -o Dir::State::lists="$lists/lists" -o Dir::Etc::sourceparts=- \
        -o Dir::Etc::sourcelist="$lists/sources.list" -o APT::Sandbox::User=root -t "$release-backports" "$@"
    status=0
    { apt update -o Dir::State::lists="$lists/lists" -o Dir::Etc::sourceparts=- -o APT::Sandbox::User=root \
        -o Dir::Etc::sourcelist="$lists/sources.list" && apt install "$@"; } >&2 || status=$?
    rm -rf -- "$lists"
    return $status
}

packages=$(missing)
[ -n "$packages" ] || exit 0
if [ "$(uname -m)" != x86_64 ]; then
    echo "the guest is x86_64, this machine is $(uname -m)" && exit 1
fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "missing:$packages; install them with apt-get as root" && exit 1
fi
echo "installing$packages" >&2
# The names are words of their own: unquoted.
# shellcheck disable=SC2086
{ apt install $packages || { apt update && apt install $packages; } || install_from_backports $packages; } >&2 || {
    echo "apt-get cannot install:$packages; its output is above"
    exit 1
}
left=$(missing)
[ -z "$left" ] || { echo "still missing:$left" && exit 1; }

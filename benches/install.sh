#!/bin/sh
# Gets the tools that benches/supervisors.py compares with into the folder $1 (default .cache/peers). Debian's packages
# are unpacked there and not installed, so no package starts a daemon; s6 alone is installed, which has none. A tool
# that cannot be had leaves NAME.missing with the reason, the others NAME.version. Run again it does nothing.
set -u
pm2=7.0.4
circus=0.19.0

folder=${1:-$(dirname -- "$0")/../.cache/peers}
mkdir -p -- "$folder/log" && folder=$(cd -- "$folder" && pwd) || exit 1
# One at a time: two benches may begin at once.
exec 9>"$folder/.lock"
if command -v flock >/dev/null 2>&1; then flock 9; fi

# get NAME FUNCTION…: FUNCTION prints the version as its last line.
get() {
    name=$1
    shift
    [ ! -s "$folder/$name.version" ] || return 0
    rm -f -- "$folder/$name.missing"
    if "$@" >"$folder/log/$name.out" 2>"$folder/log/$name"; then
        tail -n 1 "$folder/log/$name.out" >"$folder/$name.version"
    else
        tail -n 1 "$folder/log/$name" >"$folder/$name.missing"
    fi
}

# debian PACKAGE…: unpacks them below root/; the version is the first one's.
debian() {
    command -v apt-get >/dev/null 2>&1 || { echo 'apt-get is missing, and this comes from Debian' >&2; return 1; }
    mkdir -p -- "$folder/deb/$1" "$folder/root" && cd -- "$folder/deb/$1" || return 1
    rm -f -- ./*.deb
    apt-get download "$@" || { apt-get update && apt-get download "$@"; } || return 1
    for package in ./*.deb; do
        dpkg-deb --extract "$package" "$folder/root" || return 1
    done
    dpkg-deb --field ./"$1"_*.deb Version
}

# It finds its own programs by their full paths, so it must really be installed. There is no daemon in this package.
debian_s6() {
    if ! command -v s6-svscan >/dev/null 2>&1; then
        [ "$(id -u)" = 0 ] || { echo 's6 is not installed, and only root can do so' >&2; return 1; }
        export DEBIAN_FRONTEND=noninteractive
        set -- apt-get install --yes --no-install-recommends s6
        "$@" || { apt-get update && "$@"; } || return 1
    fi
    dpkg-query --show --showformat '${Version}\n' s6
}

npm_pm2() {
    command -v npm >/dev/null 2>&1 || { echo 'npm is missing' >&2; return 1; }
    # Not `pm2 --version`: that starts a daemon.
    npm install --no-audit --no-fund --prefix "$folder/pm2" "pm2@$pm2" >&2 && echo "$pm2"
}

pip_circus() {
    command -v python3 >/dev/null 2>&1 || { echo 'python3 is missing' >&2; return 1; }
    python3 -m venv "$folder/circus" >&2 &&
        "$folder/circus/bin/pip" install --quiet "circus==$circus" >&2 && echo "$circus"
}

get supervisord debian supervisor python3-pkg-resources
get runit debian runit
get s6 debian_s6
get monit debian monit
get pm2 npm_pm2
get circus pip_circus
cd -- "$folder" || exit 1
for file in *.version *.missing; do
    [ ! -s "$file" ] || printf '%s: %s\n' "$file" "$(cat "$file")"
done

#!/bin/sh
# Parses every Nix file: `tools/nix-parse.sh FOLDER`. Without a Nix one is unpacked into FOLDER from Debian's packages; nothing
# is installed, since a Nix in PATH would be taken for one that can build. Exit 3, with the reason, if there is none.
set -eu
cd -- "$(dirname -- "$0")/.."
folder=$1

# The packages that `apt-get install nix-bin` would bring, but for Perl's, which only its scripts for a build take.
unpack() {
    command -v apt-get >/dev/null 2>&1 || return 1
    mkdir -p -- "$folder/debs" || return 1
    (
        cd -- "$folder/debs"
        names=$(apt-get -s --no-install-recommends install nix-bin | sed -n 's/^Inst \([^ ]*\) .*/\1/p' | grep -v perl)
        # The names are words of their own: unquoted.
        # shellcheck disable=SC2086
        apt-get -qq download $names
        for package in *.deb; do dpkg -x "$package" ..; done
    ) || return 1
    [ -x "$folder/usr/bin/nix-instantiate" ]
}

if ! command -v nix-instantiate >/dev/null 2>&1; then
    [ -x "$folder/usr/bin/nix-instantiate" ] || unpack >&2 || {
        echo 'cannot run here: there is no Nix, and apt-get cannot get nix-bin'
        exit 3
    }
    PATH=$folder/usr/bin:$PATH
    LD_LIBRARY_PATH=$(find "$folder/usr/lib" -name '*.so*' -exec dirname {} + | sort -u | tr '\n' ':')
    export PATH LD_LIBRARY_PATH
fi

files() { find . \( -name target -o -name .git -o -name .cache \) -prune -o -name '*.nix' "$@"; }
count=$(files -print | wc -l)
[ "$count" -gt 0 ] || { echo 'no Nix file was found' >&2 && exit 1; }
# A store that is nowhere: parsing needs none, and /nix is none of ours to make.
files -exec nix-instantiate --option store dummy:// --parse {} + >/dev/null
echo "$count files, with $(nix-instantiate --version)"

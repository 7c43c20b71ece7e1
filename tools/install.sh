#!/bin/sh
# Installs the supervisor and its systemd units on a machine that is not NixOS. Run again to upgrade: what is configured
# stays as it is, and running agents are not touched.
set -eu
umask 022
here=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)

usage() {
    cat <<'END'
usage: tools/install.sh [--prefix DIR] [--destdir DIR] [--binary FILE]

  --prefix DIR    where programs and units go [/usr/local]
  --destdir DIR   put in front of every path, to build a package [nothing]
  --binary FILE   the program [target/release/supervisor]

Only binaries, units, and the files that make the user `agent` and the folders are written; no config is.
END
}

fail() {
    printf 'install.sh: %s\n' "$1" >&2
    exit "${2:-1}"
}

prefix=/usr/local destdir='' binary=${CARGO_TARGET_DIR:-$here/target}/release/supervisor
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage && exit ;;
        --prefix | --destdir | --binary)
            [ $# -ge 2 ] || fail "$1 needs a value; see --help" 2
            case $1 in
                --prefix) prefix=$2 ;;
                --destdir) destdir=$2 ;;
                --binary) binary=$2 ;;
            esac
            shift 2
            ;;
        *) fail "unknown argument \`$1\`; see --help" 2 ;;
    esac
done
# It is written into the units, which know no other paths than whole ones.
case $prefix in
    /*[!a-zA-Z0-9/._-]* | [!/]* | '') fail "--prefix \`$prefix\`: give a whole path of letters, digits and ./_-" 2 ;;
esac
[ -f "$binary" ] || fail "\`$binary\` is not there; build it with \`cargo build --release\`, or give --binary"

# put MODE FILE TARGET: whole or not at all, also over a program that runs.
put() {
    mkdir -p -- "$destdir$(dirname -- "$3")" || fail "$destdir$3: its folder cannot be made; are you root?"
    temp=$destdir$3.new
    { cp -- "$2" "$temp" && chmod "$1" -- "$temp" && mv -f -- "$temp" "$destdir$3"; } || fail "$destdir$3 cannot be written"
    printf '%s\n' "$destdir$3"
}

work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
put 755 "$binary" "$prefix/bin/supervisor"
for unit in "$here"/modules/units/*.service; do
    name=$(basename -- "$unit")
    sed "s,@bindir@,$prefix/bin,g" "$unit" >"$work/$name"
    put 644 "$work/$name" "$prefix/lib/systemd/system/$name"
done
put 644 "$here/modules/sysusers.d/cc-ci-orchestrator.conf" "$prefix/lib/sysusers.d/cc-ci-orchestrator.conf"
put 644 "$here/modules/tmpfiles.d/cc-ci-orchestrator.conf" "$prefix/lib/tmpfiles.d/cc-ci-orchestrator.conf"

cat <<'END'

Next, as root:
  systemd-sysusers && systemd-tmpfiles --create    # the user `agent`, its home, /run/… and /var/lib/cc-ci-orchestrator
  systemctl daemon-reload
END
config=/etc/cc-ci-orchestrator/supervisor.toml
if [ -f "$destdir$config" ]; then
    cat <<'END'
  supervisor check
  systemctl restart cc-ci-orchestrator             # agents run on; sessions take new units at their next start
END
else
    cat <<'END'
  write /etc/cc-ci-orchestrator/supervisor.toml, with `host = "systemd"` (see docs/install.md)
  supervisor check
  systemctl enable --now cc-ci-session@LOOP        # for each loop
  systemctl enable --now cc-ci-orchestrator
END
fi
echo '  supervisor doctor'

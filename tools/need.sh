# Sourced by ./demo and ./check: gets the programs that they need, or says how to get them.
# shellcheck shell=sh

# Each argument is a program and the Debian package of the same name.
need() {
    missing=
    for program in "$@"; do
        command -v "$program" >/dev/null 2>&1 || missing="$missing $program"
    done
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "${0##*/}: installing$missing" >&2
        # The names are words of their own: unquoted.
        # shellcheck disable=SC2086
        { apt_get install $missing || { apt_get update && apt_get install $missing; }; } >&2 && return 0
    fi
    echo "${0##*/}: missing:$missing; install with \`sudo apt-get install$missing\`, or \`nix shell\` and the names" >&2
    return 1
}

# stdin is not apt's to read, and nobody may be there to answer.
apt_get() {
    verb=$1
    shift
    DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends "$verb" "$@" </dev/null
}

# unpacked DIR PROGRAM=PACKAGE…: puts those that are missing into DIR/bin, for tests that can do without them; never fails.
# Not installed, since Debian's packages of servers start them.
unpacked() {
    dir=$1
    shift
    for want in "$@"; do
        command -v "${want%%=*}" >/dev/null 2>&1 || [ -e "$dir/bin/${want%%=*}" ] && continue
        command -v apt-get >/dev/null 2>&1 || continue
        mkdir -p -- "$dir/bin" "$dir/${want#*=}" || continue
        (cd -- "$dir/${want#*=}" && apt-get -qq download "${want#*=}" && dpkg -x ./*.deb .) >/dev/null 2>&1 || continue
        # Debian's netcat is nc.openbsd, of which the installation makes nc.
        found=$(find "$dir/${want#*=}" -path '*bin/*' -type f -name "${want%%=*}*" | head -n 1)
        [ -z "$found" ] || cp -- "$found" "$dir/bin/${want%%=*}"
    done
    PATH=$PATH:$dir/bin
}

need_cargo() {
    # rustup's own place, which a shell that is not a login shell does not have in PATH.
    command -v cargo >/dev/null 2>&1 || PATH=$PATH:${CARGO_HOME:-${HOME:-/root}/.cargo}/bin
    if ! command -v cargo >/dev/null 2>&1; then
        echo "${0##*/}: cargo is missing; get Rust 1.85 or later from https://rustup.rs, with \`apt-get install cargo\`" \
            "on Debian 13, or use Nix" >&2
        return 1
    fi
    # Linking takes a C compiler's driver.
    command -v cc >/dev/null 2>&1 || need gcc
}

# Whether there is a Nix that can use this flake: new enough, and its locked inputs are here or within reach. It fetches them
# if it must; on a machine without a network it is soon told so.
nix_evaluates() {
    command -v nix >/dev/null 2>&1 && nix --extra-experimental-features 'nix-command flakes' --option connect-timeout 10 \
        --option download-attempts 1 eval --raw ".#packages.$(uname -m)-linux.default.drvPath" >/dev/null 2>&1 </dev/null
}

#!/bin/sh
# Evaluates every package, host, image, check and the template of the flake to its derivation, for each system, and builds
# nothing: `tools/nix-check.sh`. Then holds what the modules make against what the scenarios run on Debian, and the options'
# page against the options. NIXPKGS, CRANE and SOPS_NIX name folders to take instead of the locked inputs, which come from
# the network; PROGRAMS the folder of built programs to read the hosts' configs with.
set -eu
cd -- "$(dirname -- "$0")/.."
here=$(pwd)

nix() { command nix --extra-experimental-features 'nix-command flakes' "$@" --no-write-lock-file; }

# overrides PREFIX: the options that put the named folders in the place of inputs.
overrides() {
    for input in nixpkgs="${NIXPKGS-}" crane="${CRANE-}" sops-nix="${SOPS_NIX-}"; do
        folder=${input#*=}
        [ -z "$folder" ] || printf -- '--override-input %s path:%s ' "$1${input%%=*}" "$(realpath -- "$folder")"
    done
}

fail() {
    printf '%s\n' "$1" >&2
    exit 1
}

work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT

echo '== every output, of every system'
# The folders' names are words of their own: unquoted, as below.
# shellcheck disable=SC2046
nix flake check --no-build --all-systems $(overrides '')

echo '== the modules, right and wrong configurations'
# shellcheck disable=SC2016,SC2046
nix eval --json $(overrides '') .#lib --apply \
    'lib: { faults = lib.moduleFaults.x86_64-linux; page = lib.optionsDoc; rendered = lib.rendered; }' >"$work/all.json"
# part NAME: one of these; a text as it is.
part() {
    python3 -c 'import json, sys
part = json.load(open(sys.argv[1]))[sys.argv[2]]
sys.stdout.write(part if isinstance(part, str) else json.dumps(part))' "$work/all.json" "$1"
}
faults=$(part faults)
[ "$faults" = '[]' ] || fail "the modules: $faults"

echo '== the page of options'
part page | diff -u docs/nixos-options.md - ||
    fail 'write it anew: nix eval --raw .#lib.optionsDoc >docs/nixos-options.md'

echo '== units and configs, against those on Debian'
part rendered | tools/nix-compare.py ${PROGRAMS:+--programs "$PROGRAMS"}

echo '== a new host, from the template'
mkdir "$work/host"
(
    cd "$work/host"
    command nix --extra-experimental-features 'nix-command flakes' flake init -t "$here"
    # What `nixos-generate-config` writes on a machine.
    cat >hardware-configuration.nix <<'END'
{
  nixpkgs.hostPlatform = "x86_64-linux";
  fileSystems."/".device = "/dev/vda2";
  fileSystems."/".fsType = "ext4";
  fileSystems."/boot".device = "/dev/vda1";
  fileSystems."/boot".fsType = "vfat";
}
END
    # shellcheck disable=SC2046
    nix eval --raw --override-input cc-ci-orchestrator "$here" $(overrides cc-ci-orchestrator/) \
        "path:$work/host#nixosConfigurations.agents.config.system.build.toplevel.drvPath"
    echo
)

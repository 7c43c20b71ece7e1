#!/bin/sh
# Evaluates every package, host, image and check of the flake to its derivation, and builds nothing: `tools/nix-check.sh`.
# NIXPKGS, CRANE and SOPS_NIX name folders to take instead of the locked inputs, which come from the network.
set -eu
cd -- "$(dirname -- "$0")/.."

nix() { command nix --extra-experimental-features 'nix-command flakes' "$@"; }

set --
for input in nixpkgs=${NIXPKGS-} crane=${CRANE-} sops-nix=${SOPS_NIX-}; do
    folder=${input#*=}
    [ -z "$folder" ] || set -- "$@" --override-input "${input%%=*}" "path:$(realpath -- "$folder")"
done

# Of every system, hosts and images included; only what this machine could build goes on to its derivation.
nix flake check --no-build --all-systems --no-write-lock-file "$@"

faults=$(nix eval --json --no-write-lock-file "$@" '.#lib.moduleFaults.x86_64-linux')
[ "$faults" = '[]' ] || { printf 'the modules: %s\n' "$faults" >&2; exit 1; }

page=$(mktemp)
trap 'rm -f -- "$page"' EXIT
nix eval --raw --no-write-lock-file "$@" '.#lib.optionsDoc' >"$page"
diff -u docs/nixos-options.md "$page" || {
    echo 'write it anew: nix eval --raw .#lib.optionsDoc >docs/nixos-options.md' >&2
    exit 1
}

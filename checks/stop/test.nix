import ../nixos.nix ./.

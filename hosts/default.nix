# Every folder beside this file is a machine: `nixos-rebuild switch --flake .#FOLDER`.
{ inputs }:
let
  inherit (inputs.nixpkgs) lib;
  folders = lib.filterAttrs (_: type: type == "directory") (builtins.readDir ./.);
in
lib.mapAttrs (
  name: _:
  lib.nixosSystem {
    modules = [
      inputs.self.nixosModules.default
      inputs.sops-nix.nixosModules.sops
      { networking.hostName = name; }
      ./${name}
    ];
  }
) folders

{
  description = "Keeps long-running coding agents alive on a NixOS machine: a reboot is a non-event";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";
    crane.url = "github:ipetkov/crane";
    sops-nix = {
      url = "github:Mic92/sops-nix";
      inputs.nixpkgs.follows = "nixpkgs";
    };
  };

  outputs =
    {
      self,
      nixpkgs,
      crane,
      sops-nix,
    }:
    let
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      perSystem =
        f:
        nixpkgs.lib.genAttrs systems (
          system:
          f {
            pkgs = nixpkgs.legacyPackages.${system};
            inherit system;
          }
        );
      rust = pkgs: import ./nix/rust.nix { inherit pkgs crane; };
    in
    {
      packages = perSystem (
        { pkgs, ... }:
        let
          built = rust pkgs;
        in
        {
          default = built.package;
          inherit (built) package programs;
        }
      );

      overlays.default = final: _prev: { cc-ci-orchestrator = (rust final).package; };

      nixosModules.default = import ./nix/modules.nix { inherit self; };

      checks = perSystem ({ pkgs, ... }: (rust pkgs).checks);

      formatter = perSystem ({ pkgs, ... }: pkgs.nixfmt-tree);
    };
}

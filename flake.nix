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
    inputs@{
      self,
      nixpkgs,
      crane,
      ...
    }:
    let
      inherit (nixpkgs) lib;
      perSystem =
        f:
        lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (
          system:
          let
            pkgs = nixpkgs.legacyPackages.${system};
          in
          f {
            inherit pkgs system;
            rust = import ./nix/rust.nix { inherit pkgs crane; };
          }
        );
    in
    {
      packages = perSystem (
        { rust, system, ... }:
        {
          default = rust.package;
          inherit (rust) package programs;
        }
        // import ./nix/images.nix { inherit self lib system; }
      );

      apps = perSystem ({ pkgs, rust, ... }: import ./nix/apps.nix { inherit pkgs rust; });

      checks = perSystem (
        {
          pkgs,
          rust,
          system,
        }:
        import ./nix/checks.nix {
          inherit
            self
            nixpkgs
            pkgs
            rust
            system
            ;
        }
      );

      devShells = perSystem ({ pkgs, ... }: { default = import ./nix/dev-shell.nix { inherit pkgs; }; });
      formatter = perSystem ({ pkgs, ... }: pkgs.nixfmt-tree);

      overlays.default = final: _: {
        cc-ci-orchestrator =
          (import ./nix/rust.nix {
            pkgs = final;
            inherit crane;
          }).package;
      };
      nixosModules.default = import ./nix/modules.nix { inherit self; };
      nixosConfigurations = import ./hosts { inherit inputs; };
      templates.default = {
        path = ./templates/host;
        description = "One NixOS machine that keeps one agent running";
      };

      lib = {
        moduleFaults = perSystem (
          { system, ... }:
          import ./tests/nix {
            inherit nixpkgs system;
            module = self.nixosModules.default;
          }
        );
        rendered = import ./nix/rendered.nix { inherit self nixpkgs; };
        optionsDoc = import ./nix/options.nix {
          inherit nixpkgs;
          module = ./modules;
        };
      };
    };
}

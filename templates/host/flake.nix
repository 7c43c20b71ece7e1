{
  description = "A machine that keeps coding agents running";

  # Where cc-ci-orchestrator is: a URL, or a path on this machine.
  inputs.cc-ci-orchestrator.url = "git+https://git.example.org/ops/cc-ci-orchestrator";
  inputs.nixpkgs.follows = "cc-ci-orchestrator/nixpkgs";

  outputs =
    { nixpkgs, cc-ci-orchestrator, ... }:
    {
      nixosConfigurations.agents = nixpkgs.lib.nixosSystem {
        modules = [
          cc-ci-orchestrator.nixosModules.default
          ./configuration.nix
        ];
      };
    };
}

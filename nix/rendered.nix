# What the modules make of each scenario of checks/ and of each host: the configs, and the drop-ins over the package's units.
# tools/nix-compare.py holds them against what the scenarios run on Debian.
{ self, nixpkgs }:
let
  inherit (nixpkgs) lib;

  # The result does not depend on the system but for the package's path, which is given back.
  system = "x86_64-linux";
  machine = import ./machine.nix {
    inherit nixpkgs system;
    module = self.nixosModules.default;
  };

  scenarios = lib.filterAttrs (
    name: type: type == "directory" && builtins.pathExists ../checks/${name}/supervisor.toml
  ) (builtins.readDir ../checks);

  # The scenario's config, by the module's options.
  asOptions =
    written:
    machine {
      services.cc-ci-orchestrator = {
        enable = true;
        inherit (written) workspace;
        needs = written.needs or { };
        notify = written.notify or [ ];
        phases = lib.optionalAttrs (written ? phases) {
          inherit (written.phases) plans;
          advanceOn = written.phases.advance_on;
        };
        loops = lib.mapAttrs (_: loop: {
          inherit (loop) agent command workdir;
          needs = loop.needs or [ ];
          role = loop.role or null;
          followsPhases = loop.follows_phases or null;
          settings = removeAttrs loop [
            "agent"
            "command"
            "follows_phases"
            "needs"
            "role"
            "workdir"
          ];
        }) written.loops;
        settings = removeAttrs written [
          "loops"
          "needs"
          "notify"
          "phases"
          "workspace"
        ];
      };
      services.cc-ci-secrets = {
        enable = true;
        files.one = {
          source = "/run/keys/one";
          path = "/srv/one";
          owner = "agent";
        };
      };
      services.cc-ci-tailscaled.enable = true;
    };

  dropIns =
    config:
    lib.mapAttrs (_: unit: {
      inherit (unit) text wantedBy;
      dropIn = unit.overrideStrategy == "asDropin";
    }) (lib.filterAttrs (name: _: lib.hasPrefix "cc-ci-" name) config.systemd.units);
  plain = value: builtins.fromJSON (builtins.unsafeDiscardStringContext (builtins.toJSON value));
in
plain {
  scenarios = lib.mapAttrs (
    name: _:
    let
      config = asOptions (lib.importTOML ../checks/${name}/supervisor.toml);
    in
    {
      supervisor = config.services.cc-ci-orchestrator.settings;
      bindir = "${config.services.cc-ci-orchestrator.package}/bin";
      units = dropIns config;
    }
  ) scenarios;

  hosts = lib.mapAttrs (
    _:
    { config, ... }:
    {
      supervisor = config.services.cc-ci-orchestrator.settings;
      proxy-shim = config.services.cc-ci-tailscaled.settings;
      secrets = config.services.cc-ci-secrets.settings;
      bindir = "${config.services.cc-ci-orchestrator.package}/bin";
      units = dropIns config;
    }
  ) self.nixosConfigurations;
}

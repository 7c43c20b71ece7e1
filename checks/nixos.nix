# A scenario of this folder as a NixOS test: the nodes, given what checks/README.md says a guest has; the script is the
# scenario's own test.py. In a scenario's folder: `import ../nixos.nix ./.`, and what is its own besides.
folder:
{
  config,
  lib,
  hostPkgs,
  ...
}:
let
  scenario = lib.importTOML (folder + "/scenario.toml");
  written = lib.importTOML (folder + "/supervisor.toml");

  # The same config by the module's options, whose units and checks come with them.
  loops = lib.mapAttrs (_: loop: {
    inherit (loop) agent workdir;
    command = loop.command or [ ];
    settings = removeAttrs loop [
      "agent"
      "command"
      "workdir"
    ];
  }) written.loops;

  commands = hostPkgs.runCommand "cc-ci-test-commands" { } ''
    install -Dm755 -t $out/bin ${./guest}/*
  '';

  node =
    { config, pkgs, ... }:
    let
      cfg = config.services.cc-ci-orchestrator;
    in
    {
      services.cc-ci-orchestrator = {
        enable = true;
        inherit (written) workspace;
        inherit loops;
        settings = removeAttrs written [
          "loops"
          "workspace"
        ];
      };
      assertions = [
        {
          assertion =
            removeAttrs cfg.settings [
              "runtime_dir"
              "state_dir"
            ] == written;
          message = "the generated config is not what ${toString folder}/supervisor.toml says: ${builtins.toJSON cfg.settings}";
        }
      ];

      environment.systemPackages = [
        commands
        pkgs.curl
        pkgs.git
        pkgs.jq
        pkgs.libressl.nc
        pkgs.nmap
        pkgs.procps
        pkgs.python3
        pkgs.tmux
      ];

      systemd.services.cc-ci-test-workspace = {
        wantedBy = [ "multi-user.target" ];
        before = [
          "cc-ci-orchestrator.service"
        ]
        ++ map (name: "cc-ci-session@${name}.service") (lib.attrNames loops);
        serviceConfig = {
          Type = "oneshot";
          RemainAfterExit = true;
          ExecStart = "${commands}/bin/cc-ci-test-workspace";
        };
      };

      # One switches by the driver's `cc-ci-test-switch`, and the machine reboots into what it was started with.
      virtualisation.memorySize = scenario.memory or 1024;
      virtualisation.cores = 2;
    };
in
{
  nodes = lib.genAttrs (scenario.nodes or [ "machine" ]) (_: node);
  testScript = builtins.readFile (folder + "/test.py");
}

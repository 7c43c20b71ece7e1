# A scenario of this folder as a NixOS test: the nodes, given what checks/README.md says a guest has; the script is the
# scenario's own test.py. In a scenario's folder: `import ../nixos.nix ./.`, and what is its own besides.
folder:
{
  lib,
  hostPkgs,
  ...
}:
let
  # A folder without one is a scenario for NixOS alone.
  described = folder + "/scenario.toml";
  scenario = lib.optionalAttrs (builtins.pathExists described) (lib.importTOML described);
  next = folder + "/next/etc/cc-ci-orchestrator/supervisor.toml";
  names = scenario.nodes or [ "machine" ];

  commands = hostPkgs.runCommand "cc-ci-test-commands" { } ''
    install -Dm755 -t $out/bin ${./guest}/*
  '';

  # The Debian guest's command is a script of checks/vm; a switch is what it is there for here.
  switch = hostPkgs.writeShellScriptBin "cc-ci-test-switch" ''
    exec /run/booted-system/specialisation/next/bin/switch-to-configuration test
  '';

  # Bytes after the end of a program change nothing but what it is.
  newer =
    package:
    package.withPrograms (
      hostPkgs.runCommand "cc-ci-programs-next" { } ''
        cp -r ${package.programs} $out
        chmod -R u+w $out
        echo 'generation 2' >>$out/bin/supervisor
      ''
    );

  node =
    { config, pkgs, ... }:
    let
      cfg = config.services.cc-ci-orchestrator;
      written = lib.importTOML config.cc-ci-test.config;
      sessions = map (name: "cc-ci-session@${name}") (lib.attrNames written.loops);
    in
    {
      options.cc-ci-test.config = lib.mkOption {
        type = lib.types.path;
        default = folder + "/supervisor.toml";
        description = "The scenario's config, which becomes options of the module: its units and checks come with them.";
      };

      config = {
        services.cc-ci-orchestrator = {
          enable = true;
          inherit (written) workspace;
          needs = written.needs or { };
          loops = lib.mapAttrs (_: loop: {
            inherit (loop) agent workdir;
            command = loop.command or [ ];
            settings = removeAttrs loop [
              "agent"
              "command"
              "workdir"
            ];
          }) written.loops;
          settings = removeAttrs written [
            "loops"
            "needs"
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
            message = "the generated config is not what ${toString config.cc-ci-test.config} says: ${builtins.toJSON cfg.settings}";
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
        ]
        ++ lib.optional (builtins.pathExists next) switch;

        systemd.services = {
          cc-ci-test-workspace = {
            wantedBy = [ "multi-user.target" ];
            before = map (name: "${name}.service") ([ "cc-ci-orchestrator" ] ++ sessions);
            serviceConfig = {
              Type = "oneshot";
              RemainAfterExit = true;
              ExecStart = "${commands}/bin/cc-ci-test-workspace";
            };
          };
        };

        # What `cc-ci-test-switch` brings; the machine reboots into what it was started with.
        system.switch.enable = true;
        specialisation = lib.mkIf (builtins.pathExists next) {
          next.configuration = {
            cc-ci-test.config = next;
            services.cc-ci-orchestrator.package = lib.mkForce (newer cfg.package);
            systemd.services =
              lib.genAttrs
                (
                  [ "cc-ci-orchestrator" ]
                  ++ map (name: "cc-ci-session@${name}") (lib.attrNames (lib.importTOML next).loops)
                )
                (_: {
                  environment.CC_CI_TEST_GENERATION = "2";
                });
          };
        };

        # NixOS's tests have the kernel panic, even for the limit of one unit.
        boot.kernel.sysctl."vm.panic_on_oom" = 0;

        networking.firewall.enable = false;
        virtualisation.memorySize = scenario.memory or 1024;
        virtualisation.cores = 2;
      };
    };

  # The first of a scenario's nodes is 192.168.1.1; NixOS numbers them by their names.
  addressed = number: name: {
    inherit name;
    value =
      let
        address = "192.168.1.${toString number}";
      in
      {
        imports = [ node ];
      }
      // lib.optionalAttrs (lib.length names > 1) {
        networking.primaryIPAddress = lib.mkForce address;
        networking.interfaces.eth1.ipv4.addresses = lib.mkForce [
          {
            inherit address;
            prefixLength = 24;
          }
        ];
      };
  };
in
{
  nodes = lib.listToAttrs (lib.imap1 addressed names);
  testScript = builtins.readFile ./prelude.py + "\n\n" + builtins.readFile (folder + "/test.py");
}

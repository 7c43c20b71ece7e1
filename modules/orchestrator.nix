# services.cc-ci-orchestrator: the supervisor and the session of each loop, from the units that the package brings; its
# config is generated, and checked by the same program at build time.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib)
    concatMapAttrs
    filterAttrs
    literalExpression
    mapAttrs
    mkDefault
    mkForce
    mkIf
    mkOption
    optionalAttrs
    types
    ;
  own = import ./lib.nix { inherit lib; };
  toml = pkgs.formats.toml { };
  cfg = config.services.cc-ci-orchestrator;
  loops = filterAttrs (_: loop: loop.enable) cfg.loops;

  etc = "cc-ci-orchestrator";

  # Stable names, so that a running tmux server, which a switch leaves alone, finds new versions at the agent's next start.
  searchPath =
    names:
    lib.concatStringsSep ":" (
      map (name: "/etc/${etc}/path/${name}/bin") names
      ++ [
        "/run/wrappers/bin"
        "/etc/profiles/per-user/${cfg.user}/bin"
        "/nix/var/nix/profiles/default/bin"
        "/run/current-system/sw/bin"
      ]
    );
  packagesOf = loop: lib.optional (loop.package != null) loop.package ++ loop.packages;
  withPackages = filterAttrs (_: loop: packagesOf loop != [ ]) loops;

  written = toml.generate "supervisor.toml" cfg.settings;
  checked = pkgs.runCommand "supervisor.toml" { nativeBuildInputs = [ cfg.package ]; } ''
    supervisor check --static --config ${written}
    cp ${written} $out
  '';
in
{
  imports = [ ./orchestrator-assertions.nix ];

  options.services.cc-ci-orchestrator = {
    enable = lib.mkEnableOption "the supervisor of coding agents, and one tmux server for each of them";

    package = lib.mkPackageOption pkgs "cc-ci-orchestrator" { };

    user = mkOption {
      type = types.str;
      default = "agent";
      example = "ci";
      description = ''
        The user that the supervisor and all agents run as. `agent` is made here; another one is yours to declare. Loops are
        not protected from each other: they are one user.
      '';
    };

    operators = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "alice" ];
      description = "Users who may ask and tell the supervisor: they become members of the group of {option}`user`.";
    };

    workspace = mkOption {
      type = own.absolute;
      example = "/srv/cc-ci";
      description = ''
        The folder that workdirs, plans, prompts and environment files are relative to. It is made when it is not there;
        its content (clones, plans, prompts) is not this module's.
      '';
    };

    loops = mkOption {
      type = types.attrsOf (
        types.submodule (
          import ./loop.nix {
            inherit lib toml;
            placed = config.services.cc-ci-secrets.files;
          }
        )
      );
      default = { };
      example = literalExpression ''
        {
          builder = {
            agent = "claude";
            package = pkgs.claude-code;
            workdir = "cc-ci";
            kickoff = "cc-ci-plan/prompts/builder.md";
            needs = [ "proxy" ];
            memoryHigh = "800M";
          };
        }
      '';
      description = "The agents that are kept running, by name: a letter, then at most 31 of a-z, 0-9, `-` and `_`.";
    };

    phases = {
      plans = mkOption {
        type = types.listOf own.outsideStore;
        default = [ ];
        example = [
          "cc-ci-plan/plan-1.md"
          "cc-ci-plan/plan-2.md"
        ];
        description = "The plans that loops work through, in their order, relative to the workspace; none: no phases.";
      };
      indexFile = mkOption {
        type = own.outsideStore;
        default = ".cc-ci-logs/.phase-idx";
        description = "The file with the zero-based index of the current plan, relative to the workspace.";
      };
      advanceOn = mkOption {
        type = types.enum [
          "gate-pass"
          "manual"
        ];
        default = "gate-pass";
        description = "What moves the index: a passed gate, or only `supervisor phase advance` and `supervisor phase set`.";
      };
      gatePatience = mkOption {
        type = own.duration;
        default = "1h";
        description = "A claim without verdict, or a fail without new claim, for this long nudges whoever's turn it is.";
      };
    };

    needs = mkOption {
      type = types.attrsOf (
        types.attrTag {
          command = mkOption {
            type = types.nonEmptyListOf types.str;
            example = [
              "proxy-shim"
              "check"
              "--quiet"
            ];
            description = "There when this exits with 0 within 10 s.";
          };
          unit = mkOption {
            type = types.strMatching ".+\\.[a-z]+";
            example = "cc-ci-secrets.service";
            description = "There when this systemd unit is active; the whole name, with its type.";
          };
          tcp = mkOption {
            type = types.strMatching ".+:[0-9]+";
            example = "127.0.0.1:1055";
            description = "There when a connection is accepted.";
          };
          file = mkOption {
            type = own.outsideStore;
            example = ".testenv";
            description = "There when this file exists; relative to the workspace unless absolute.";
          };
        }
        // {
          # One for every version of lib: docs/nixos-options.md has it.
          description = "(one of command, file, tcp, unit)";
        }
      );
      default = { };
      example = {
        mirror.tcp = "127.0.0.1:3142";
      };
      description = "What loops can wait for before they start, by name; exactly one kind each.";
    };

    notify = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "/run/current-system/sw/bin/ntfy-send" ];
      description = "The program, and its arguments, that gets each notification as one JSON object on stdin; empty: none.";
    };

    machine = {
      memory = mkOption {
        type = types.nullOr own.size;
        default = null;
        example = "2G";
        description = "The machine's memory. When it is set, the limits of the loops are checked against it.";
      };
      swap = mkOption {
        type = own.size;
        default =
          let
            # In MiB; a partition does not say its size.
            sizes = map (device: if device.size == null then 0 else device.size) config.swapDevices;
          in
          "${toString (lib.foldl' lib.add 0 sizes)}M";
        defaultText = lib.literalMD "the sum of the sizes in {option}`swapDevices`";
        example = "4G";
        description = "The machine's swap, without zram.";
      };
    };

    settings = mkOption {
      type = types.submodule {
        freeformType = toml.type;
        options = {
          state_dir = mkOption {
            type = own.absolute;
            default = "/var/lib/cc-ci-orchestrator";
            description = "Where what must survive a reboot is kept.";
          };
          runtime_dir = mkOption {
            type = own.absolute;
            default = "/run/cc-ci-orchestrator";
            description = "Where the sockets are; on a tmpfs.";
          };
        };
      };
      default = { };
      example = {
        min_free_memory = "300M";
        start_stagger = "10s";
      };
      description = ''
        All of supervisor.toml, see docs/config.md. The other options write into this; what has no option of its own is set
        here, and anything can be overridden here.
      '';
    };

    configFile = mkOption {
      type = types.package;
      readOnly = true;
      default = checked;
      defaultText = lib.literalMD "{option}`settings`, after `supervisor check --static`";
      description = "The generated config. Building it runs the check.";
    };
  };

  config = mkIf cfg.enable {
    services.cc-ci-orchestrator.settings = {
      inherit (cfg) workspace;
      host = "systemd";
      loops = mapAttrs (_: loop: loop.settings) loops;
    }
    // optionalAttrs (cfg.notify != [ ]) { inherit (cfg) notify; }
    // optionalAttrs (cfg.needs != { }) { inherit (cfg) needs; }
    // optionalAttrs (cfg.phases.plans != [ ]) {
      phases = {
        inherit (cfg.phases) plans;
        index_file = cfg.phases.indexFile;
        advance_on = cfg.phases.advanceOn;
        gate_patience = cfg.phases.gatePatience;
      };
    };

    environment.systemPackages = [ cfg.package ];
    environment.etc = {
      "${etc}/supervisor.toml".source = cfg.configFile;
    }
    // concatMapAttrs (name: loop: {
      "${etc}/path/${name}".source = pkgs.buildEnv {
        name = "cc-ci-path-${name}";
        paths = packagesOf loop;
        pathsToLink = [ "/bin" ];
      };
    }) withPackages;

    users = {
      users = mkIf (cfg.user == "agent") {
        agent = {
          description = "Coding agents";
          isSystemUser = true;
          group = "agent";
          home = mkDefault "/home/agent";
          createHome = true;
          useDefaultShell = true;
        };
      };
      groups = {
        ${config.users.users.${cfg.user}.group or "agent"}.members = cfg.operators;
      };
    };

    systemd = {
      packages = [ cfg.package ];

      # The same folders as in the tmpfiles.d file for other systems, with this user. The workspace keeps what its owner
      # made of it.
      tmpfiles.settings.cc-ci-orchestrator =
        let
          group = config.users.users.${cfg.user}.group or "agent";
          folder = mode: user: group: { d = { inherit mode user group; }; };
        in
        {
          ${cfg.settings.runtime_dir} = folder "0750" cfg.user group;
          ${cfg.settings.state_dir} = folder "0750" cfg.user group;
          ${cfg.workspace} = folder ":0750" ":${cfg.user}" ":${group}";
        };

      # Drop-ins only: what the units must hold is in the package.
      services = {
        cc-ci-orchestrator = {
          overrideStrategy = "asDropin";
          wantedBy = [ "multi-user.target" ];
          environment.PATH = mkForce (searchPath (lib.attrNames withPackages));
          # A restart touches no agent, and with stop and start apart nobody would look after them meanwhile.
          stopIfChanged = false;
          restartTriggers = [ cfg.configFile ];
          serviceConfig.User = cfg.user;
        };
      }
      // concatMapAttrs (name: loop: {
        "cc-ci-session@${name}" = {
          overrideStrategy = "asDropin";
          wantedBy = [ "multi-user.target" ];
          environment.PATH = mkForce (searchPath (lib.optional (withPackages ? ${name}) name));
          restartIfChanged = false;
          stopIfChanged = false;
          serviceConfig = {
            User = cfg.user;
          }
          // own.given {
            MemoryHigh = loop.memoryHigh;
            MemoryMax = loop.memoryMax;
          };
        };
      }) loops;
    };
  };
}

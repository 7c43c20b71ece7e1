# What a configuration becomes: drop-ins over the package's units, the config, the user, the folders.
{ lib, machine }:
let
  config = machine (
    { pkgs, ... }:
    {
      services.cc-ci-orchestrator = {
        enable = true;
        workspace = "/srv/work";
        operators = [ "alice" ];
        phases.plans = [ "plan-1.md" ];
        needs.mirror.tcp = "127.0.0.1:3142";
        notify = [ "notify" ];
        settings.min_free_memory = "300M";
        loops = {
          builder = {
            agent = "claude";
            package = pkgs.git;
            workdir = "clone";
            args = [
              "--remote-control"
              "{loop}"
            ];
            kickoff = "builder.md";
            needs = [ "mirror" ];
            environmentFiles = [ ".testenv" ];
            role = "claims";
            stallAfter = "30m";
            onIdle = {
              nudge = "go on";
              after = "2m";
            };
            memoryHigh = "800M";
            memoryMax = "1G";
            settings.stable_after = "20m";
          };
          health = {
            agent = "command";
            package = pkgs.tmux;
            workdir = ".";
            followsPhases = false;
          };
          gone = {
            enable = false;
            agent = "command";
            workdir = ".";
          };
        };
      };
      users.users.alice.isNormalUser = true;
    }
  );
  unit = name: config.systemd.units.${name};
  lines = name: lib.splitString "\n" (unit name).text;
  supervisor = "cc-ci-orchestrator.service";
  builder = "cc-ci-session@builder.service";
  health = "cc-ci-session@health.service";
  settings = config.services.cc-ci-orchestrator.settings;

  # The keys of a drop-in, sorted; `Environment` is the system's own but for PATH.
  keys =
    name:
    lib.sort lib.lessThan (
      lib.unique (
        map (line: lib.head (lib.splitString "=" line)) (lib.filter (lib.hasInfix "=") (lines name))
      )
    );
  path =
    name:
    lib.splitString ":" (
      lib.removeSuffix "\"" (
        lib.removePrefix "Environment=\"PATH=" (
          lib.findFirst (lib.hasPrefix "Environment=\"PATH=") "" (lines name)
        )
      )
    );
  system = [
    "/run/wrappers/bin"
    "/etc/profiles/per-user/agent/bin"
    "/nix/var/nix/profiles/default/bin"
    "/run/current-system/sw/bin"
  ];
  # Where the unit files say all that a unit must hold, a drop-in must not say it again.
  set = name: got: want: {
    what = "${name} is ${builtins.toJSON got}, not ${builtins.toJSON want}";
    holds = got == want;
  };
  has = name: line: {
    what = "${name} has no line `${line}`: ${(unit name).text}";
    holds = lib.elem line (lines name);
  };
in
[
  (set "the way in which ${supervisor} comes" (unit supervisor).overrideStrategy "asDropin")
  (set "the way in which ${builder} comes" (unit builder).overrideStrategy "asDropin")
  {
    what = "the units of the package are not taken";
    holds = lib.elem config.services.cc-ci-orchestrator.package config.systemd.packages;
  }
  (set "what the drop-in of ${supervisor} sets" (keys supervisor) [
    "Environment"
    "User"
    "WantedBy"
    "X-Restart-Triggers"
    "X-StopIfChanged"
  ])
  (set "what the drop-in of ${builder} sets" (keys builder) [
    "Environment"
    "MemoryHigh"
    "MemoryMax"
    "User"
    "WantedBy"
    "X-RestartIfChanged"
    "X-StopIfChanged"
  ])
  (set "what the drop-in of ${health} sets" (keys health) [
    "Environment"
    "User"
    "WantedBy"
    "X-RestartIfChanged"
    "X-StopIfChanged"
  ])
  (has builder "MemoryHigh=800M")
  (has builder "MemoryMax=1G")
  (has builder "User=agent")
  (has builder "X-RestartIfChanged=false")
  (has supervisor "User=agent")
  (set "who wants ${builder}" (unit builder).wantedBy [ "multi-user.target" ])
  (set "who wants ${supervisor}" (unit supervisor).wantedBy [ "multi-user.target" ])
  (set "the sessions"
    (lib.filter (lib.hasPrefix "cc-ci-session@") (lib.attrNames config.systemd.units))
    [
      builder
      health
    ]
  )
  (set "PATH of ${builder}" (path builder) ([ "/etc/cc-ci-orchestrator/path/builder/bin" ] ++ system))
  (set "PATH of ${supervisor}" (path supervisor) (
    [
      "/etc/cc-ci-orchestrator/path/builder/bin"
      "/etc/cc-ci-orchestrator/path/health/bin"
    ]
    ++ system
  ))
  {
    what = "a loop with packages has no folder of its own for PATH";
    holds = config.environment.etc ? "cc-ci-orchestrator/path/builder";
  }
  {
    what = "the config in /etc is not the one that was checked";
    holds =
      config.environment.etc."cc-ci-orchestrator/supervisor.toml".source
      == config.services.cc-ci-orchestrator.configFile;
  }
  {
    what = "a restart of the supervisor does not follow from a changed config";
    holds = lib.elem config.services.cc-ci-orchestrator.configFile config.systemd.services.cc-ci-orchestrator.restartTriggers;
  }
  (set "the config but for its loops" (removeAttrs settings [ "loops" ]) {
    host = "systemd";
    min_free_memory = "300M";
    needs.mirror.tcp = "127.0.0.1:3142";
    notify = [ "notify" ];
    phases = {
      advance_on = "gate-pass";
      gate_patience = "1h";
      index_file = ".cc-ci-logs/.phase-idx";
      plans = [ "plan-1.md" ];
    };
    runtime_dir = "/run/cc-ci-orchestrator";
    state_dir = "/var/lib/cc-ci-orchestrator";
    workspace = "/srv/work";
  })
  (set "the loops in the config" (lib.attrNames settings.loops) [
    "builder"
    "health"
  ])
  (set "the builder in the config" settings.loops.builder {
    agent = "claude";
    args = [
      "--remote-control"
      "{loop}"
    ];
    env_files = [ ".testenv" ];
    kickoff = "builder.md";
    needs = [ "mirror" ];
    on_idle = {
      after = "2m";
      nudge = "go on";
    };
    role = "claims";
    stable_after = "20m";
    stall_after = "30m";
    workdir = "clone";
  })
  {
    what = "the command of a package is ${builtins.toJSON settings.loops.health.command}";
    holds = lib.any (lib.hasSuffix "/bin/tmux") settings.loops.health.command;
  }
  (set "the members of the group" config.users.groups.agent.members [ "alice" ])
  (set "the folders" (lib.attrNames config.systemd.tmpfiles.settings.cc-ci-orchestrator) [
    "/run/cc-ci-orchestrator"
    "/srv/work"
    "/var/lib/cc-ci-orchestrator"
  ])
]
++
  map
    (key: {
      what = "a unit of ours has ${key}, which the shipped units decide";
      holds = !(lib.elem key (keys supervisor ++ keys builder));
    })
    [
      "ExecStart"
      "RuntimeDirectory"
      "PrivateTmp"
      "ProtectControlGroups"
    ]

# Configurations that cannot work: each is refused before anything is built, in words that say which option and what to do.
{ lib, machine }:
let
  # One loop that is fine; each case changes what it names.
  fine = {
    enable = true;
    workspace = "/srv/work";
    loops.builder = {
      agent = "command";
      command = [ "./builder.sh" ];
      workdir = "clone";
    };
  };
  said =
    orchestrator: more:
    let
      config = machine {
        imports = [ more ];
        services.cc-ci-orchestrator = lib.mkMerge [
          fine
          orchestrator
        ];
      };
    in
    {
      errors = map (a: a.message) (lib.filter (a: !a.assertion) config.assertions);
      inherit (config) warnings;
    };

  here = "services.cc-ci-orchestrator";

  # Refused with exactly these messages. A machine takes seconds to evaluate, so one has many faults.
  refused =
    what: orchestrator: messages:
    let
      got = (said orchestrator { }).errors;
    in
    [
      {
        what = "${what}: ${toString (lib.length got)} errors, not ${toString (lib.length messages)}: ${builtins.toJSON got}";
        holds = lib.length got == lib.length messages;
      }
    ]
    ++ map (message: {
      what = "${what}: did not say ${builtins.toJSON message}, but ${builtins.toJSON got}";
      holds = lib.elem message got;
    }) messages;

  # Not even of the option's type.
  readable =
    orchestrator:
    (builtins.tryEval (
      builtins.toJSON
        (machine {
          services.cc-ci-orchestrator = lib.mkMerge [
            fine
            orchestrator
          ];
        }).services.cc-ci-orchestrator.settings
    )).success;
  noType = what: orchestrator: {
    what = "${what}: was taken";
    holds = !(readable orchestrator);
  };
  loop = lib.recursiveUpdate fine.loops.builder;
in
refused "faults of loops"
  {
    machine = {
      memory = "2G";
      swap = "1G";
    };
    loops = {
      Tests = loop { };
      no-command = loop { command = [ ]; };
      no-need = loop { needs = [ "proxy" ]; };
      no-secret = loop { secrets = [ "testenv" ]; };
      no-secrets = loop { needs = [ "secrets" ]; };
      kickoff = loop { kickoff = "/etc/prompt.md"; };
      handoff = loop { handoff = "clone/../../prompt.md"; };
      high = loop {
        memoryHigh = "2G";
        memoryMax = "2047M";
      };
      small = loop { memoryMax = "40M"; };
      large = loop { memoryMax = "4G"; };
      first = loop { role = "claims"; };
      second = loop { role = "claims"; };
      # These are as they must be.
      absolute = loop { kickoff = "/srv/work/a.md"; };
      equal = loop {
        memoryHigh = "1G";
        memoryMax = "1G";
      };
    };
  }
  [
    "${here}.loops.Tests: `Tests` is no name of a loop; use a letter of a-z, then at most 31 of a-z, 0-9, `-` and `_`"
    "${here}.loops.no-command: `agent = \"command\"` without a program; set `command`, or `package` to one with a main program"
    "${here}.loops.no-need: it needs `proxy`, and of ${here}.needs none is defined; add `${here}.needs.proxy`, or enable what brings it"
    "${here}.loops.no-secret: it needs the secret `testenv`, which nobody places; add `services.cc-ci-secrets.files.testenv` and set `services.cc-ci-secrets.enable`"
    "${here}.loops.no-secrets: it needs `secrets`, and nobody places any; set `services.cc-ci-secrets.enable`, or define `${here}.needs.secrets`"
    "${here}.loops.kickoff: the kickoff `/etc/prompt.md` is outside of the workspace `/srv/work`; move it there, and write its path relative to it"
    "${here}.loops.handoff: the handoff `clone/../../prompt.md` is outside of the workspace `/srv/work`; move it there, and write its path relative to it"
    "${here}.loops.high: memoryHigh 2G is above memoryMax 2047M, so it would be killed before it is slowed down; lower memoryHigh"
    "${here}.loops.small: memoryMax 40M leaves no room for an agent; set at least \"64M\""
    "${here}.loops.large: memoryMax 4G is more than the machine has, 2G of memory and 1G of swap (${here}.machine); lower it, or the whole machine runs out of memory before the limit is met"
    "${here}.loops: `first`, `second` have the role `claims`, and one loop at most may; leave it to one"
  ]
++
  refused "faults of the rest"
    {
      user = "ci";
      phases.plans = [
        "a.md"
        "a.md"
      ];
      settings.state_dir = "/run/cc-ci-state";
    }
    [
      "${here}.user: the user `ci` is not declared; define `users.users.ci` with its group and home"
      "${here}.phases.plans: a plan is there twice; name each once, or copy the file"
      "${here}.settings.state_dir: `/run/cc-ci-state` does not survive a reboot; use a folder on a disk, such as `/var/lib/cc-ci-orchestrator`"
    ]
++
  refused "nothing to do, and too many rights"
    {
      user = "root";
      loops.builder.enable = false;
    }
    [
      "${here}: there is no loop; define one in `${here}.loops`"
      "${here}.user: agents must not run as root; use `agent`, or a user that you declare"
    ]
++ [
  {
    what = "a loop that is fine cannot be read";
    holds = readable { };
  }
  (noType "an environment file in the store" {
    loops.builder.environmentFiles = [ "${./wrong.nix}" ];
  })
  (noType "a workspace that is relative" { workspace = lib.mkForce "work"; })
  (noType "a need with two kinds" {
    needs.mirror = {
      tcp = "127.0.0.1:3142";
      file = "x";
    };
  })
  (noType "a duration without a unit" { loops.builder.stallAfter = "30"; })
  (noType "an option that is not there" { loops.builder.memoryLimit = "1G"; })
  (
    let
      got =
        said
          {
            machine.memory = "1G";
            loops.builder.memoryHigh = "800M";
            loops.second = fine.loops.builder // {
              memoryHigh = "800M";
            };
          }
          {
            swapDevices = [
              {
                device = "/var/lib/swapfile";
                size = 512;
              }
            ];
          };
    in
    {
      what = "limits that do not fit together are warned of: ${builtins.toJSON got}";
      holds =
        got.errors == [ ]
        &&
          got.warnings == [
            ''
              ${here}.loops: the memoryHigh of all loops together is 1600M, more than 1G of memory and 512M of swap (${here}.machine); they will slow each other down when all are busy: lower them, or add swap or memory.
            ''
          ];
    }
  )
]

# What can be known to be wrong before anything is built; the rest is found by `supervisor check --static` in the build.
{ config, lib, ... }:
let
  own = import ./lib.nix { inherit lib; };
  cfg = config.services.cc-ci-orchestrator;
  loops = lib.filterAttrs (_: loop: loop.enable) cfg.loops;
  placed = config.services.cc-ci-secrets.files;
  placing = config.services.cc-ci-secrets.enable;

  here = "services.cc-ci-orchestrator";
  quoted = names: lib.concatMapStringsSep ", " (name: "`${name}`") names;
  known = names: if names == [ ] then "none is defined" else "defined are ${quoted names}";

  bytesOf = text: if text == null then 0 else own.bytes text;
  room = bytesOf cfg.machine.memory + bytesOf cfg.machine.swap;
  told = "${cfg.machine.memory} of memory and ${cfg.machine.swap} of swap (${here}.machine)";
  highs = lib.foldl' (sum: loop: sum + bytesOf loop.memoryHigh) 0 (lib.attrValues loops);

  withRole = role: lib.attrNames (lib.filterAttrs (_: loop: loop.role == role) loops);

  ofLoop =
    name: loop:
    let
      it = "${here}.loops.${name}";
      missing = lib.filter (need: !(cfg.needs ? ${need}) && need != "secrets") loop.needs;
      unplaced = lib.filter (secret: !(placing && placed ? ${secret})) loop.secrets;
      outside = path: path != null && !own.isBelow cfg.workspace path;
    in
    [
      {
        assertion = builtins.match "[a-z][a-z0-9_-]{0,31}" name != null;
        message = "${it}: `${name}` is no name of a loop; use a letter of a-z, then at most 31 of a-z, 0-9, `-` and `_`";
      }
      {
        assertion = loop.agent == "command" -> loop.command != [ ];
        message = "${it}: `agent = \"command\"` without a program; set `command`, or `package` to one with a main program";
      }
      {
        assertion = missing == [ ];
        message = "${it}: it needs ${quoted missing}, and of ${here}.needs ${known (lib.attrNames cfg.needs)}; add `${here}.needs.${lib.concatStringsSep "." (lib.take 1 missing)}`, or enable what brings it";
      }
      {
        assertion = unplaced == [ ];
        message = "${it}: it needs the secret ${quoted unplaced}, which nobody places; add `services.cc-ci-secrets.files.${lib.concatStringsSep "." (lib.take 1 unplaced)}` and set `services.cc-ci-secrets.enable`";
      }
      {
        assertion = loop.secrets != [ ] || !(lib.elem "secrets" loop.needs) || cfg.needs ? secrets;
        message = "${it}: it needs `secrets`, and nobody places any; set `services.cc-ci-secrets.enable`, or define `${here}.needs.secrets`";
      }
      {
        assertion = !outside loop.kickoff;
        message = "${it}: the kickoff `${toString loop.kickoff}` is outside of the workspace `${cfg.workspace}`; move it there, and write its path relative to it";
      }
      {
        assertion = !outside loop.handoff;
        message = "${it}: the handoff `${toString loop.handoff}` is outside of the workspace `${cfg.workspace}`; move it there, and write its path relative to it";
      }
      {
        assertion =
          loop.memoryHigh == null
          || loop.memoryMax == null
          || own.bytes loop.memoryHigh <= own.bytes loop.memoryMax;
        message = "${it}: memoryHigh ${toString loop.memoryHigh} is above memoryMax ${toString loop.memoryMax}, so it would be killed before it is slowed down; lower memoryHigh";
      }
      {
        # The tmux server's 32 MB are taken off before the agent gets the rest.
        assertion = loop.memoryMax == null || own.bytes loop.memoryMax >= 64 * 1024 * 1024;
        message = "${it}: memoryMax ${toString loop.memoryMax} leaves no room for an agent; set at least \"64M\"";
      }
      {
        assertion = cfg.machine.memory == null || bytesOf loop.memoryMax <= room;
        message = "${it}: memoryMax ${toString loop.memoryMax} is more than the machine has, ${told}; lower it, or the whole machine runs out of memory before the limit is met";
      }
    ];
in
{
  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = loops != { };
        message = "${here}: there is no loop; define one in `${here}.loops`";
      }
      {
        assertion = cfg.user != "root";
        message = "${here}.user: agents must not run as root; use `agent`, or a user that you declare";
      }
      {
        assertion = config.users.users ? ${cfg.user};
        message = "${here}.user: the user `${cfg.user}` is not declared; define `users.users.${cfg.user}` with its group and home";
      }
      {
        assertion = lib.length cfg.phases.plans == lib.length (lib.unique cfg.phases.plans);
        message = "${here}.phases.plans: a plan is there twice; name each once, or copy the file";
      }
      {
        assertion =
          !(lib.hasPrefix "/run/" cfg.settings.state_dir) && !(lib.hasPrefix "/tmp/" cfg.settings.state_dir);
        message = "${here}.settings.state_dir: `${cfg.settings.state_dir}` does not survive a reboot; use a folder on a disk, such as `/var/lib/cc-ci-orchestrator`";
      }
    ]
    ++
      map
        (role: {
          assertion = lib.length (withRole role) <= 1;
          message = "${here}.loops: ${quoted (withRole role)} have the role `${role}`, and one loop at most may; leave it to one";
        })
        [
          "claims"
          "verifies"
        ]
    ++ lib.concatLists (lib.mapAttrsToList ofLoop loops);

    warnings = lib.optional (cfg.machine.memory != null && highs > room) ''
      ${here}.loops: the memoryHigh of all loops together is ${own.megabytes highs}, more than ${told}; they will slow each other down when all are busy: lower them, or add swap or memory.
    '';
  };
}

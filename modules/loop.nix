# The options of one loop, and what they become in its table of supervisor.toml.
{
  lib,
  toml,
  placed,
}:
let
  inherit (lib) mkOption types;
  own = import ./lib.nix { inherit lib; };
  optional =
    type: description: example:
    mkOption {
      type = types.nullOr type;
      default = null;
      inherit description example;
    };
in
{ config, ... }:
{
  options = {
    enable = lib.mkEnableOption "this loop" // {
      default = true;
      example = false;
    };

    agent = mkOption {
      type = types.str;
      example = "claude";
      description = "The kind of agent: `command` for any program, `claude` for the claude CLI. `supervisor check` lists the kinds.";
    };

    package = mkOption {
      type = types.nullOr types.package;
      default = null;
      example = lib.literalExpression "pkgs.claude-code";
      description = ''
        The package that the agent's program is in. It comes first in the agent's PATH, by a path that stays the same over
        an upgrade, so the next start of the agent takes the new version. For `agent = "command"` its main program is the
        default of {option}`command`.
      '';
    };

    command = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [
        "./watch.sh"
        "--verbose"
      ];
      description = ''
        The program and its arguments, for `agent = "command"`. No shell is involved. With a `/` in its name the program is
        relative to {option}`workdir`, without one it is looked for in PATH. Placeholders such as `{plan}` are filled in.
      '';
    };

    args = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [
        "--remote-control"
        "{loop}"
      ];
      description = "More arguments of the agent. Never secrets: every user of the machine can read them.";
    };

    workdir = mkOption {
      type = own.outsideStore;
      example = "cc-ci";
      description = "Where the agent runs; relative to the workspace unless absolute.";
    };

    kickoff = optional own.outsideStore ''
      The prompt file of a fresh session, in the workspace and relative to it. It is read at each start, so a prompt that
      changed needs no switch.
    '' "cc-ci-plan/prompts/builder.md";

    handoff = optional own.outsideStore ''
      The prompt file of a session that takes over from one that was lost or full; null: the kickoff.
    '' "cc-ci-plan/prompts/builder-handoff.md";

    environmentFiles = mkOption {
      type = types.listOf own.outsideStore;
      default = [ ];
      example = [ ".testenv" ];
      description = ''
        Files of `KEY=value` lines that are put into the agent's environment at each start; relative to the workspace unless
        absolute. Those in {option}`secrets` need not be repeated.
      '';
    };

    secrets = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "testenv" ];
      description = ''
        Names in {option}`services.cc-ci-secrets.files` without which the agent must not start. Those of format `dotenv` are
        put into its environment.
      '';
    };

    needs = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "proxy" ];
      description = "Names in {option}`services.cc-ci-orchestrator.needs` that must be there before a start.";
    };

    account =
      optional types.str "Loops of one account share usage limits and login; null: `default`."
        "work";

    role = optional (types.enum [
      "claims"
      "verifies"
    ]) "The loop's part in the gates of phases; at most one loop each." "claims";

    followsPhases = optional types.bool ''
      Whether the loop is held once the last plan is done, and its placeholders know the phase; null: yes if there are phases.
    '' false;

    stallAfter = optional own.duration "No sign of life for this long is a stall; null: never." "30m";

    onChange =
      optional
        (types.enum [
          "next-start"
          "turn-end"
          "now"
        ])
        ''
          What a changed definition does to a running agent: nothing until its next start (the default), a restart at its turn's
          end, or a restart now.
        ''
        "turn-end";

    onIdle = mkOption {
      type = types.nullOr (
        types.submodule {
          options = {
            nudge = mkOption {
              type = types.str;
              example = "go on with {plan}";
              description = "The text; placeholders are filled in.";
            };
            after = mkOption {
              type = own.duration;
              example = "2m";
              description = "How long after the turn's end.";
            };
          };
        }
      );
      default = null;
      example = {
        nudge = "go on with {plan}";
        after = "2m";
      };
      description = "What is said to an agent whose turn ended and that did nothing since; null: nothing.";
    };

    memoryHigh = optional own.size ''
      Above this the agent is slowed down and its memory is reclaimed ({manpage}`systemd.resource-control(5)`).
    '' "800M";

    memoryMax = optional own.size ''
      Above this the agent is killed, and started anew. 32 MB of it are kept for its tmux server.
    '' "1200M";

    settings = mkOption {
      inherit (toml) type;
      default = { };
      example = {
        stable_after = "20m";
        restart_above = "1500M";
      };
      description = "More keys of the loop's table, see docs/config.md.";
    };

    packages = mkOption {
      type = types.listOf types.package;
      default = [ ];
      example = lib.literalExpression "[ pkgs.python3 pkgs.jq ]";
      description = "More programs for the agent's PATH, after {option}`package` and before the system's own.";
    };
  };

  config = {
    command = lib.mkIf (config.agent == "command" && config.package != null) (
      lib.mkOptionDefault [ (lib.getExe config.package) ]
    );
    needs = lib.mkIf (config.secrets != [ ]) [ "secrets" ];
    environmentFiles = lib.concatMap (
      secret:
      lib.optional (placed ? ${secret} && placed.${secret}.format == "dotenv") placed.${secret}.path
    ) config.secrets;
    settings = own.given {
      inherit (config)
        agent
        workdir
        kickoff
        handoff
        account
        role
        ;
      command = if config.command == [ ] then null else config.command;
      args = if config.args == [ ] then null else config.args;
      env_files = if config.environmentFiles == [ ] then null else config.environmentFiles;
      needs = if config.needs == [ ] then null else lib.unique config.needs;
      follows_phases = config.followsPhases;
      stall_after = config.stallAfter;
      on_change = config.onChange;
      on_idle = config.onIdle;
    };
  };
}

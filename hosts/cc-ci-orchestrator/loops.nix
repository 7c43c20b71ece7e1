# The Builder and the Adversary, which work through the plans, and the orchestrator, which a person talks to.
{ lib, pkgs, ... }:
let
  claude =
    loop:
    {
      agent = "claude";
      package = pkgs.claude-code;
      needs = [ "proxy" ];
      secrets = [
        "testenv"
        "root-ssh-key"
        "incus-certificate"
        "incus-key"
      ];
      args = [
        "--remote-control"
        "{loop}"
        "--dangerously-skip-permissions"
      ];
      memoryHigh = "1100M";
      memoryMax = "1500M";
      settings.restart_above = "1000M";
    }
    // loop;
in
{
  nixpkgs.config.allowUnfreePredicate = package: lib.getName package == "claude-code";

  services.cc-ci-orchestrator = {
    enable = true;
    workspace = "/srv/cc-ci";
    machine.memory = "2G";
    settings.min_free_memory = "300M";

    # The plans are files of the workspace's own repository.
    phases.plans = [
      "cc-ci-plan/plan-1.md"
      "cc-ci-plan/plan-2.md"
      "cc-ci-plan/plan-3.md"
    ];

    loops = {
      builder = claude {
        workdir = "cc-ci";
        kickoff = "cc-ci-plan/prompts/builder.md";
        role = "claims";
        stallAfter = "30m";
      };
      adversary = claude {
        workdir = "cc-ci-adv";
        kickoff = "cc-ci-plan/prompts/adversary.md";
        role = "verifies";
        stallAfter = "30m";
      };
      orchestrator = claude {
        workdir = ".";
        kickoff = "AGENTS.md";
        followsPhases = false;
        args = [
          "--remote-control"
          "autonomous-orchestrator"
          "--dangerously-skip-permissions"
        ];
      };
    };
  };
}

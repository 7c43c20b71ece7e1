# One machine, one loop. Beside this file goes the hardware-configuration.nix of `nixos-generate-config`.
{ lib, pkgs, ... }:
{
  imports = lib.optional (builtins.pathExists ./hardware-configuration.nix) ./hardware-configuration.nix;

  networking.hostName = "agents";
  system.stateVersion = "26.05";

  # How it starts: as /etc/nixos/configuration.nix of the installed machine says it.
  boot.loader.systemd-boot.enable = true;
  boot.loader.efi.canTouchEfiVariables = true;

  # claude-code is not free software.
  nixpkgs.config.allowUnfreePredicate = package: lib.getName package == "claude-code";

  services.openssh.enable = true;
  users.users.alice = {
    isNormalUser = true;
    extraGroups = [ "wheel" ];
    # Yours; without it nobody gets in by ssh.
    openssh.authorizedKeys.keys = [ ];
  };

  services.cc-ci-orchestrator = {
    enable = true;
    # Made if it is not there; clone your repositories into it as the user `agent`.
    workspace = "/srv/work";
    # Who may run `supervisor status` and the like without sudo.
    operators = [ "alice" ];

    loops.builder = {
      agent = "claude";
      package = pkgs.claude-code;
      workdir = "my-repo";
      kickoff = "my-repo/PROMPT.md";
      stallAfter = "30m";
      memoryHigh = "1500M";
      memoryMax = "2G";
    };
  };
}

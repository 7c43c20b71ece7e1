# The machine that drives the cc-ci loops: an Incus VM on b1. What it is; what it runs is in loops.nix.
{
  config,
  lib,
  modulesPath,
  pkgs,
  ...
}:
let
  # One key a line; the lines of comments and empty ones are not keys.
  operatorKeys = lib.filter (line: line != "" && !lib.hasPrefix "#" line) (
    lib.splitString "\n" (builtins.readFile ./operators.pub)
  );
in
{
  imports = [
    "${modulesPath}/virtualisation/incus-virtual-machine.nix"
    ./loops.nix
    ./network.nix
    ./secrets.nix
  ];

  nixpkgs.hostPlatform = "x86_64-linux";
  system.stateVersion = "26.05";
  time.timeZone = "UTC";

  # Three agents on 2 GB: what they do not touch goes to zram first, then to the disk.
  zramSwap = {
    enable = true;
    memoryPercent = 50;
    priority = 100;
  };
  swapDevices = [
    {
      device = "/var/lib/swapfile";
      size = 4096;
      priority = 10;
    }
  ];

  # The VM image comes with an empty password of root's. A way in without the network is `incus exec`.
  users.users.root = {
    hashedPassword = "!";
    initialHashedPassword = lib.mkForce null;
    openssh.authorizedKeys.keys = operatorKeys;
  };
  warnings = lib.optional (operatorKeys == [ ]) ''
    hosts/cc-ci-orchestrator/operators.pub has no key: nobody gets in by ssh, only by `incus exec cc-ci-orchestrator -- bash`. Add your public key there.
  '';
  services.openssh = {
    enable = true;
    # Not on demand: it is to be there when nothing can be started any more.
    startWhenNeeded = false;
    settings = {
      PasswordAuthentication = false;
      KbdInteractiveAuthentication = false;
      PermitRootLogin = "prohibit-password";
    };
  };

  networking = {
    useNetworkd = true;
    firewall.enable = true;
  };
  # Boot does not wait for a network that is away: what needs it waits by itself.
  systemd.network.wait-online.enable = false;

  # 30 GB: neither old generations nor logs may fill them.
  nix = {
    settings = {
      experimental-features = [
        "nix-command"
        "flakes"
      ];
      auto-optimise-store = true;
      min-free = 1024 * 1024 * 1024;
      max-free = 4 * 1024 * 1024 * 1024;
    };
    gc = {
      automatic = true;
      dates = "weekly";
      options = "--delete-older-than 30d";
    };
  };
  boot.loader.systemd-boot.configurationLimit = 5;
  services.journald.extraConfig = ''
    SystemMaxUse=1G
    SystemKeepFree=2G
  '';
  documentation.nixos.enable = lib.mkForce false;

  environment.systemPackages = [
    config.services.cc-ci-orchestrator.loops.builder.package
    pkgs.git
    pkgs.jq
    pkgs.nettools
    pkgs.nodejs
    pkgs.openssh
    pkgs.python3
    pkgs.tmux
  ];
}

# Two nodes of the tailnet: the machine itself, by which people come in, and the proxy on :1055, by which agents get out to
# b1 and cc-ci.
{ config, lib, ... }:
let
  authKeyFile = config.sops.secrets.tailscale-auth-key.path;
  # As in ~/.ssh/known_hosts, without the name.
  hostKeys = keysOf ./cc-ci.pub;
  keysOf =
    file:
    lib.filter (line: line != "" && !lib.hasPrefix "#" line) (
      lib.splitString "\n" (builtins.readFile file)
    );
in
{
  warnings = lib.optional (hostKeys == [ ]) ''
    hosts/cc-ci-orchestrator/cc-ci.pub has no key: ssh asks at its first connection to cc-ci, and an agent cannot answer. Add the lines of `ssh-keyscan cc-ci` there, without the name.
  '';

  services.tailscale = {
    enable = true;
    inherit authKeyFile;
    extraUpFlags = [ "--hostname=cc-ci-orchestrator" ];
  };
  # A join takes as long as the network does: the boot is not to wait for it, and it is tried again. (A target waits for what
  # it wants, unless that has no default dependencies, which are said here instead.)
  systemd.services.tailscaled-autoconnect = {
    unitConfig.DefaultDependencies = false;
    requires = [ "sysinit.target" ];
    after = [
      "sysinit.target"
      "basic.target"
    ];
    conflicts = [ "shutdown.target" ];
    before = [ "shutdown.target" ];
    startLimitIntervalSec = 0;
    serviceConfig = {
      Restart = "on-failure";
      RestartSec = "30s";
    };
  };

  services.cc-ci-tailscaled = {
    enable = true;
    listen = "127.0.0.1:1055";
    inherit authKeyFile;
    upArgs = [ "--hostname=cc-ci-orchestrator-proxy" ];
    probes.cc-ci = {
      target = "cc-ci:22";
      expect = "SSH-2.0";
    };
    # The Incus API of b1.
    probes.b1.target = "100.117.251.31:8443";
  };

  services.cc-ci-ssh.hosts.cc-ci = {
    user = "root";
    identityFile = "/home/agent/.ssh/cc-ci-root-ed25519";
    publicKeys = hostKeys;
  };
}

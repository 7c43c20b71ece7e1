# Two nodes of the tailnet: the machine itself, by which people come in, and the proxy on :1055, by which agents get out to
# b1 and cc-ci.
{ config, ... }:
let
  authKeyFile = config.sops.secrets.tailscale-auth-key.path;
in
{
  services.tailscale = {
    enable = true;
    inherit authKeyFile;
    extraUpFlags = [ "--hostname=cc-ci-orchestrator" ];
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
  };
}

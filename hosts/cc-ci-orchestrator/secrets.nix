# What the machine must know and git must not: decrypted by sops-nix, and put where programs look for it. The key for it is
# the one thing that is brought by hand, see secrets/README.md.
{ lib, ... }:
let
  encrypted = ../../secrets/cc-ci-orchestrator.yaml;
  there = builtins.pathExists encrypted;
in
{
  warnings = lib.optional (!there) ''
    secrets/cc-ci-orchestrator.yaml is not there: nothing can be decrypted, so the machine joins no tailnet, and the loops wait for their secrets. See secrets/README.md.
  '';

  sops = {
    age.keyFile = "/var/lib/sops-nix/key.txt";
    # No key of this machine's own: whoever has its disk has its ssh keys.
    age.sshKeyPaths = [ ];
    gnupg.sshKeyPaths = [ ];
    useSystemdActivation = true;
    defaultSopsFile = if there then encrypted else "/missing/secrets/cc-ci-orchestrator.yaml";
    validateSopsFiles = there;
    secrets.tailscale-auth-key = { };
  };

  services.cc-ci-secrets = {
    enable = true;
    files = {
      testenv = {
        sops = "testenv";
        path = "/srv/cc-ci/.testenv";
        owner = "agent";
        format = "dotenv";
      };
      root-ssh-key = {
        sops = "cc-ci-root-ed25519";
        path = "/home/agent/.ssh/cc-ci-root-ed25519";
        owner = "agent";
        format = "ssh-private-key";
      };
      incus-certificate = {
        sops = "terraform.crt";
        path = "/srv/incus-terraform-nix-vm-creator/terraform-secrets/terraform.crt";
        owner = "agent";
        format = "pem-certificate";
        settings.private_key = "incus-key";
      };
      incus-key = {
        sops = "terraform.key";
        path = "/srv/incus-terraform-nix-vm-creator/terraform-secrets/terraform.key";
        owner = "agent";
        format = "pem-private-key";
      };
    };
  };

  # The placer makes missing parents with the owner's rights, and /srv is root's.
  systemd.tmpfiles.settings.cc-ci-incus."/srv/incus-terraform-nix-vm-creator".d = {
    user = "agent";
    group = "agent";
    mode = "0750";
  };
}

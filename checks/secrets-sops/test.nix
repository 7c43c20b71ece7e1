# sops-nix and the placer with keys that the build makes and nobody else ever has: one that the secrets are encrypted for,
# and one that is not.
{ hostPkgs, sops-nix, ... }:
let
  secrets =
    hostPkgs.runCommand "cc-ci-test-secrets"
      {
        nativeBuildInputs = [
          hostPkgs.age
          hostPkgs.sops
        ];
      }
      ''
        mkdir $out
        age-keygen -o $out/right-key
        age-keygen -o $out/wrong-key
        printf 'testenv: |\n  TEST_TOKEN=token-of-the-test\ndeploy-key: key-of-the-test\n' >plain.yaml
        HOME=$PWD sops --encrypt --age "$(age-keygen -y $out/right-key)" plain.yaml >$out/secrets.yaml
      '';
in
{
  imports = [ (import ../nixos.nix ./.) ];

  nodes.machine = {
    imports = [ sops-nix.nixosModules.sops ];

    sops = {
      defaultSopsFile = "${secrets}/secrets.yaml";
      # It is there only when the machine is built.
      validateSopsFiles = false;
      age.keyFile = "/var/lib/sops-nix/key.txt";
      age.sshKeyPaths = [ ];
      gnupg.sshKeyPaths = [ ];
      useSystemdActivation = true;
    };

    # Who installs a machine brings the key; here the first boot does.
    systemd.services.sops-install-secrets.preStart = ''
      [ -e /var/lib/sops-nix/key.txt ] || install -Dm600 ${secrets}/right-key /var/lib/sops-nix/key.txt
    '';
    environment.etc."cc-ci-test-wrong-key".source = "${secrets}/wrong-key";

    services.cc-ci-secrets = {
      enable = true;
      files = {
        testenv = {
          sops = "testenv";
          path = "/srv/cc-ci/.testenv";
          owner = "agent";
          format = "dotenv";
        };
        deploy-key = {
          sops = "deploy-key";
          path = "/home/agent/.deploy/key";
          owner = "agent";
        };
      };
    };
  };
}

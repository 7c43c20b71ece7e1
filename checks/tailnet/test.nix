# A tailnet of headscale's with two nodes: `machine`, by the proxy and its userspace tailscaled alone, and `far`, as most
# machines are in one. `control` is the control server and the relay.
{ hostPkgs, lib, ... }:
let
  certificate =
    hostPkgs.runCommand "cc-ci-test-certificate" { nativeBuildInputs = [ hostPkgs.openssl ]; }
      ''
        mkdir $out
        openssl req -x509 -newkey rsa:2048 -sha256 -days 3650 -nodes -subj /CN=control \
          -addext subjectAltName=DNS:control -keyout $out/key.pem -out $out/cert.pem
      '';
  trusting.security.pki.certificateFiles = [ "${certificate}/cert.pem" ];
in
{
  imports = [ (import ../nixos.nix ./.) ];

  nodes = {
    control = {
      services.headscale = {
        enable = true;
        port = 8080;
        settings = {
          server_url = "https://control";
          # No relay but its own: nothing outside is reachable.
          derp.urls = [ ];
          derp.server = {
            enabled = true;
            region_id = 999;
            stun_listen_addr = "0.0.0.0:3478";
          };
          dns = {
            magic_dns = true;
            base_domain = "tailnet.test";
            override_local_dns = false;
          };
        };
      };
      services.nginx = {
        enable = true;
        virtualHosts.control = {
          addSSL = true;
          sslCertificate = "${certificate}/cert.pem";
          sslCertificateKey = "${certificate}/key.pem";
          locations."/" = {
            proxyPass = "http://127.0.0.1:8080";
            proxyWebsockets = true;
          };
        };
      };
      environment.systemPackages = [ hostPkgs.jq ];
      networking.firewall.enable = false;
    };

    far = {
      imports = [ trusting ];
      services.tailscale.enable = true;
      services.openssh = {
        enable = true;
        settings.PermitRootLogin = "prohibit-password";
      };
      networking.firewall.enable = false;
    };

    machine = {
      imports = [ trusting ];
      services.cc-ci-tailscaled = {
        enable = true;
        # The script brings it, once the control server has made one.
        authKeyFile = "/var/lib/cc-ci-test/auth-key";
        upArgs = [
          "--login-server=https://control"
          "--hostname=machine"
        ];
        settings = {
          hold_for = "2m";
          probe_every = "2s";
        };
        probes.far = {
          target = "far.tailnet.test:22";
          expect = "SSH-2.0";
        };
      };
      services.cc-ci-ssh = {
        wait = "2m";
        hosts.far = {
          hostName = "far.tailnet.test";
          user = "root";
          identityFile = "/root/key";
        };
      };
      programs.ssh.extraConfig = lib.mkAfter ''
        Host *
          StrictHostKeyChecking no
          UserKnownHostsFile /dev/null
          LogLevel ERROR
          BatchMode yes
      '';
    };
  };
}

# The same stand-in for tailscale, by the module's options.
{ hostPkgs, lib, ... }:
let
  written = lib.importTOML ./guest/etc/cc-ci-orchestrator/proxy-shim.toml;

  standIn = hostPkgs.runCommand "cc-ci-test-tailscale" { } ''
    install -Dm755 -t $out/bin ${./guest/usr/local/bin}/*
  '';

  node =
    { config, ... }:
    {
      services.cc-ci-tailscaled = {
        enable = true;
        tailscalePackage = standIn;
        inherit (written) upstream probes;
        authKeyFile = "/etc/tailscale-auth-key";
        upArgs = written.tailscale.up_args;
        settings =
          removeAttrs written [
            "probes"
            "tailscale"
            "upstream"
          ]
          // {
            tailscale = removeAttrs written.tailscale [
              "auth_key_credential"
              "up_args"
            ];
          };
      };
      environment.etc."tailscale-auth-key".source = ./guest/etc/tailscale-auth-key;
      # It is a SOCKS server by the same program.
      systemd.services.cc-ci-tailscaled.path = [ config.services.cc-ci-tailscaled.package ];
      # For its user; the script starts its own.
      services.openssh.enable = true;
    };
in
{
  imports = [ (import ../nixos.nix ./.) ];

  nodes = {
    machine = node;
    peer = node;
  };
}

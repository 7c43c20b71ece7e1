# The modules with this flake's own package as their default, so that they need no overlay.
{ self }:
{ lib, pkgs, ... }:
let
  package = lib.mkDefault self.packages.${pkgs.stdenv.hostPlatform.system}.default;
in
{
  imports = [ ../modules ];
  services.cc-ci-orchestrator = { inherit package; };
  services.cc-ci-secrets = { inherit package; };
  services.cc-ci-tailscaled = { inherit package; };
}

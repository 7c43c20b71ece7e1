# The modules with this flake's own package as their default, so that they need no overlay.
{ self }:
{ lib, pkgs, ... }:
{
  imports = [ ../modules ];
  services.cc-ci-orchestrator.package =
    lib.mkDefault
      self.packages.${pkgs.stdenv.hostPlatform.system}.default;
}

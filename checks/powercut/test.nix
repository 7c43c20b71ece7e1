# The workspace is on a disk of its own, as guest/ has it for the other driver.
{
  imports = [ (import ../nixos.nix ./.) ];

  nodes.machine =
    { lib, ... }:
    {
      virtualisation.emptyDiskImages = [ 64 ];
      systemd.services.cc-ci-test-workspace = {
        requiredBy = [ "cc-ci-orchestrator.service" ];
        path = [ "/run/current-system/sw" ];
        serviceConfig.ExecStart = lib.mkForce "/run/current-system/sw/bin/cc-ci-test-disk /dev/vdb";
      };
    };
}

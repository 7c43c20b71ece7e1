# The smallest machine that evaluates, with the modules and a configuration: what tests without a build look at.
{
  nixpkgs,
  module,
  system,
}:
configuration:
(nixpkgs.lib.nixosSystem {
  modules = [
    module
    {
      nixpkgs.hostPlatform = system;
      boot.loader.grub.device = "nodev";
      fileSystems."/" = {
        device = "/dev/vda";
        fsType = "ext4";
      };
      system.stateVersion = "26.05";
    }
    configuration
  ];
}).config

# The image of each host that is an Incus VM, with the metadata that `incus image import` wants beside it:
# `incus-image-HOST`, and `incus-image` while there is one.
{
  self,
  lib,
  system,
}:
let
  virtual = lib.filterAttrs (
    _: host: host.config.nixpkgs.hostPlatform.system == system && host.config.system.build ? qemuImage
  ) self.nixosConfigurations;
  image =
    name: host:
    host.pkgs.linkFarm "incus-image-${name}" {
      disk = host.config.system.build.qemuImage;
      metadata = host.config.system.build.metadata;
    };
in
lib.mapAttrs' (name: host: lib.nameValuePair "incus-image-${name}" (image name host)) virtual
// lib.optionalAttrs (lib.length (lib.attrNames virtual) == 1) {
  incus-image = lib.head (lib.attrValues (lib.mapAttrs image virtual));
}

# What the modules do with configurations, right and wrong ones, found out by evaluation alone: a list of what is not as it
# must be. `nix eval --json .#lib.moduleFaults.x86_64-linux` prints it, and the check of this name fails with it.
{
  nixpkgs,
  module,
  system,
}:
let
  inherit (nixpkgs) lib;

  machine = import ../../nix/machine.nix { inherit nixpkgs module system; };

  # Every file beside this one is a function of `machine` that gives a list of { what, holds }.
  files = lib.filterAttrs (name: _: lib.hasSuffix ".nix" name && name != "default.nix") (
    builtins.readDir ./.
  );
  claims = lib.concatMap (name: import (./. + "/${name}") { inherit lib machine; }) (
    lib.attrNames files
  );
  faults = map (claim: claim.what) (lib.filter (claim: !claim.holds) claims);
in
assert lib.assertMsg (lib.length claims > 30) "the tests of the modules are not found";
faults

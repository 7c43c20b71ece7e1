# `nix run .#NAME`: every program of the package, and the demo.
{ pkgs, rust }:
let
  inherit (pkgs) lib;
  app = program: description: {
    type = "app";
    inherit program;
    meta.description = description;
  };
  showing = pkgs.writeShellScript "cc-ci-demo" ''
    exec ${lib.getExe rust.package} demo "$@"
  '';
in
rec {
  default = supervisor;
  supervisor = app (lib.getExe rust.package) "Keeps coding agents running";
  proxy-shim = app (lib.getExe' rust.package "proxy-shim") "The one way out, on a loopback port";
  secrets-placer = app (lib.getExe' rust.package "secrets-placer") "Puts decrypted secrets where programs want them";
  demo = app "${showing}" "Shows the supervisor at work in a temporary folder";
}

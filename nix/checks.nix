# What `nix flake check` builds: the Rust checks, the modules' own, every host, and every folder of checks/ with a test.nix.
{
  self,
  nixpkgs,
  pkgs,
  system,
  rust,
}:
let
  inherit (nixpkgs) lib;

  fails =
    name: text:
    pkgs.runCommand name { inherit text; } ''
      echo "$text" >&2
      exit 1
    '';
  passes = name: pkgs.runCommand name { } "touch $out";

  faults = self.lib.moduleFaults.${system};

  scenarios = lib.filterAttrs (
    name: type: type == "directory" && builtins.pathExists ../checks/${name}/test.nix
  ) (if builtins.pathExists ../checks then builtins.readDir ../checks else { });

  hosts = lib.filterAttrs (
    _: host: host.pkgs.stdenv.hostPlatform.system == system
  ) self.nixosConfigurations;
in
rust.checks
// {
  modules =
    if faults == [ ] then passes "modules" else fails "modules" (lib.concatStringsSep "\n" faults);

  options-page =
    pkgs.runCommand "options-page"
      {
        text = self.lib.optionsDoc;
        passAsFile = [ "text" ];
      }
      ''
        diff -u ${../docs/nixos-options.md} "$textPath" || {
          echo 'write it anew: nix eval --raw .#lib.optionsDoc >docs/nixos-options.md' >&2
          exit 1
        }
        touch $out
      '';

  nixfmt = pkgs.runCommand "nixfmt" { nativeBuildInputs = [ pkgs.nixfmt ]; } ''
    find ${
      lib.fileset.toSource {
        root = ../.;
        fileset = lib.fileset.fileFilter (file: file.hasExt "nix") ../.;
      }
    } -name '*.nix' -exec nixfmt --check {} +
    touch $out
  '';
}
// lib.mapAttrs' (name: host: {
  name = "host-${name}";
  value = host.config.system.build.toplevel;
}) hosts
// lib.mapAttrs (
  name: _:
  pkgs.testers.runNixOSTest {
    imports = [ ../checks/${name}/test.nix ];
    inherit name;
    globalTimeout = lib.mkDefault 1800;
    defaults.imports = [ self.nixosModules.default ];
    # For tests with secrets: the modules themselves do without it.
    _module.args = { inherit (self.inputs) sops-nix; };
  }
) scenarios

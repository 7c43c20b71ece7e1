# services.cc-ci-secrets: decrypted secrets as real files where programs want them, by the placer, which is a unit.
{
  config,
  options,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib)
    mapAttrs
    mkIf
    mkOption
    types
    ;
  own = import ./lib.nix { inherit lib; };
  toml = pkgs.formats.toml { };
  cfg = config.services.cc-ci-secrets;
  here = "services.cc-ci-secrets";
  withSops = options ? sops;

  fromSops = lib.filterAttrs (_: file: file.sops != null) cfg.files;

  checked = pkgs.runCommand "secrets.toml" { nativeBuildInputs = [ cfg.package ]; } ''
    secrets-placer check --static --manifest ${toml.generate "secrets.toml" cfg.settings}
    cp ${toml.generate "secrets.toml" cfg.settings} $out
  '';

  file =
    { config, ... }:
    {
      options = {
        sops = mkOption {
          type = types.nullOr types.str;
          default = null;
          example = "testenv";
          description = "The name of the secret in sops-nix's default file; {option}`sops.secrets` gets it, and {option}`source` follows.";
        };
        source = mkOption {
          type = own.absolute;
          example = "/run/secrets/testenv";
          description = "The decrypted file that it is a copy of.";
        };
        path = mkOption {
          type = own.absolute;
          example = "/srv/work/.testenv";
          description = "Where it goes. Missing parents are made, with the owner's own rights.";
        };
        owner = mkOption {
          type = types.str;
          example = "agent";
          description = "The user that it belongs to, and by whose rights it is written.";
        };
        group = mkOption {
          type = types.nullOr types.str;
          default = null;
          example = "agent";
          description = "The group that it belongs to; null: the owner's.";
        };
        mode = mkOption {
          # Others never; the group reads at most.
          type = types.strMatching "0?[4-7][04]0";
          default = "0400";
          description = "Its mode, in octal digits; at most 0640.";
        };
        format = mkOption {
          type = types.enum [
            "any"
            "dotenv"
            "ssh-private-key"
            "pem-certificate"
            "pem-private-key"
            "age-identity"
            "json"
          ];
          default = "any";
          example = "dotenv";
          description = "What its content must be; one that is not is not placed, and what is there stays.";
        };
        settings = mkOption {
          inherit (toml) type;
          default = { };
          example = {
            required_keys = [ "GITEA_TOKEN" ];
          };
          description = "More keys of its table in the manifest, see docs/secrets.md.";
        };
      };
      config = {
        source = mkIf (config.sops != null) (
          lib.mkDefault (if withSops then sopsPath config.sops else "/run/secrets/${config.sops}")
        );
        settings = own.given {
          inherit (config)
            source
            path
            owner
            group
            mode
            format
            ;
        };
      };
    };
  # Never /run/secrets' own target, a generation that is pruned.
  sopsPath = name: config.sops.secrets.${name}.path or "/run/secrets/${name}";
in
{
  options.services.cc-ci-secrets = {
    enable = lib.mkEnableOption "the placer of decrypted secrets";

    package = lib.mkPackageOption pkgs "cc-ci-orchestrator" { };

    files = mkOption {
      type = types.attrsOf (types.submodule file);
      default = { };
      example = {
        testenv = {
          sops = "testenv";
          path = "/srv/work/.testenv";
          owner = "agent";
          format = "dotenv";
        };
      };
      description = "The files, by name.";
    };

    settings = mkOption {
      inherit (toml) type;
      default = { };
      description = "All of the manifest, see docs/secrets.md. The other options write into this.";
    };
  };

  config = lib.mkMerge [
    (mkIf cfg.enable {
      assertions = [
        {
          assertion = cfg.files != { };
          message = "${here}: there is nothing to place; define `${here}.files`, or take `${here}.enable` out";
        }
        {
          assertion =
            lib.length (lib.attrValues cfg.files)
            == lib.length (lib.unique (lib.mapAttrsToList (_: f: f.path) cfg.files));
          message = "${here}.files: two of them have the same path; give each its own";
        }
        {
          assertion = fromSops == { } || withSops;
          message = "${here}.files: ${lib.concatStringsSep ", " (lib.attrNames fromSops)} come from sops, and sops-nix is not imported; add `sops-nix.nixosModules.sops` to the machine's modules, or set `source`";
        }
      ]
      ++ lib.mapAttrsToList (name: f: {
        assertion = config.users.users ? ${f.owner};
        message = "${here}.files.${name}: its owner `${f.owner}` is no declared user; define `users.users.${f.owner}`";
      }) cfg.files;

      services.cc-ci-secrets.settings.secrets = mapAttrs (_: f: f.settings) cfg.files;

      # Loops that say `needs = [ "secrets" ]` wait until all of them are in place.
      services.cc-ci-orchestrator.needs.secrets = lib.mkDefault { unit = "cc-ci-secrets.service"; };

      environment.systemPackages = [ cfg.package ];
      environment.etc."cc-ci-orchestrator/secrets.toml".source = checked;

      systemd.packages = [ cfg.package ];
      systemd.services.cc-ci-secrets = {
        overrideStrategy = "asDropin";
        wantedBy = [ "multi-user.target" ];
        # At a switch it runs again at once, in place: nothing may find the files gone.
        stopIfChanged = false;
        restartTriggers = [ checked ];
      };
    })
    (lib.optionalAttrs withSops {
      # What is named here need not be declared there; a new content is placed at once.
      sops.secrets = mkIf cfg.enable (
        lib.mapAttrs' (
          _: f: lib.nameValuePair f.sops { restartUnits = [ "cc-ci-secrets.service" ]; }
        ) fromSops
      );
      # The revisions that can be locked lack this order: a service could start before its secrets.
      systemd.services.sops-install-secrets = mkIf (cfg.enable && config.sops.useSystemdActivation) {
        before = [ "sysinit.target" ];
      };
    })
  ];
}

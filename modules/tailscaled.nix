# services.cc-ci-tailscaled: the proxy shim on a loopback port, with a userspace tailscaled (or another way out) behind it.
# This is not services.tailscale, which may run beside it with its own state.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkIf mkOption types;
  own = import ./lib.nix { inherit lib; };
  toml = pkgs.formats.toml { };
  cfg = config.services.cc-ci-tailscaled;
  here = "services.cc-ci-tailscaled";
  credential = "tailscale-auth-key";
  throughTailscale = cfg.upstream == "tailscale";
  host = lib.head (builtins.match "(.*):[0-9]+" cfg.listen);
  onLoopback = lib.hasPrefix "127." host || host == "[::1]";
in
{
  options.services.cc-ci-tailscaled = {
    enable = lib.mkEnableOption "the proxy that is the way to the machines that agents work on";

    package = lib.mkPackageOption pkgs "cc-ci-orchestrator" { };

    tailscalePackage = lib.mkPackageOption pkgs "tailscale" { };

    listen = mkOption {
      type = types.strMatching ".+:[0-9]+";
      default = "127.0.0.1:1055";
      description = "The address and port for SOCKS5 and HTTP CONNECT. There is no login, so it stays on loopback.";
    };

    allowRemote = mkOption {
      type = types.bool;
      default = false;
      description = "Whether {option}`listen` may be beyond loopback: whoever reaches the port then goes where this machine can.";
    };

    upstream = mkOption {
      type = types.enum [
        "tailscale"
        "socks5"
        "direct"
      ];
      default = "tailscale";
      description = "The way out: a userspace tailscaled, another SOCKS5 proxy, or this machine's own network.";
    };

    authKeyFile = mkOption {
      type = types.nullOr own.absolute;
      default = null;
      example = "/run/secrets/tailscale-auth-key";
      description = "The file with the key by which this machine joins the tailnet, when it has to. It becomes a credential of the unit.";
    };

    upArgs = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "--hostname=agents" ];
      description = "All flags of `tailscale up` but the key. Others that were set once are reset.";
    };

    probes = mkOption {
      type = types.attrsOf (
        types.submodule {
          freeformType = toml.type;
          options.target = mkOption {
            type = types.strMatching ".+:[0-9]+";
            example = "git.example.org:22";
            description = "Connected to through the way out.";
          };
        }
      );
      default = { };
      example = {
        git = {
          target = "git.example.org:22";
          expect = "SSH-2.0";
        };
      };
      description = "Destinations that show that the way out works; more keys of theirs are in docs/proxy.md.";
    };

    settings = mkOption {
      inherit (toml) type;
      default = { };
      example = {
        hold_for = "1m";
        allow = [ "*.example.org:22,443" ];
      };
      description = "All of proxy-shim.toml, see docs/proxy.md. The other options write into this.";
    };
  };

  config = mkIf cfg.enable {
    assertions = [
      {
        assertion = cfg.allowRemote || onLoopback;
        message = "${here}.listen: `${cfg.listen}` is beyond loopback, where everyone who reaches it could use it; listen on `127.0.0.1:1055`, or set `${here}.allowRemote = true`";
      }
      {
        assertion = cfg.authKeyFile == null || throughTailscale;
        message = "${here}.authKeyFile: the way out is `${cfg.upstream}`, which wants no key; take it out, or set `${here}.upstream = \"tailscale\"`";
      }
      {
        assertion = cfg.upstream != "socks5" || cfg.settings ? socks5;
        message = "${here}.upstream: `socks5` without the other proxy's address; set `${here}.settings.socks5.address`";
      }
    ];

    services.cc-ci-tailscaled.settings = {
      inherit (cfg) listen upstream;
    }
    // lib.optionalAttrs cfg.allowRemote { allow_remote = true; }
    // lib.optionalAttrs (cfg.probes != { }) { inherit (cfg) probes; }
    // lib.optionalAttrs throughTailscale {
      tailscale = {
        tailscaled = [ (lib.getExe' cfg.tailscalePackage "tailscaled") ];
        tailscale = [ (lib.getExe' cfg.tailscalePackage "tailscale") ];
      }
      // lib.optionalAttrs (cfg.authKeyFile != null) { auth_key_credential = credential; }
      // lib.optionalAttrs (cfg.upArgs != [ ]) { up_args = cfg.upArgs; };
    };

    # Loops that say `needs = [ "proxy" ]` wait for its real state.
    services.cc-ci-orchestrator.needs.proxy = lib.mkDefault {
      command = [
        "proxy-shim"
        "check"
        "--quiet"
      ];
    };

    environment.systemPackages = [ cfg.package ];
    environment.etc."cc-ci-orchestrator/proxy-shim.toml".source =
      toml.generate "proxy-shim.toml" cfg.settings;

    systemd.packages = [ cfg.package ];
    systemd.services.cc-ci-tailscaled = {
      overrideStrategy = "asDropin";
      wantedBy = [ "multi-user.target" ];
      # A restart ends open connections; apart, stop and start would refuse new ones meanwhile.
      stopIfChanged = false;
      restartTriggers = [ config.environment.etc."cc-ci-orchestrator/proxy-shim.toml".source ];
      serviceConfig = lib.optionalAttrs (cfg.authKeyFile != null) {
        LoadCredential = "${credential}:${cfg.authKeyFile}";
      };
    };
  };
}

# services.cc-ci-ssh: machines that every user's ssh reaches through the proxy.
{ config, lib, ... }:
let
  inherit (lib) mkOption types;
  own = import ./lib.nix { inherit lib; };
  proxy = config.services.cc-ci-tailscaled;
  cfg = config.services.cc-ci-ssh;

  block =
    name: host:
    lib.concatStringsSep "\n" (
      [
        "Host ${name}"
        "  HostName ${host.hostName}"
      ]
      ++ lib.optional (host.user != null) "  User ${host.user}"
      ++ lib.optional (host.port != 22) "  Port ${toString host.port}"
      ++ lib.optionals (host.identityFile != null) [
        "  IdentityFile ${host.identityFile}"
        "  IdentitiesOnly yes"
      ]
      ++ [
        "  ProxyCommand ${lib.getExe' proxy.package "proxy-shim"} connect --fdpass --wait ${cfg.wait} --proxy ${proxy.listen} %h %p"
        # The proxy's connection is handed to ssh: no process stays between.
        "  ProxyUseFdpass yes"
        ""
      ]
    );
in
{
  options.services.cc-ci-ssh = {
    hosts = mkOption {
      type = types.attrsOf (
        types.submodule (
          { name, ... }:
          {
            options = {
              hostName = mkOption {
                type = types.str;
                default = name;
                defaultText = lib.literalMD "the name of the entry";
                example = "server.tailnet.example";
                description = "Its name, or address, on the other side of the proxy.";
              };
              user = mkOption {
                type = types.nullOr types.str;
                default = null;
                example = "root";
                description = "Who to log in as; null: whoever runs ssh.";
              };
              port = mkOption {
                type = types.port;
                default = 22;
                description = "Where its sshd listens.";
              };
              identityFile = mkOption {
                type = types.nullOr own.outsideStore;
                default = null;
                example = "/home/agent/.ssh/server-ed25519";
                description = "The private key, and no other, that is offered.";
              };
              publicKeys = mkOption {
                type = types.listOf types.str;
                default = [ ];
                example = [ "ssh-ed25519 AAAA…" ];
                description = "Its host keys. Without one a first connection asks, and agents cannot answer.";
              };
            };
          }
        )
      );
      default = { };
      example = {
        server = {
          hostName = "server.tailnet.example";
          user = "root";
        };
      };
      description = "Machines by the name that is given to ssh.";
    };

    wait = mkOption {
      type = own.duration;
      default = "30s";
      description = "How long ssh waits for a proxy that is still starting.";
    };
  };

  config = lib.mkIf (cfg.hosts != { }) {
    assertions = [
      {
        assertion = proxy.enable;
        message = "services.cc-ci-ssh.hosts: nothing listens on `${proxy.listen}`; set `services.cc-ci-tailscaled.enable`";
      }
    ];
    programs.ssh.extraConfig = lib.concatStringsSep "\n" (lib.mapAttrsToList block cfg.hosts);
    programs.ssh.knownHosts = lib.mkMerge (
      lib.mapAttrsToList (
        name: host:
        lib.listToAttrs (
          lib.imap0 (n: publicKey: {
            name = "cc-ci-${name}-${toString n}";
            value = {
              hostNames = [
                (if host.port == 22 then host.hostName else "[${host.hostName}]:${toString host.port}")
              ];
              inherit publicKey;
            };
          }) host.publicKeys
        )
      ) cfg.hosts
    );
  };
}

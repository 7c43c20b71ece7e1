# The proxy, the secrets and ssh: what they become, what loops get of them, and what is refused.
{ lib, machine }:
let
  right = {
    services = {
      cc-ci-orchestrator = {
        enable = true;
        workspace = "/srv/work";
        loops.builder = {
          agent = "command";
          command = [ "./builder.sh" ];
          workdir = "clone";
          needs = [ "proxy" ];
          secrets = [
            "testenv"
            "key"
          ];
        };
      };
      cc-ci-secrets = {
        enable = true;
        files = {
          testenv = {
            source = "/run/keys/testenv";
            path = "/srv/work/.testenv";
            owner = "agent";
            format = "dotenv";
            settings.required_keys = [ "TOKEN" ];
          };
          key = {
            source = "/run/keys/key";
            path = "/home/agent/.ssh/key";
            owner = "agent";
            mode = "0440";
            format = "ssh-private-key";
          };
        };
      };
      cc-ci-tailscaled = {
        enable = true;
        authKeyFile = "/run/keys/tailscale";
        upArgs = [ "--hostname=agents" ];
        probes.git = {
          target = "git.example.org:22";
          expect = "SSH-2.0";
        };
      };
      cc-ci-ssh.hosts.server = {
        user = "root";
        port = 2222;
        identityFile = "/home/agent/.ssh/key";
        publicKeys = [ "ssh-ed25519 AAAA" ];
      };
    };
  };
  config = machine right;
  errors = map (a: a.message) (lib.filter (a: !a.assertion) config.assertions);
  settings = config.services.cc-ci-orchestrator.settings;
  proxy = config.services.cc-ci-tailscaled.settings;
  has = unit: line: {
    what = "${unit} has no line `${line}`: ${config.systemd.units.${unit}.text}";
    holds = lib.elem line (lib.splitString "\n" config.systemd.units.${unit}.text);
  };
  set = name: got: want: {
    what = "${name} is ${builtins.toJSON got}, not ${builtins.toJSON want}";
    holds = got == want;
  };

  wrong = machine {
    services = {
      cc-ci-secrets = {
        enable = true;
        files =
          lib.genAttrs
            [
              "one"
              "two"
            ]
            (_: {
              sops = "one";
              path = "/srv/one";
              owner = "nobody-here";
            });
      };
      cc-ci-tailscaled = {
        enable = true;
        listen = "0.0.0.0:1055";
        upstream = "socks5";
        authKeyFile = "/run/keys/tailscale";
      };
    };
  };
  nothing = machine { services.cc-ci-secrets.enable = true; };
  alone = machine { services.cc-ci-ssh.hosts.server = { }; };
  refused = config: map (a: a.message) (lib.filter (a: !a.assertion) config.assertions);
  says =
    what: config: messages:
    set what (sorted (lib.filter (lib.hasPrefix "services.cc-ci-") (refused config))) (sorted messages);
  sorted = lib.sort lib.lessThan;

  file = more: {
    services.cc-ci-secrets = {
      enable = true;
      files.one = {
        source = "/run/keys/one";
        path = "/srv/one";
        owner = "root";
      }
      // more;
    };
  };
  readable =
    more:
    (builtins.tryEval (builtins.toJSON (machine (file more)).services.cc-ci-secrets.settings)).success;
  noType = what: more: {
    what = "${what}: was taken";
    holds = !(readable more);
  };
in
[
  (set "what is wrong with what is right" errors [ ])
  (set "what the builder needs" settings.loops.builder.needs [
    "secrets"
    "proxy"
  ])
  (set "the environment files of the builder" settings.loops.builder.env_files [
    "/srv/work/.testenv"
  ])
  (set "the needs" settings.needs {
    proxy.command = [
      "proxy-shim"
      "check"
      "--quiet"
    ];
    secrets.unit = "cc-ci-secrets.service";
  })
  (set "the manifest" config.services.cc-ci-secrets.settings {
    secrets = {
      testenv = {
        source = "/run/keys/testenv";
        path = "/srv/work/.testenv";
        owner = "agent";
        mode = "0400";
        format = "dotenv";
        required_keys = [ "TOKEN" ];
      };
      key = {
        source = "/run/keys/key";
        path = "/home/agent/.ssh/key";
        owner = "agent";
        mode = "0440";
        format = "ssh-private-key";
      };
    };
  })
  (set "the proxy's config"
    (
      proxy
      // {
        tailscale = removeAttrs proxy.tailscale [
          "tailscale"
          "tailscaled"
        ];
      }
    )
    {
      listen = "127.0.0.1:1055";
      upstream = "tailscale";
      probes.git = {
        target = "git.example.org:22";
        expect = "SSH-2.0";
      };
      tailscale = {
        auth_key_credential = "tailscale-auth-key";
        up_args = [ "--hostname=agents" ];
      };
    }
  )
  {
    what = "the proxy runs ${builtins.toJSON proxy.tailscale.tailscaled}";
    holds = lib.all (lib.hasSuffix "/bin/tailscaled") proxy.tailscale.tailscaled;
  }
  (has "cc-ci-tailscaled.service" "LoadCredential=tailscale-auth-key:/run/keys/tailscale")
  (has "cc-ci-tailscaled.service" "WantedBy=multi-user.target")
  (has "cc-ci-secrets.service" "WantedBy=multi-user.target")
  {
    what = "the drop-ins of the proxy and the placer start something themselves";
    holds = lib.all (unit: !(lib.hasInfix "ExecStart" config.systemd.units.${unit}.text)) [
      "cc-ci-tailscaled.service"
      "cc-ci-secrets.service"
    ];
  }
  {
    what = "ssh has ${config.programs.ssh.extraConfig}";
    holds =
      builtins.match ''
        Host server
          HostName server
          User root
          Port 2222
          IdentityFile /home/agent/.ssh/key
          IdentitiesOnly yes
          ProxyCommand /nix/store/[^ ]*/bin/proxy-shim connect --fdpass --wait 30s --proxy 127.0.0.1:1055 %h %p
          ProxyUseFdpass yes
        .*'' config.programs.ssh.extraConfig != null;
  }
  (set "the names of the host's key" config.programs.ssh.knownHosts.cc-ci-server-0.hostNames [
    "[server]:2222"
  ])

  (says "proxy and secrets that cannot work" wrong [
    "services.cc-ci-secrets.files: two of them have the same path; give each its own"
    "services.cc-ci-secrets.files: one, two come from sops, and sops-nix is not imported; add `sops-nix.nixosModules.sops` to the machine's modules, or set `source`"
    "services.cc-ci-secrets.files.one: its owner `nobody-here` is no declared user; define `users.users.nobody-here`"
    "services.cc-ci-secrets.files.two: its owner `nobody-here` is no declared user; define `users.users.nobody-here`"
    "services.cc-ci-tailscaled.listen: `0.0.0.0:1055` is beyond loopback, where everyone who reaches it could use it; listen on `127.0.0.1:1055`, or set `services.cc-ci-tailscaled.allowRemote = true`"
    "services.cc-ci-tailscaled.authKeyFile: the way out is `socks5`, which wants no key; take it out, or set `services.cc-ci-tailscaled.upstream = \"tailscale\"`"
    "services.cc-ci-tailscaled.upstream: `socks5` without the other proxy's address; set `services.cc-ci-tailscaled.settings.socks5.address`"
  ])
  (says "secrets that are not there" nothing [
    "services.cc-ci-secrets: there is nothing to place; define `services.cc-ci-secrets.files`, or take `services.cc-ci-secrets.enable` out"
  ])
  (says "ssh through no proxy" alone [
    "services.cc-ci-ssh.hosts: nothing listens on `127.0.0.1:1055`; set `services.cc-ci-tailscaled.enable`"
  ])
  {
    what = "a file that is fine cannot be read";
    holds = readable { };
  }
  (noType "a secret that everyone may read" { mode = "0644"; })
  (noType "a secret that the group may write" { mode = "0660"; })
  (noType "a secret from the store" { source = "${./wiring.nix}"; })
  (noType "a secret into the store" { path = "${builtins.storeDir}/x"; })
  (noType "a format that is not there" { format = "yaml"; })
]

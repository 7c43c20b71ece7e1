//! Every key that the proxy's config can have: one list for the reader, for "did you mean" and for docs/proxy.md.

use crate::support::config::keys::{Table, key};

/// The top level.
pub const TOP: Table = Table {
    header: "",
    keys: &[
        key("listen", "`address:port`", r#""127.0.0.1:1055""#, r#""127.0.0.1:1055""#),
        key("allow_remote", "`true` or `false`", "false", "true"),
        key("upstream", "`tailscale`, `socks5` or `direct`", "required", r#""tailscale""#),
        key("runtime_dir", "absolute path", r#""/run/cc-ci-tailscaled""#, r#""/run/cc-ci-tailscaled""#),
        key("allow", "list of destinations", "everything", r#"["*.example.org:22,443", "100.64.0.0/10", "[::1]:22"]"#),
        key("max_connections", "whole number", "1024", "1024"),
        key("handshake_timeout", "duration", r#""10s""#, r#""10s""#),
        key("dial_timeout", "duration", r#""20s""#, r#""20s""#),
        key("hold_for", "duration", r#""30s""#, r#""30s""#),
        key("idle_timeout", "duration", r#""12h""#, r#""12h""#),
        key("probe_every", "duration", r#""30s""#, r#""30s""#),
        key("probe_timeout", "duration", r#""10s""#, r#""10s""#),
        key("ready_after", "duration", "none", r#""1m""#),
        key("socks5", "table", "none", r#"{ address = "127.0.0.1:9050" }"#),
        key("tailscale", "table", "none", r#"{ auth_key_credential = "tailscale-auth-key" }"#),
        key("probes", "tables by name", "none", r#"{ git = { target = "git.example.org:22", expect = "SSH-2.0" } }"#),
    ],
};

/// `[socks5]`.
pub const SOCKS5: Table =
    Table { header: "[socks5]", keys: &[key("address", "`host:port`", "required", r#""127.0.0.1:9050""#)] };

/// `[tailscale]`.
pub const TAILSCALE: Table = Table {
    header: "[tailscale]",
    keys: &[
        key("tailscaled", "argv", r#"["tailscaled"]"#, r#"["tailscaled", "--port=41641"]"#),
        key("tailscale", "argv", r#"["tailscale"]"#, r#"["tailscale"]"#),
        key("socks_address", "`address:port`", r#""127.0.0.1:1056""#, r#""127.0.0.1:1056""#),
        key("state_dir", "absolute path", r#""/var/lib/cc-ci-tailscaled""#, r#""/var/lib/cc-ci-tailscaled""#),
        key("auth_key_file", "absolute path", "none", r#""/run/secrets/tailscale-auth-key""#),
        key("auth_key_credential", "name of a credential", "none", r#""tailscale-auth-key""#),
        key("up_args", "argv", "[]", r#"["--hostname=cc-ci", "--accept-routes"]"#),
        key("join_timeout", "duration", r#""1m""#, r#""1m""#),
        key("restart_after", "whole number", "3", "3"),
    ],
};

/// `[probes.NAME]`.
pub const PROBE: Table = Table {
    header: "[probes.NAME]",
    keys: &[
        key("target", "`host:port`", "required", r#""git.example.org:22""#),
        key("send", "text", "none", r#""GET / HTTP/1.0\r\n\r\n""#),
        key("expect", "text", "none", r#""SSH-2.0""#),
        key("first_byte", "`true` or `false`", "false", "true"),
    ],
};

/// All of them.
pub const TABLES: &[&Table] = &[&TOP, &SOCKS5, &TAILSCALE, &PROBE];

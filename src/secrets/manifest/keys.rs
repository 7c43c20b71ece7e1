//! Every key that a manifest can have: one list for the reader, for "did you mean" and for docs/secrets.md.

use crate::support::config::keys::{Table, key};

/// The top level.
pub const TOP: Table = Table {
    header: "",
    keys: &[
        key("state_dir", "absolute path", r#""/var/lib/cc-ci-secrets""#, r#""/var/lib/cc-ci-secrets""#),
        key("age_key_file", "absolute path", r#""/var/lib/sops-nix/key.txt""#, r#""/var/lib/sops-nix/key.txt""#),
        key("secrets", "tables by name", "required", r#"{ testenv = { path = "/srv/cc-ci/.testenv" } }"#),
    ],
};

/// `[secrets.NAME]`.
pub const SECRET: Table = Table {
    header: "[secrets.NAME]",
    keys: &[
        key("source", "absolute path", "none", r#""/run/secrets/testenv""#),
        key("credential", "name of a systemd credential", "none", r#""testenv""#),
        key("sops_key", "text", "the name", r#""incus/client_key""#),
        key("path", "absolute path", "required", r#""/srv/cc-ci/.testenv""#),
        key("owner", "name of a user, or a uid", "required", r#""cc-ci""#),
        key("group", "name of a group, or a gid", "the owner's", r#""cc-ci""#),
        key("mode", "mode in octal digits", r#""0400""#, r#""0400""#),
        key("format", "name of a format", r#""any""#, r#""dotenv""#),
        key("required_keys", "list of names", "[]", r#"["GITEA_TOKEN"]"#),
        key("private_key", "name of a secret", "none", r#""incus-key""#),
        key("try_restart", "list of names", "[]", r#"["incus-client.service"]"#),
        key("reload", "list of names", "[]", r#"["nginx.service"]"#),
    ],
};

/// All of them.
pub static TABLES: &[&Table] = &[&TOP, &SECRET];

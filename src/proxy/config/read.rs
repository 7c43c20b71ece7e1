//! TOML text to a [`Config`] with every default filled in, or all faults at once. Pure.

use super::keys::{PROBE, SOCKS5, TABLES, TAILSCALE, TOP};
use super::{AuthKey, Config, ConfigErrors, Expect, Probe, TailscaleConfig, UpstreamConfig};
use crate::proxy::allow::AllowList;
use crate::proxy::target::{Host, Target};
use crate::support::config::parse::{Parsed, parse};
use crate::support::config::report::quoted;
use crate::support::config::walk::{Dialect, Open, Walk, join};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;
use toml::de::DeTable;

/// What a wait may be.
const WAIT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(30 * 86400);
/// More connections than this machine's descriptors allow are a slip.
const CONNECTIONS: RangeInclusive<u32> = 1..=100_000;
/// Each is a connection a round.
const MOST_PROBES: usize = 50;

static DIALECT: Dialect = Dialect { tables: TABLES, filled_in: |_| false };

/// Reads a config. `file` is only for the places in the faults.
///
/// # Errors
/// [`ConfigErrors::Faults`] with everything that is wrong.
pub fn read(text: &str, file: &Path) -> Result<Parsed<Config>, ConfigErrors> {
    parse(text, file, &DIALECT, top)
}

fn top(walk: &mut Walk, root: &DeTable<'_>) -> Config {
    let open = walk.open(root, &TOP, String::new(), String::new(), 0..0);
    walk.require(&open, "upstream");
    let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listen = address(walk, &open, "listen").unwrap_or(local(1055));
    let remote = walk.flag(&open, "allow_remote").unwrap_or(false);
    if !listen.ip().is_loopback() && !remote {
        let message = format!("{} is not loopback: whoever reaches it could use this machine's way out", listen.ip());
        walk.error(walk.source.value("listen"), message, "listen on `127.0.0.1`, or say `allow_remote = true`");
    }
    let wait = |walk: &mut Walk, key, default| walk.duration(&open, key, WAIT).unwrap_or(Duration::from_secs(default));
    Config {
        listen,
        runtime_dir: walk.path(&open, "runtime_dir", None).unwrap_or_else(|| "/run/cc-ci-tailscaled".into()),
        allow: allow(walk, &open),
        max_connections: walk.count(&open, "max_connections", CONNECTIONS).unwrap_or(1024) as usize,
        handshake_timeout: wait(walk, "handshake_timeout", 10),
        dial_timeout: wait(walk, "dial_timeout", 20),
        hold_for: walk.duration(&open, "hold_for", Duration::ZERO..=*WAIT.end()).unwrap_or(Duration::from_secs(30)),
        idle_timeout: wait(walk, "idle_timeout", 12 * 3600),
        probe_every: wait(walk, "probe_every", 30),
        probe_timeout: wait(walk, "probe_timeout", 10),
        ready_after: walk.duration(&open, "ready_after", WAIT),
        probes: probes(walk, &open),
        upstream: upstream(walk, &open, listen),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tailscale,
    Socks5,
    Direct,
}

fn upstream(walk: &mut Walk, open: &Open<'_>, listen: SocketAddr) -> UpstreamConfig {
    let kinds = [("tailscale", Kind::Tailscale), ("socks5", Kind::Socks5), ("direct", Kind::Direct)];
    let kind = walk.choice(open, "upstream", &kinds);
    for (name, of) in kinds {
        if walk.get(open, name).is_some() && kind.is_some_and(|kind| kind != of) {
            let help = format!("take it out, or say `upstream = \"{name}\"`");
            walk.error(walk.source.key(name), format!("`[{name}]` is of another upstream than the one chosen"), help);
        }
    }
    // Read even if it is not the chosen one: its own faults are faults.
    let socks5 = walk.table(open, "socks5", &SOCKS5, "[socks5]").and_then(|table| {
        walk.require(&table, "address");
        target(walk, &table, "address")
    });
    let own = walk.table(open, "tailscale", &TAILSCALE, "[tailscale]");
    let own = tailscale(walk, own.as_ref(), listen);
    match kind {
        Some(Kind::Tailscale) => UpstreamConfig::Tailscale(own),
        Some(Kind::Socks5) => {
            walk.require(open, "socks5");
            match socks5 {
                Some(address) if address.address() == Some(listen) => {
                    let help = "name the other proxy's port, or listen on another";
                    walk.error(walk.source.value("socks5.address"), "the upstream is this proxy itself", help);
                    UpstreamConfig::Socks5(address)
                }
                Some(address) => UpstreamConfig::Socks5(address),
                // A fault was found, and the config is thrown away.
                None => UpstreamConfig::Direct,
            }
        }
        Some(Kind::Direct) | None => UpstreamConfig::Direct,
    }
}

fn tailscale(walk: &mut Walk, open: Option<&Open<'_>>, listen: SocketAddr) -> TailscaleConfig {
    let mut config = TailscaleConfig {
        tailscaled: vec!["tailscaled".into()],
        tailscale: vec!["tailscale".into()],
        socks_address: SocketAddr::from((Ipv4Addr::LOCALHOST, 1056)),
        state_dir: "/var/lib/cc-ci-tailscaled".into(),
        auth_key: None,
        up_args: Vec::new(),
        join_timeout: Duration::from_secs(60),
        restart_after: 3,
    };
    let Some(open) = open else { return config };
    for (key, program) in [("tailscaled", &mut config.tailscaled), ("tailscale", &mut config.tailscale)] {
        match walk.argv(open, key) {
            Some(argv) if argv.first().is_none_or(String::is_empty) => {
                let at = walk.source.value(&join(&open.path, key));
                walk.error(at, format!("`{key}` has no program"), format!("write it like `{key} = [\"{key}\"]`"));
            }
            Some(argv) => *program = argv,
            None => {}
        }
    }
    if let Some(address) = address(walk, open, "socks_address") {
        let at = walk.source.value("tailscale.socks_address");
        if !address.ip().is_loopback() {
            walk.error(at, "tailscaled's own SOCKS server must listen on loopback", "use `127.0.0.1` and a free port");
        } else if address == listen {
            walk.error(at, "`socks_address` is the address of this proxy itself", "use another port");
        }
        config.socks_address = address;
    }
    if let Some(path) = walk.path(open, "state_dir", None) {
        config.state_dir = path;
    }
    config.auth_key = auth_key(walk, open);
    config.up_args = up_args(walk, open);
    config.join_timeout = walk.duration(open, "join_timeout", WAIT).unwrap_or(config.join_timeout);
    config.restart_after = walk.count(open, "restart_after", 1..=1000).unwrap_or(config.restart_after);
    config
}

fn auth_key(walk: &mut Walk, open: &Open<'_>) -> Option<AuthKey> {
    let file = walk.path(open, "auth_key_file", None).map(AuthKey::File);
    let credential = walk.text(open, "auth_key_credential").and_then(|(name, at)| {
        let good = !name.is_empty() && !name.contains('/') && !name.starts_with('.') && name.len() <= 255;
        if !good {
            let help = "write the name that `LoadCredential=` has before its colon";
            walk.error(at, format!("{} is not the name of a credential", quoted(name)), help);
        }
        good.then(|| AuthKey::Credential(name.to_owned()))
    });
    if file.is_some() && credential.is_some() {
        let at = walk.source.key("tailscale.auth_key_credential");
        walk.error(at, "there is both `auth_key_file` and `auth_key_credential`", "keep one of the two");
    }
    file.or(credential)
}

/// What the shim itself says to `tailscale up`, and a key, which must not be in an argv.
fn up_args(walk: &mut Walk, open: &Open<'_>) -> Vec<String> {
    let mut out = Vec::new();
    for (arg, at) in walk.strings(open, "up_args").unwrap_or_default() {
        let name = arg.trim_start_matches('-').split('=').next().unwrap_or_default();
        if matches!(name, "auth-key" | "authkey") {
            let help = "take it out, put the key into a file and name that with `auth_key_file`";
            walk.error(at, "a key in `up_args` would show in every process list", help);
        } else if matches!(name, "reset" | "timeout" | "json" | "force-reauth") {
            walk.error(at, format!("`--{name}` is not for `up_args`"), "take it out: the shim itself decides about it");
        } else {
            out.push(arg.to_owned());
        }
    }
    out
}

fn allow(walk: &mut Walk, open: &Open<'_>) -> Option<AllowList> {
    let mut list = AllowList::default();
    for (text, at) in walk.strings(open, "allow")? {
        if let Err(e) = list.add(text) {
            let help = "write it like `host:22`, `*.example.org:22,443`, `100.64.0.0/10:*` or `[::1]:22`";
            walk.error(at, format!("{} in `allow`: {e}", quoted(text)), help);
        }
    }
    Some(list)
}

fn probes(walk: &mut Walk, open: &Open<'_>) -> BTreeMap<String, Probe> {
    let found = walk.named(open, "probes", &PROBE);
    if found.len() > MOST_PROBES {
        let message = format!("there are {} probes, of at most {MOST_PROBES}", found.len());
        walk.error(walk.source.key("probes"), message, "keep those that tell something");
        return BTreeMap::new();
    }
    let mut out = BTreeMap::new();
    for (name, at, table) in found {
        let good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || name.len() > 32 || !name.chars().all(good) {
            walk.error(
                at,
                format!("{} is no name for a probe", quoted(name)),
                "use 1 to 32 of a-z, 0-9, `-`, `_`, `.`",
            );
        }
        if let Some(probe) = probe(walk, &table) {
            out.insert(name.to_owned(), probe);
        }
    }
    out
}

fn probe(walk: &mut Walk, open: &Open<'_>) -> Option<Probe> {
    walk.require(open, "target");
    let send = walk.text(open, "send").map(|(text, _)| text.as_bytes().to_vec()).unwrap_or_default();
    let banner = walk.text(open, "expect");
    let first = walk.flag(open, "first_byte");
    let expect = match (banner, first) {
        (Some(("", at)), _) => {
            walk.error(at, "`expect` is empty", "leave it out, or say `first_byte = true`");
            return None;
        }
        (Some((_, at)), Some(_)) => {
            walk.error(at, "there is both `expect` and `first_byte`", "keep one of the two");
            return None;
        }
        (Some((text, _)), None) => Expect::Banner(text.as_bytes().to_vec()),
        (None, Some(true)) => Expect::FirstByte,
        (None, Some(false) | None) => Expect::Connection,
    };
    Some(Probe { target: target(walk, open, "target")?, send, expect })
}

fn target(walk: &mut Walk, open: &Open<'_>, key: &str) -> Option<Target> {
    let (text, at) = walk.text(open, key)?;
    match Target::parse(text) {
        Ok(target) => Some(target),
        Err(e) => {
            walk.error(at, format!("bad `{key}` {}: {e}", quoted(text)), "write it like `git.example.org:22`");
            None
        }
    }
}

/// An address of this machine: `localhost` can be two, and a name can be anything.
fn address(walk: &mut Walk, open: &Open<'_>, key: &str) -> Option<SocketAddr> {
    let (text, at) = walk.text(open, key)?;
    match Target::parse(text) {
        Ok(Target { host: Host::Ip(ip), port }) => Some(SocketAddr::new(ip, port)),
        _ => {
            let help = "write it like `127.0.0.1:1055` or `[::1]:1055`";
            walk.error(at, format!("`{key}` is not an address with a port: {}", quoted(text)), help);
            None
        }
    }
}

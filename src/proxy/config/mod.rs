//! What the operator wrote for the proxy, checked and with every default filled in. `read` is pure.

pub mod keys;
mod read;

pub use crate::support::config::parse::ConfigErrors;
pub use read::read;

use super::allow::AllowList;
use super::target::Target;
use crate::support::config::parse::Parsed;
use crate::support::config::text::{LARGEST_CONFIG, read_config};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A whole configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Where clients connect to. Beyond loopback only when the operator said so.
    pub listen: SocketAddr,
    /// The way out.
    pub upstream: UpstreamConfig,
    /// Where the control socket is, and tailscaled's; on a tmpfs.
    pub runtime_dir: PathBuf,
    /// Where clients may go; `None`: anywhere.
    pub allow: Option<AllowList>,
    /// More wait unaccepted until one ends.
    pub max_connections: usize,
    /// A client must have said where it wants to go within this time.
    pub handshake_timeout: Duration,
    /// A destination must have answered within this time.
    pub dial_timeout: Duration,
    /// A client waits this long for an upstream that is away.
    pub hold_for: Duration,
    /// A connection over which nothing goes for this long is ended.
    pub idle_timeout: Duration,
    /// From the start of a round of probes to the next.
    pub probe_every: Duration,
    /// A probe has failed after this time.
    pub probe_timeout: Duration,
    /// READY is said after this time even if there is no way out; `None`: never.
    pub ready_after: Option<Duration>,
    /// The probes by name.
    pub probes: BTreeMap<String, Probe>,
}

/// The way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpstreamConfig {
    /// A userspace tailscaled that this program runs.
    Tailscale(TailscaleConfig),
    /// Any SOCKS5 proxy that takes everyone: `host:port`.
    Socks5(Target),
    /// This machine's own network.
    Direct,
}

/// `[tailscale]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TailscaleConfig {
    /// The daemon and more arguments for it.
    pub tailscaled: Vec<String>,
    /// The client.
    pub tailscale: Vec<String>,
    /// Where the daemon's own SOCKS server listens; loopback.
    pub socks_address: SocketAddr,
    /// Where the daemon keeps who it is.
    pub state_dir: PathBuf,
    /// Where the key for joining is.
    pub auth_key: Option<AuthKey>,
    /// All arguments of `tailscale up` but the key.
    pub up_args: Vec<String>,
    /// One attempt to join takes at most this long.
    pub join_timeout: Duration,
    /// After this many failed rounds of probes in a row the daemon is restarted.
    pub restart_after: u32,
}

/// Where the key for joining is. Only ever its path is handled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthKey {
    /// In this file.
    File(PathBuf),
    /// In the systemd credential of this name.
    Credential(String),
}

/// `[probes.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Where to connect to, through the upstream.
    pub target: Target,
    /// What is sent first.
    pub send: Vec<u8>,
    /// What shows that the destination is there.
    pub expect: Expect,
}

/// What shows that a probe's destination is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expect {
    /// It is connected.
    Connection,
    /// One byte comes.
    FirstByte,
    /// What comes begins with this.
    Banner(Vec<u8>),
}

/// Where a NixOS or Debian installation has its config.
const SYSTEM_FILE: &str = "/etc/cc-ci-orchestrator/proxy-shim.toml";
const LOCAL_FILE: &str = "proxy-shim.toml";

/// There is no config anywhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "find a config: `--config` is not given, `$CC_CI_PROXY_CONFIG` is not set, and there is no `{local}` and no \
     `{SYSTEM_FILE}`; write one of them: `upstream = \"direct\"` is enough to begin with", local = .0.display()
)]
pub struct NotFound(PathBuf);

/// The config to use, as an absolute path: `explicit`, else `env` (the value of `$CC_CI_PROXY_CONFIG`; empty is unset),
/// else `proxy-shim.toml` in `cwd`, else the system's. Whether it can be read is for [`read_file`] to say.
///
/// # Errors
/// [`NotFound`] when none is given and neither file is there.
pub fn find(explicit: Option<&Path>, env: Option<&OsStr>, cwd: &Path) -> Result<PathBuf, NotFound> {
    let named = explicit.or_else(|| env.filter(|value| !value.is_empty()).map(Path::new));
    if let Some(path) = named {
        return Ok(cwd.join(path));
    }
    let local = cwd.join(LOCAL_FILE);
    for path in [&local, Path::new(SYSTEM_FILE)] {
        // Not metadata(): a dangling symlink is meant to be a config and must be reported, not skipped.
        match path.symlink_metadata() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            _ => return Ok(path.to_owned()),
        }
    }
    Err(NotFound(local))
}

/// Reads and checks a config file.
///
/// # Errors
/// [`ConfigErrors`] when it cannot be read, is no text, is larger than 1 MiB, or has faults.
pub fn read_file(path: &Path) -> Result<Parsed<Config>, ConfigErrors> {
    read(&read_config(path, LARGEST_CONFIG, "--config")?, path)
}

impl UpstreamConfig {
    /// For people: `tailscale`, `socks5 127.0.0.1:9050`, `direct`.
    pub fn name(&self) -> String {
        match self {
            Self::Tailscale(_) => "tailscale".to_owned(),
            Self::Socks5(address) => format!("socks5 {address}"),
            Self::Direct => "direct".to_owned(),
        }
    }
}

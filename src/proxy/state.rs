//! What the running proxy knows of itself, in one place: the way out's state, counts, the last failures, the probes.

use super::config::{Config, UpstreamConfig};
use super::network::Network;
use super::relay::Bytes;
use super::target::Target;
use super::upstream::Upstream;
use crate::support::clock::{Now, format_time};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};

/// Failures that are remembered.
const FAILURES: usize = 20;

/// Whether there is a way out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Link {
    /// Not known yet; clients wait.
    Starting {
        /// What is waited for.
        why: String,
    },
    /// There is.
    Up,
    /// There is none; clients wait.
    Away {
        /// Why.
        why: String,
        /// What a person can do; empty when it comes back by itself.
        remedy: String,
    },
}

impl Link {
    /// Whether there is.
    pub fn is_up(&self) -> bool {
        *self == Self::Up
    }

    /// For people, on one line.
    pub fn text(&self) -> String {
        match self {
            Self::Starting { why } => format!("starting: {why}"),
            Self::Up => "up".to_owned(),
            Self::Away { why, remedy } if remedy.is_empty() => format!("away: {why}"),
            Self::Away { why, remedy } => format!("away: {why}; {remedy}"),
        }
    }
}

/// What a probe found last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeView {
    /// Where it connects to.
    pub target: String,
    /// Whether it passed; absent before its first end.
    pub passed: Option<bool>,
    /// Why it did not.
    pub why: Option<String>,
    /// When it ended, UTC.
    pub at: Option<String>,
    /// How long it took, in milliseconds.
    pub took_ms: Option<u64>,
}

/// A connection that could not be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FailureView {
    /// When, UTC.
    pub at: String,
    /// Where to; absent when the client did not come to say.
    pub target: Option<String>,
    /// Why.
    pub why: String,
}

/// Everything at one moment, as `status` shows it and the control socket gives it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatusView {
    /// Of the program that runs.
    pub version: String,
    /// Its pid.
    pub pid: i32,
    /// Where it listens.
    pub listen: String,
    /// `tailscale`, `socks5 host:port` or `direct`.
    pub upstream: String,
    /// Whether there is a way out.
    pub link: Link,
    /// Since when, UTC.
    pub since: String,
    /// The same in milliseconds until now.
    pub for_ms: u64,
    /// What tailscale says: `Running`, `NeedsLogin` …; absent with other upstreams.
    pub backend: Option<String>,
    /// Starts of tailscaled so far.
    pub starts: u64,
    /// Connections.
    pub connections: ConnectionsView,
    /// The last failures, newest last.
    pub failures: Vec<FailureView>,
    /// The probes by name.
    pub probes: BTreeMap<String, ProbeView>,
}

/// Connections, and what went over them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectionsView {
    /// Now.
    pub open: u64,
    /// Of these, waiting for the way out.
    pub waiting: u64,
    /// As many as there can be.
    pub most: u64,
    /// Since the start, relayed or not.
    pub total: u64,
    /// Of these, not relayed.
    pub failed: u64,
    /// Bytes from clients, since the start.
    pub bytes_up: u64,
    /// Bytes to clients, since the start.
    pub bytes_down: u64,
}

/// Counts of connections.
#[derive(Debug, Default)]
pub struct Counts {
    pub(super) open: AtomicU64,
    pub(super) waiting: AtomicU64,
    pub(super) total: AtomicU64,
    pub(super) failed: AtomicU64,
}

/// One more while it lives.
#[derive(Debug)]
pub struct Counted<'a>(&'a AtomicU64);

impl<'a> Counted<'a> {
    /// Counts.
    pub fn new(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What all tasks share.
#[derive(Debug)]
pub struct State {
    /// The config.
    pub config: Config,
    /// Where it really listens.
    pub listen: String,
    /// The way out.
    pub upstream: Upstream,
    /// Counts.
    pub counts: Counts,
    /// Bytes.
    pub bytes: Bytes,
    link: watch::Sender<(Link, Now)>,
    rounds: watch::Sender<()>,
    network: watch::Sender<Network>,
    wanted: Notify,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    backend: Option<String>,
    starts: u64,
    failures: VecDeque<FailureView>,
    probes: BTreeMap<String, ProbeView>,
}

impl State {
    /// At the start.
    pub fn new(config: Config, listen: String, upstream: Upstream) -> Self {
        let probes = config.probes.iter().map(|(name, probe)| {
            let target = probe.target.to_string();
            (name.clone(), ProbeView { target, passed: None, why: None, at: None, took_ms: None })
        });
        let inner = Inner { probes: probes.collect(), ..Inner::default() };
        let starting = Link::Starting { why: "it has just been started".to_owned() };
        Self {
            config,
            listen,
            upstream,
            counts: Counts::default(),
            bytes: Bytes::default(),
            link: watch::Sender::new((starting, Now::read())),
            rounds: watch::Sender::new(()),
            network: watch::Sender::default(),
            wanted: Notify::new(),
            inner: Mutex::new(inner),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Each change of it is whole before anything can panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is a way out.
    pub fn link(&self) -> Link {
        self.link.borrow().0.clone()
    }

    /// Tells of each change.
    pub fn watch(&self) -> watch::Receiver<(Link, Now)> {
        self.link.subscribe()
    }

    /// Says whether there is a way out; logged when that is news.
    pub fn set_link(&self, link: Link) {
        self.link.send_if_modified(|(old, since)| {
            if *old == link {
                return false;
            }
            if link.is_up() {
                tracing::info!("the way out is up");
            } else {
                tracing::warn!("the way out is {}", link.text());
            }
            // "Away since" is since it went away, whatever the reason is by now.
            if old.is_up() || link.is_up() {
                *since = Now::read();
            }
            *old = link;
            true
        });
    }

    /// Why there is no way out, where that is known without trying: tailscale says it itself.
    pub fn known_away(&self) -> Option<String> {
        if !matches!(self.config.upstream, UpstreamConfig::Tailscale(_)) {
            return None;
        }
        let link = self.link();
        (!link.is_up()).then(|| link.text())
    }

    /// Waits until there is a way out.
    pub async fn up(&self) {
        // The sender is in `self`, so the channel is open.
        let _ = self.watch().wait_for(|(link, _)| link.is_up()).await;
    }

    /// What tailscale says.
    pub fn set_backend(&self, backend: Option<String>) {
        self.inner().backend = backend;
    }

    /// tailscaled was started.
    pub fn count_start(&self) {
        self.inner().starts += 1;
    }

    /// A connection that could not be made.
    pub fn failed(&self, target: Option<&Target>, why: &str) {
        self.counts.failed.fetch_add(1, Ordering::Relaxed);
        let at = format_time(Now::read().wall);
        let failure = FailureView { at, target: target.map(ToString::to_string), why: why.to_owned() };
        let mut inner = self.inner();
        if inner.failures.len() == FAILURES {
            inner.failures.pop_front();
        }
        inner.failures.push_back(failure);
    }

    /// What a probe found.
    pub fn probed(&self, name: &str, took: Duration, result: &Result<(), String>) {
        if let Some(view) = self.inner().probes.get_mut(name) {
            view.passed = Some(result.is_ok());
            view.why = result.clone().err();
            view.at = Some(format_time(Now::read().wall));
            view.took_ms = u64::try_from(took.as_millis()).ok();
        }
        if result.is_ok() {
            self.network.send_modify(|network| network.passed(Instant::now()));
        }
    }

    /// A round of probes has ended; whether any passed.
    pub fn probes_done(&self, passed: bool) {
        if !passed {
            self.network.send_modify(|network| network.failed(Instant::now()));
        }
        self.rounds.send_replace(());
    }

    /// What the probes say of the network, and each change of it.
    pub fn network(&self) -> watch::Receiver<Network> {
        self.network.subscribe()
    }

    /// Wants a round of probes before its time.
    pub fn want_probes(&self) {
        self.wanted.notify_one();
    }

    /// Waits until a round is wanted.
    pub async fn probes_wanted(&self) {
        self.wanted.notified().await;
    }

    /// Tells of each end of a round.
    pub fn rounds(&self) -> watch::Receiver<()> {
        self.rounds.subscribe()
    }

    /// How many probes passed last, and how many there are.
    pub fn probes_passed(&self) -> (usize, usize) {
        let inner = self.inner();
        (inner.probes.values().filter(|p| p.passed == Some(true)).count(), inner.probes.len())
    }

    /// Everything now.
    pub fn view(&self) -> StatusView {
        let (link, since) = self.link.borrow().clone();
        let count = |n: &AtomicU64| n.load(Ordering::Relaxed);
        let inner = self.inner();
        StatusView {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: crate::support::process::own_pid(),
            listen: self.listen.clone(),
            upstream: self.config.upstream.name(),
            link,
            since: format_time(since.wall),
            for_ms: crate::support::clock::millis(Now::read().since(since)),
            backend: inner.backend.clone(),
            starts: inner.starts,
            connections: ConnectionsView {
                open: count(&self.counts.open),
                waiting: count(&self.counts.waiting),
                most: self.config.max_connections as u64,
                total: count(&self.counts.total),
                failed: count(&self.counts.failed),
                bytes_up: count(&self.bytes.up),
                bytes_down: count(&self.bytes.down),
            },
            failures: inner.failures.iter().cloned().collect(),
            probes: inner.probes.clone(),
        }
    }
}

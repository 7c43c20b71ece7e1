//! The probes' rounds, and for a foreign SOCKS5 proxy whether it is there at all.

use crate::proxy::config::{Probe, UpstreamConfig};
use crate::proxy::probe::examine;
use crate::proxy::state::{Link, State};
use crate::proxy::upstream::socks5;
use crate::support::units::short_duration;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// How often what is away is looked for.
const LOOK: Duration = Duration::from_secs(1);

/// Probes for ever, while there is a way out; asks for a restart of tailscaled when nothing comes through it.
pub async fn keep(state: Arc<State>, restart: Arc<Notify>) {
    if state.config.probes.is_empty() {
        return std::future::pending().await;
    }
    let most = match &state.config.upstream {
        UpstreamConfig::Tailscale(t) => t.restart_after,
        UpstreamConfig::Socks5(_) | UpstreamConfig::Direct => u32::MAX,
    };
    let mut failed = 0;
    let mut due = Instant::now();
    loop {
        state.up().await;
        let in_time = Instant::now() >= due;
        let passed = round(&state).await;
        // Of a round in which the way out went away the failures are that one's. One that a client wanted counts for
        // nothing: it comes when something fails, and a short cut of the network is not tailscaled's fault.
        failed = match in_time {
            _ if passed || !state.link().is_up() => 0,
            true => failed + 1,
            false => failed,
        };
        if in_time {
            due = Instant::now() + state.config.probe_every;
        }
        if failed >= most {
            failed = 0;
            tracing::warn!("no probe passed in {most} rounds; restarting tailscaled");
            restart.notify_one();
        }
        let mut changed = state.watch();
        tokio::select! {
            () = sleep_until(due) => {}
            () = wanted(&state) => {}
            // Back from where it was: whether it works is news.
            _ = changed.wait_for(|(link, _)| !link.is_up()) => due = Instant::now(),
        }
    }
}

/// Waits until a client wants to know, and no sooner than a while after the last round: there may be a thousand of them.
async fn wanted(state: &State) {
    sleep(LOOK).await;
    state.probes_wanted().await;
}

/// One round; whether any passed.
async fn round(state: &Arc<State>) -> bool {
    let mut probes = JoinSet::new();
    for (name, probe) in state.config.probes.clone() {
        let state = state.clone();
        probes.spawn(async move {
            let began = Instant::now();
            let result = one(&state, &probe).await;
            state.probed(&name, began.elapsed(), &result);
            result.is_ok()
        });
    }
    let mut passed = false;
    while let Some(end) = probes.join_next().await {
        passed |= end.unwrap_or(false);
    }
    state.probes_done(passed);
    passed
}

async fn one(state: &State, probe: &Probe) -> Result<(), String> {
    let within = state.config.probe_timeout;
    let whole = async {
        let stream = state.upstream.dial(&probe.target, within, within).await.map_err(|e| e.to_string())?;
        examine(probe, stream).await
    };
    let late = |_| format!("no answer within {}", short_duration(within));
    timeout(within, whole).await.map_err(late)?
}

/// Looks whether a foreign proxy is there; of tailscale its own task says it.
pub async fn watch_link(state: Arc<State>) {
    let UpstreamConfig::Socks5(proxy) = &state.config.upstream else { return std::future::pending().await };
    loop {
        let pause = match socks5::greet(proxy, state.config.handshake_timeout).await {
            Ok(_) => {
                state.set_link(Link::Up);
                state.config.probe_every
            }
            Err(e) => {
                state.set_link(Link::Away { why: e.to_string(), remedy: format!("see to the proxy at `{proxy}`") });
                LOOK
            }
        };
        sleep(pause).await;
    }
}

//! What the service manager is told: ready when there is a way out, how it stands, that the event loop lives.

use crate::proxy::config::UpstreamConfig;
use crate::proxy::state::State;
use crate::support::notify::Manager;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, interval, sleep_until};

/// Tells for ever.
pub async fn keep(state: Arc<State>) {
    let Some(mut manager) = Manager::from_environment() else { return std::future::pending().await };
    let began = Instant::now();
    let (mut link, mut rounds) = (state.watch(), state.rounds());
    // Without a watchdog this only makes sure that nothing is ever missed.
    let mut alive = interval(manager.alive_every().unwrap_or(Duration::from_secs(60)));
    loop {
        let long_enough = state.config.ready_after.filter(|limit| began.elapsed() >= *limit);
        if is_ready(&state) || long_enough.is_some() {
            manager.ready();
        }
        manager.status(&line(&state));
        // Once it is over, a manager that could not be told is told with the next sign of life.
        let waits = long_enough.is_none() && !manager.knows_ready();
        let fallback = state.config.ready_after.filter(|_| waits).map(|limit| began + limit);
        tokio::select! {
            _ = alive.tick() => manager.alive(),
            // Their senders are in `state`.
            _ = link.changed() => {}
            _ = rounds.changed() => {}
            () = sleep_until(fallback.unwrap_or(began)), if fallback.is_some() => {}
        }
    }
}

/// The first probe that passes says more than that the proxy is there; of tailscale `Running` is enough.
fn is_ready(state: &State) -> bool {
    let (passed, all) = state.probes_passed();
    passed > 0 || state.link().is_up() && (all == 0 || matches!(state.config.upstream, UpstreamConfig::Tailscale(_)))
}

fn line(state: &State) -> String {
    let link = state.link().text();
    match state.probes_passed() {
        (_, 0) => link,
        (passed, all) => format!("{link}; {passed} of {all} probes passed"),
    }
}

/// The end begins.
pub fn stopping() {
    if let Some(mut manager) = Manager::from_environment() {
        manager.stopping();
    }
}

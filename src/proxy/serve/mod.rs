//! `proxy-shim run`: the event loop and what runs in it. One thread: a task that hangs is seen by the watchdog.

mod connection;
mod control;
mod listen;
mod probes;
mod ready;
mod tailscale;

use super::config::{Config, UpstreamConfig};
use super::state::{Link, State};
use super::target::{Host, Target};
use super::upstream::Upstream;
use anyhow::Context as _;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, Semaphore};

/// Between two attempts to accept when the machine has no descriptors or memory left.
const SHORTAGE: Duration = Duration::from_millis(100);
/// Between two lines about it.
const TOLD: Duration = Duration::from_secs(10);
/// Names are looked up by threads; an unreachable name server holds each for half a minute.
const LOOKUPS: usize = 64;

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// When it cannot listen, or another one runs already.
pub fn run(config: Config) -> anyhow::Result<()> {
    listen::raise_descriptor_limit();
    let inherited = listen::inherited()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(LOOKUPS)
        .build()
        .context("starting the event loop")?;
    let done = runtime.block_on(serve(config, inherited));
    // A thread that looks up a name is not waited for.
    runtime.shutdown_background();
    done
}

async fn serve(config: Config, inherited: Option<std::net::TcpListener>) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("watching for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("watching for SIGINT")?;
    // First: a second one must find out before it touches anything.
    let control = control::bind(&config.runtime_dir)?;
    let listener = listen::listen(&config, inherited)?;
    let address = listener.local_addr().context("asking where it listens")?.to_string();
    tracing::info!("listening on {address}, way out: {}", config.upstream.name());
    let upstream = match &config.upstream {
        UpstreamConfig::Direct => Upstream::Direct,
        UpstreamConfig::Socks5(proxy) => Upstream::Socks5(proxy.clone()),
        UpstreamConfig::Tailscale(t) => {
            Upstream::Socks5(Target { host: Host::Ip(t.socks_address.ip()), port: t.socks_address.port() })
        }
    };
    let state = Arc::new(State::new(config, address, upstream));
    let restart = Arc::new(Notify::new());
    if matches!(state.config.upstream, UpstreamConfig::Direct) {
        state.set_link(Link::Up);
    }
    let stop = Arc::new(Notify::new());
    let mut daemon = tokio::spawn(tailscale::keep(state.clone(), restart.clone(), stop.clone()));
    let others = [
        tokio::spawn(accept(state.clone(), listener)),
        tokio::spawn(control::serve(state.clone(), control)),
        tokio::spawn(probes::keep(state.clone(), restart)),
        tokio::spawn(probes::watch_link(state.clone())),
        tokio::spawn(ready::keep(state.clone())),
    ];
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        // It does not end by itself; a restart mends more than half a proxy can do.
        end = &mut daemon => anyhow::bail!("keeping tailscaled: its task ended: {end:?}"),
    }
    tracing::info!("ending");
    ready::stopping();
    others.iter().for_each(tokio::task::JoinHandle::abort);
    stop.notify_one();
    daemon.await.context("ending tailscaled")
}

/// Takes clients in while there is room; the others wait in the kernel's queue, none is refused.
async fn accept(state: Arc<State>, listener: TcpListener) {
    let room = Arc::new(Semaphore::new(state.config.max_connections));
    let mut told: Option<Instant> = None;
    loop {
        // Never closed.
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((client, _)) => {
                let state = state.clone();
                tokio::spawn(async move {
                    connection::serve(&state, client).await;
                    drop(permit);
                });
            }
            Err(e) => {
                // A client that left the queue again, or no descriptors.
                if told.is_none_or(|at| at.elapsed() > TOLD) {
                    tracing::warn!("accepting a client: {e}");
                    told = Some(Instant::now());
                }
                tokio::time::sleep(SHORTAGE).await;
            }
        }
    }
}

//! Runs tailscaled as a child and keeps it running, logged in and up. What its states mean is in `proxy::tailscale`.

use crate::proxy::config::{TailscaleConfig, UpstreamConfig};
use crate::proxy::guard;
use crate::proxy::state::{Link, State};
use crate::proxy::tailscale::{self, Backend, BackendState, Backoff, Join};
use crate::support::units::short_duration;
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsString;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::process::Child;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// From a death to the next start: nothing at first, then this and up to …
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// … this, since a client is held for half a minute or so.
const LAST_PAUSE: Duration = Duration::from_secs(60);
/// One that was up for this long has proved itself.
const STABLE: Duration = Duration::from_secs(60);
/// Between two looks while it comes up; clients wait for it.
const LOOK_SOON: Duration = Duration::from_millis(200);
/// While it waits for a person or a better key.
const LOOK: Duration = Duration::from_secs(2);
/// While it is up: each look is a process.
const LOOK_LATE: Duration = Duration::from_secs(10);
/// It answers in milliseconds.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);
/// After this many missed answers in a row it hangs. A fresh one needs some seconds.
const MISSED: u32 = 6;
/// From SIGTERM to SIGKILL.
const ENDS_WITHIN: Duration = Duration::from_secs(5);
/// Between two attempts to join: a control server locks out those who ask too often.
const FIRST_JOIN_PAUSE: Duration = Duration::from_secs(5);
const LAST_JOIN_PAUSE: Duration = Duration::from_secs(300);

/// Keeps it for ever, where it is the way out. After `stop` it ends it and returns.
pub async fn keep(state: Arc<State>, restart: Arc<Notify>, stop: Arc<Notify>) {
    let UpstreamConfig::Tailscale(config) = state.config.upstream.clone() else { return stop.notified().await };
    let socket = state.config.runtime_dir.join("tailscaled.sock");
    let keeper = Keeper { state: &state, config: &config, socket: &socket, restart: &restart };
    let mut pauses = Backoff::new(FIRST_PAUSE, LAST_PAUSE);
    loop {
        let pause = pauses.pause();
        tokio::select! {
            () = sleep(pause) => {}
            () = stop.notified() => return,
        }
        let began = Instant::now();
        match keeper.spawn() {
            Err(why) => keeper.away(why),
            Ok(mut daemon) => {
                state.count_start();
                // What was wanted of the last one.
                let _ = timeout(Duration::ZERO, restart.notified()).await;
                let why = tokio::select! {
                    why = keeper.watch(&mut daemon) => Some(why),
                    () = stop.notified() => None,
                };
                let Some(why) = why else { return end(&mut daemon).await };
                // Clients wait from here on: nothing goes through one that is being ended.
                keeper.away(why);
                end(&mut daemon).await;
            }
        }
        if began.elapsed() >= STABLE {
            pauses.reset();
        }
    }
}

struct Keeper<'a> {
    state: &'a State,
    config: &'a TailscaleConfig,
    socket: &'a Path,
    restart: &'a Notify,
}

impl Keeper<'_> {
    fn away(&self, why: String) {
        self.state.set_backend(None);
        self.state.set_link(Link::Away { why, remedy: "it is started again by itself".to_owned() });
    }

    fn spawn(&self) -> Result<Child, String> {
        let argv = tailscale::daemon_argv(self.config, self.socket);
        let mut command = guard::command(&argv);
        command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
        command.spawn().map_err(|e| format!("starting tailscaled: {e}"))
    }

    /// Sees to it that it is joined and up; why it must be ended, or has ended.
    async fn watch(&self, daemon: &mut Child) -> String {
        let mut joining: Option<Pending<'_, ()>> = None;
        let mut looking: Option<Pending<'_, Backend>> = None;
        let mut joins = Backoff::new(FIRST_JOIN_PAUSE, LAST_JOIN_PAUSE);
        let mut join_at = Instant::now();
        let mut refusal: Option<String> = None;
        let mut missed = 0;
        let mut look_at = Instant::now();
        loop {
            // Nothing here keeps a death from being seen: neither a client that hangs nor a join that takes its time.
            let looked = tokio::select! {
                status = daemon.wait() => {
                    return match status {
                        Ok(status) => format!("tailscaled ended ({status})"),
                        Err(e) => format!("waiting for tailscaled: {e}"),
                    };
                }
                () = self.restart.notified() => return "nothing came through tailscaled, it was restarted".to_owned(),
                result = ended(&mut joining) => {
                    joining = None;
                    join_at = Instant::now() + joins.pause().max(FIRST_JOIN_PAUSE);
                    refusal = result.err();
                    if let Some(why) = &refusal {
                        tracing::warn!("tailscale up: {why}");
                    }
                    look_at = Instant::now();
                    continue;
                }
                looked = ended(&mut looking) => looked,
                () = sleep_until(look_at), if looking.is_none() => {
                    looking = Some(Box::pin(self.look()));
                    continue;
                }
            };
            looking = None;
            let backend = match looked {
                Ok(backend) => backend,
                Err(why) => {
                    missed += 1;
                    if missed >= MISSED {
                        return format!("tailscaled does not answer ({why}), it was restarted");
                    }
                    look_at = Instant::now() + LOOK_SOON * 2u32.pow(missed.min(4));
                    continue;
                }
            };
            missed = 0;
            if backend.state == BackendState::Running {
                (refusal, join_at) = (None, Instant::now());
                joins.reset();
            }
            let join = tailscale::join(&backend.state, self.config.auth_key.as_ref());
            if join != Join::No && joining.is_none() && Instant::now() >= join_at {
                joining = Some(Box::pin(self.join(join)));
            }
            self.state.set_backend(Some(backend.state.name().to_owned()));
            let key = self.config.auth_key.as_ref();
            self.state.set_link(tailscale::link(&backend, key, refusal.as_deref(), self.socket));
            let pause = match self.state.link() {
                Link::Up => LOOK_LATE,
                Link::Starting { .. } => LOOK_SOON,
                Link::Away { .. } => LOOK,
            };
            look_at = Instant::now() + pause;
        }
    }

    async fn look(&self) -> Result<Backend, String> {
        let rest = ["status", "--json", "--peers=false"].map(OsString::from);
        let argv = tailscale::cli_argv(self.config, self.socket, &rest);
        let out = run(&argv, ANSWERS_WITHIN).await?;
        tailscale::read_status(&out.stdout).map_err(|e| match out.stderr.is_empty() {
            true => e,
            false => tailscale::complaint(&out.stderr, ""),
        })
    }

    async fn join(&self, join: Join) -> Result<(), String> {
        let (path, key) = match (&self.config.auth_key, join) {
            (Some(key), Join::WithKey) => {
                let path = tailscale::key_path(key, std::env::var_os("CREDENTIALS_DIRECTORY").as_deref())?;
                // Read only to know that it is there, and to keep it out of what is said.
                let text = std::fs::read_to_string(&path)
                    .map_err(|e| format!("reading the auth key `{}`: {e}", path.display()))?;
                if text.trim().is_empty() {
                    return Err(format!("the auth key `{}` is empty", path.display()));
                }
                (Some(path), text.trim().to_owned())
            }
            _ => (None, String::new()),
        };
        let up = tailscale::up_args(self.config, path.as_deref());
        let argv = tailscale::cli_argv(self.config, self.socket, &up);
        // It ends by itself at its own `--timeout`, unless it hangs.
        let out = run(&argv, self.config.join_timeout + ANSWERS_WITHIN).await?;
        if out.status.success() { Ok(()) } else { Err(tailscale::complaint(&out.stderr, &key)) }
    }
}

type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, String>> + Send + 'a>>;

async fn ended<T>(pending: &mut Option<Pending<'_, T>>) -> Result<T, String> {
    match pending {
        Some(pending) => pending.await,
        None => std::future::pending().await,
    }
}

async fn run(argv: &[OsString], within: Duration) -> Result<std::process::Output, String> {
    let mut command = guard::command(argv);
    command.stdin(Stdio::null()).kill_on_drop(true);
    match timeout(within, command.output()).await {
        Ok(Ok(out)) => Ok(out),
        Ok(Err(e)) => Err(format!("starting the tailscale client: {e}")),
        Err(_) => Err(format!("no answer within {}", short_duration(within))),
    }
}

/// SIGTERM, and SIGKILL when that is not enough.
async fn end(daemon: &mut Child) {
    // Absent once it was waited for.
    let pid = daemon.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let Some(pid) = pid else { return };
    // It may just have ended, and is not waited for yet, so the pid is still its own.
    let _ = kill_process(pid, Signal::TERM);
    if timeout(ENDS_WITHIN, daemon.wait()).await.is_err() {
        // Fails only when it has ended.
        let _ = daemon.kill().await;
    }
}

//! `supervisor session` and `supervisor agent`: run by systemd, by the daemon and by tmux, not by people.

use super::context::Context;
use super::fault::Fault;
use crate::supervisor::config::HostKind;
use crate::supervisor::launch::{self, LaunchSpec};
use crate::supervisor::names::LoopName;
use crate::supervisor::session::{self, SessionSpec};
use crate::supervisor::store::Layout;
use std::path::PathBuf;
use std::process::ExitCode;

/// Options of `session`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Run by cc-ci-session@LOOP.service and by `supervisor run`, not by people.")]
pub struct SessionArgs {
    /// Whose
    #[arg(value_name = "LOOP")]
    name: LoopName,
    /// Where its folder is [default: the config's runtime_dir]
    #[arg(long, value_name = "DIR")]
    runtime_dir: Option<PathBuf>,
    /// Where the output goes [default: logs/LOOP.log in the config's state_dir]
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Who runs this [default: the config's host]
    #[arg(long, value_enum)]
    host: Option<Host>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Host {
    Systemd,
    Direct,
}

/// Options of `agent`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Run by `supervisor run` in a loop's tmux pane, not by people.")]
pub struct AgentArgs {
    /// Whose
    #[arg(value_name = "LOOP")]
    name: LoopName,
    /// Which start of it
    #[arg(long, value_name = "N")]
    epoch: u64,
    /// What to start [default: launch.json in the loop's session folder]
    #[arg(long, value_name = "FILE")]
    spec: Option<PathBuf>,
}

/// Options of `probe-tcp`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Run by `supervisor run` for `[needs.NAME] tcp = …`, not by people.")]
pub struct ProbeTcpArgs {
    /// Where
    #[arg(value_name = "HOST:PORT")]
    address: String,
}

/// Connects once. A process of its own, because a name may take long to resolve and the daemon waits for nobody; the
/// daemon ends it at its deadline.
pub fn probe_tcp(args: &ProbeTcpArgs) -> anyhow::Result<ExitCode> {
    let address = &args.address;
    match std::net::TcpStream::connect(address.as_str()) {
        Ok(_) => Ok(ExitCode::SUCCESS),
        Err(e) => Err(Fault::Failed(format!("connecting to `{address}`: {e}")).into()),
    }
}

/// Becomes the tmux server of a loop.
pub fn session(context: &Context, args: &SessionArgs) -> anyhow::Result<ExitCode> {
    let host = args.host.map(|host| match host {
        Host::Systemd => HostKind::Systemd,
        Host::Direct => HostKind::Direct,
    });
    let spec = match (&args.runtime_dir, &args.log, host) {
        // The daemon says it all, so that a config that changes meanwhile cannot come between.
        (Some(runtime_dir), Some(log), Some(host)) => {
            SessionSpec { name: args.name.clone(), runtime_dir: runtime_dir.clone(), log: log.clone(), host }
        }
        (runtime_dir, log, host) => {
            let config = context.config()?;
            if !config.loops.contains_key(&args.name) {
                let known = config.loops.keys().map(LoopName::as_str).collect::<Vec<_>>().join(", ");
                let message =
                    format!("starting session `{}`: there is no such loop; the config has {known}", args.name);
                return Err(Fault::Usage(message).into());
            }
            let log = log.clone().unwrap_or_else(|| Layout::new(&config.state_dir).log(&args.name));
            let runtime_dir = runtime_dir.clone().unwrap_or(config.runtime_dir);
            SessionSpec { name: args.name.clone(), runtime_dir, log, host: host.unwrap_or(config.host) }
        }
    };
    match session::run(&spec)? {}
}

/// Becomes the agent of a loop. Its exit codes are its own: they are what the supervisor reads as the agent's death.
pub fn agent(context: &Context, args: &AgentArgs) -> ExitCode {
    let spec = match &args.spec {
        Some(spec) => Ok(spec.clone()),
        None => context.config().map(|c| LaunchSpec::path(&session::session_dir(&c.runtime_dir, &args.name))),
    };
    match spec {
        Ok(spec) => match launch::run(&args.name, args.epoch, &spec) {
            Ok(never) => match never {},
            Err(error) => {
                let code = error.exit_code();
                super::fault::report(&error.into());
                ExitCode::from(code)
            }
        },
        Err(error) => super::fault::report(&error),
    }
}

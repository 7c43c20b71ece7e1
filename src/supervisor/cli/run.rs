//! `supervisor run`: from the config to the daemon.

use super::context::Context;
use super::fault::Fault;
use crate::supervisor::config::report::Severity;
use crate::supervisor::config::{Config, HostKind, check};
use crate::supervisor::core::event::Leave;
use crate::supervisor::daemon::{self, RunOptions};
use anyhow::Context as _;
use std::process::ExitCode;

/// Options of `run`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct RunArgs {
    /// Go on at the phase where it was; so does `run` without it (RESUME_PHASE=1 in the environment means the same)
    #[arg(long)]
    resume_phase: bool,
    /// Begin at this phase instead (zero-based)
    #[arg(long, value_name = "N")]
    from_phase: Option<usize>,
    /// On SIGINT and SIGTERM leave the agents running for the next start, also with `host = "direct"`
    #[arg(long)]
    leave_sessions: bool,
}

impl RunArgs {
    /// The first option that was given.
    pub fn first(&self) -> Option<&'static str> {
        let given = [
            (self.resume_phase, "--resume-phase"),
            (self.from_phase.is_some(), "--from-phase"),
            (self.leave_sessions, "--leave-sessions"),
        ];
        given.into_iter().find(|(given, _)| *given).map(|(_, name)| name)
    }

    /// These, and `other` where these say nothing.
    pub fn or(self, other: Self) -> Self {
        Self {
            resume_phase: self.resume_phase || other.resume_phase,
            from_phase: self.from_phase.or(other.from_phase),
            leave_sessions: self.leave_sessions || other.leave_sessions,
        }
    }
}

/// Runs the daemon until it is told to end.
pub fn run(context: &Context, args: &RunArgs) -> anyhow::Result<ExitCode> {
    let loaded = context.load()?;
    // What does not fit the machine now may fit a minute later (a clone, a secret), and no fault of one loop may keep
    // the others from running: said, and left to the holds.
    let of_machine = check::machine(&loaded.config, &loaded.source, &check::Machine::here());
    for d in loaded.warnings.iter().chain(&of_machine) {
        let text = format!("{}:{}: {}; {}", d.file.display(), d.line, d.message, d.help);
        match d.severity {
            Severity::Error => tracing::error!("{text}"),
            Severity::Warning => tracing::warn!("{text}"),
        }
    }
    let config = loaded.config;
    let from_phase = from_phase(&config, args.from_phase)?;
    let leave = match (config.host, args.leave_sessions) {
        (HostKind::Systemd, _) | (HostKind::Direct, true) => Leave::Sessions,
        (HostKind::Direct, false) => Leave::Nothing,
    };
    // As it was started: session hosts and agents run this very file, also when PATH has another one by then.
    let supervisor = std::env::current_exe().context("finding the supervisor's own program file")?;
    daemon::run(config, RunOptions { from_phase, leave, supervisor })?;
    Ok(ExitCode::SUCCESS)
}

fn from_phase(config: &Config, wanted: Option<usize>) -> Result<Option<usize>, Fault> {
    let Some(index) = wanted else { return Ok(None) };
    let Some(phases) = &config.phases else {
        return Err(Fault::Usage(format!(
            "starting from phase {index}: the config has no `[phases]`; leave the option out"
        )));
    };
    let most = phases.plans.len();
    if index > most {
        let message =
            format!("starting from phase {index}: there are {most} plans; use 0 to {most}, which means complete");
        return Err(Fault::Usage(message));
    }
    Ok(Some(index))
}

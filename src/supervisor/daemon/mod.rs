//! Placeholder: the daemon is written beside this.

use crate::supervisor::config::Config;
use crate::supervisor::core::event::Leave;
use std::process::ExitCode;

/// How the daemon is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunOptions {
    /// Begin at this phase instead of the recorded one.
    pub from_phase: Option<usize>,
    /// What SIGINT and SIGTERM do to the sessions.
    pub leave: Leave,
}

/// Runs until told to end.
///
/// # Errors
/// When it cannot run at all.
pub fn run(_config: Config, _options: RunOptions) -> anyhow::Result<ExitCode> {
    anyhow::bail!("the daemon is not in this build")
}

//! Placeholder for `supervisor demo`.

use std::process::ExitCode;

/// Options of `demo`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Leave the temporary folder there afterwards
    #[arg(long)]
    pub keep: bool,
}

/// Shows everything at work.
pub fn run(_args: &Args) -> anyhow::Result<ExitCode> {
    anyhow::bail!("the demo is not in this build")
}

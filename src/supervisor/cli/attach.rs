//! `supervisor attach` and `supervisor logs`: an agent's screen, and what it printed. Both become another program.

use super::context::{Context, QUICK};
use super::fault::Fault;
use crate::supervisor::config::Config;
use crate::supervisor::control::client::ClientError;
use crate::supervisor::control::protocol::Request;
use crate::supervisor::names::LoopName;
use crate::supervisor::store::Layout;
use crate::supervisor::{session, tmux};
use std::io::{IsTerminal, stdin, stdout};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Options of `attach`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Ctrl-] detaches; every other key reaches the agent. Restarts of the agent do not detach you.")]
pub struct Args {
    /// The loop
    #[arg(value_name = "LOOP")]
    name: LoopName,
    /// Only look: no key reaches the agent
    #[arg(long)]
    read_only: bool,
}

/// Options of `logs`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  supervisor logs builder -f")]
pub struct LogsArgs {
    /// The loop
    #[arg(value_name = "LOOP")]
    name: LoopName,
    /// Go on with what comes, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
}

/// Becomes tmux.
pub fn run(context: &Context, args: &Args) -> anyhow::Result<()> {
    let name = &args.name;
    if !stdin().is_terminal() || !stdout().is_terminal() {
        let message =
            format!("attaching to `{name}`: this is no terminal; run it in one (`ssh -t`), or use `supervisor logs`");
        return Err(Fault::Usage(message).into());
    }
    let config = context.config()?;
    known(&config, name)?;
    // It makes the socket again if somebody removed it. Without a supervisor the agent may run on all the same.
    let answer = context.ask(Request::Attach { name: name.clone() }, QUICK);
    if let Err(error) = answer {
        if !matches!(error.downcast_ref(), Some(ClientError::NotRunning(_))) {
            return Err(error);
        }
        eprintln!("supervisor: {error:#}; attaching all the same");
    }
    let socket = session::socket(&config.runtime_dir, name);
    if !socket.exists() {
        let message = format!(
            "attaching to `{name}`: there is no tmux server at `{}`; see `supervisor explain {name}`",
            socket.display()
        );
        return Err(Fault::NotNow(message).into());
    }
    eprintln!("Detach with Ctrl-{}; the agent goes on.", tmux::DETACH_KEY.trim_start_matches("C-"));
    let mut command = Command::new("tmux");
    // Inside another tmux, its client would refuse to nest.
    command.env_remove("TMUX").arg("-u").arg("-S").arg(&socket).arg("attach-session");
    if args.read_only {
        command.arg("-r");
    }
    command.args(["-t", &format!("={name}")]);
    Err(anyhow::Error::new(command.exec()).context("starting `tmux`; install it and have it in PATH"))
}

/// Becomes tail.
pub fn logs(context: &Context, args: &LogsArgs) -> anyhow::Result<()> {
    let config = context.config()?;
    known(&config, &args.name)?;
    let log = Layout::new(&config.state_dir).log(&args.name);
    if !log.exists() {
        let message = format!(
            "reading the log `{}`: it is not there, since `{}` was never started; see `supervisor status`",
            log.display(),
            args.name
        );
        return Err(Fault::Failed(message).into());
    }
    let mut command = Command::new("tail");
    command.args(["-n", "200"]);
    if args.follow {
        // By name: the log is rotated by renaming.
        command.arg("-F");
    }
    command.arg("--").arg(&log);
    Err(anyhow::Error::new(command.exec()).context("starting `tail`"))
}

/// The refusal of a name that the config does not have.
pub fn known(config: &Config, name: &LoopName) -> Result<(), Fault> {
    if config.loops.contains_key(name) {
        return Ok(());
    }
    let all = config.loops.keys().map(LoopName::as_str).collect::<Vec<_>>().join(", ");
    Err(Fault::Usage(format!("there is no loop `{name}`; the config has {all}")))
}

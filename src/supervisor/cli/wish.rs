//! What an operator wants of the loops: start, stop, restart, freeze, thaw, drain, nudge.

use super::context::{Context, PATIENT, QUICK, odd};
use super::fault::Fault;
use super::out::print;
use crate::supervisor::control::protocol::{self, Request, Response};
use crate::supervisor::names::LoopName;
use crate::support::clock::millis;
use crate::support::units::parse_duration;
use std::time::Duration;

/// Which loops.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  supervisor restart builder\n  supervisor start --all")]
pub struct Which {
    /// The loops' names
    #[arg(value_name = "LOOP", required_unless_present = "all", conflicts_with = "all")]
    loops: Vec<LoopName>,
    /// Every loop of the config
    #[arg(long)]
    all: bool,
}

impl Which {
    fn which(&self) -> protocol::Which {
        if self.all { protocol::Which::All } else { protocol::Which::Loops(self.loops.clone()) }
    }
}

/// Options of `drain`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Loops that came to a safe point stay held until `supervisor start --all`. \
    Exit code 3 when not all did in time.")]
pub struct DrainArgs {
    /// Give up after this long: `90s`, `10m`, `2h`
    #[arg(long, value_name = "D", default_value = "10m", value_parser = parse_duration)]
    timeout: Duration,
}

/// Options of `nudge`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  supervisor nudge builder \"the tests on main fail, look at them first\"")]
pub struct NudgeArgs {
    /// The loop whose agent it is for
    #[arg(value_name = "LOOP")]
    name: LoopName,
    /// What is typed; several words need no quotes
    #[arg(value_name = "TEXT", required = true)]
    text: Vec<String>,
    /// Who says it, from inside a loop [default: $CC_CI_LOOP]
    #[arg(long = "loop", value_name = "LOOP")]
    from: Option<LoopName>,
}

/// Starts loops.
pub fn start(context: &Context, which: &Which) -> anyhow::Result<()> {
    done(context.ask(Request::Start { which: which.which() }, PATIENT)?)
}

/// Stops loops.
pub fn stop(context: &Context, which: &Which) -> anyhow::Result<()> {
    done(context.ask(Request::Stop { which: which.which() }, PATIENT)?)
}

/// Stops and starts loops.
pub fn restart(context: &Context, which: &Which) -> anyhow::Result<()> {
    done(context.ask(Request::Restart { which: which.which() }, PATIENT)?)
}

/// Stops every agent in place.
pub fn freeze(context: &Context) -> anyhow::Result<()> {
    done(context.ask(Request::Freeze, QUICK)?)
}

/// Lets them go on.
pub fn thaw(context: &Context) -> anyhow::Result<()> {
    done(context.ask(Request::Thaw, QUICK)?)
}

/// Brings every loop to a safe point.
pub fn drain(context: &Context, args: &DrainArgs) -> anyhow::Result<()> {
    // The daemon keeps the time, since it holds the loops; the rest is for its answer.
    let within = args.timeout + Duration::from_secs(30);
    done(context.ask(Request::Drain { timeout_ms: millis(args.timeout) }, within)?)
}

/// Types a text into an agent.
pub fn nudge(context: &Context, args: NudgeArgs) -> anyhow::Result<()> {
    let text = args.text.join(" ");
    if text.trim().is_empty() {
        return Err(
            Fault::Usage(format!("nudging `{}`: the text is empty; say what it is to be told", args.name)).into()
        );
    }
    // Typed into a pane of tmux, which has a deadline of its own for each piece.
    let within = Duration::from_secs(60);
    done(context.ask_as(args.from, Request::Nudge { name: args.name, text }, within)?)
}

/// Prints what was done.
pub fn done(response: Response) -> anyhow::Result<()> {
    match response {
        Response::Done { lines } => print(&lines.iter().map(|line| format!("{line}\n")).collect::<String>()),
        other => Err(odd(&other)),
    }
}

//! `supervisor phase`: the plan that the loops work on.

use super::context::{Context, QUICK, odd};
use super::last_known;
use super::out::{print, print_json};
use super::wish::done;
use crate::supervisor::control::protocol::{Request, Response};
use crate::supervisor::core::view::{self, PhaseView};

/// What is asked.
#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// Show which phase is current
    Show {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Make a phase the current one
    Set {
        /// Zero-based; the number of plans means complete
        #[arg(value_name = "N")]
        index: usize,
    },
    /// Make the next phase the current one, gate or not
    Advance,
}

/// Runs `phase`.
pub fn run(context: &Context, verb: &Verb) -> anyhow::Result<()> {
    match verb {
        Verb::Show { json } => {
            let phase = show(context)?;
            if *json { print_json(&phase) } else { print(&format!("{}\n", phase.text())) }
        }
        Verb::Set { index } => moved(context.ask(Request::PhaseSet { index: *index }, QUICK)?),
        Verb::Advance => moved(context.ask(Request::PhaseAdvance, QUICK)?),
    }
}

fn show(context: &Context) -> anyhow::Result<PhaseView> {
    match context.ask_if_running(Request::PhaseShow)? {
        Some(Response::Phase(phase)) => Ok(phase),
        Some(other) => Err(odd(&other)),
        None => Ok(view::phase_view(&last_known::read(context.config()?)?.world)),
    }
}

fn moved(response: Response) -> anyhow::Result<()> {
    match response {
        Response::Phase(phase) => print(&format!("{}\n", phase.text())),
        other => done(other),
    }
}

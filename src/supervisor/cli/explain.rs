//! `supervisor explain LOOP`: what it does, what was decided last and on which evidence, what happens next.

use super::attach::known;
use super::context::{Context, odd};
use super::history::{flatten, show};
use super::last_known;
use super::out::{Style, Tone, clean, print, wrap};
use crate::supervisor::control::protocol::{Request, Response};
use crate::supervisor::core::view::ExplainView;
use crate::supervisor::journal::{self, Entry};
use crate::supervisor::names::LoopName;

/// So many decisions are shown.
const DECISIONS: usize = 5;

/// Options of `explain`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  supervisor explain builder")]
pub struct Args {
    /// The loop
    #[arg(value_name = "LOOP")]
    name: LoopName,
}

/// Runs `explain`.
pub fn run(context: &Context, args: &Args) -> anyhow::Result<()> {
    let name = &args.name;
    let config = context.config()?;
    let journal = config.state_dir.clone();
    let view = match context.ask_if_running(Request::Explain { name: name.clone() })? {
        Some(Response::Explain(view)) => *view,
        Some(other) => return Err(odd(&other)),
        None => {
            known(&config, name)?;
            last_known::read(config)?.explain(name)?
        }
    };
    // The journal is read here and not in the daemon, whose loops must not wait for the disk.
    let decisions = journal::tail(&journal, DECISIONS, Some(name))?;
    print(&text(&view, &decisions, Style::of_stdout()))
}

fn text(explain: &ExplainView, decisions: &[Entry], style: Style) -> String {
    let view = &explain.view;
    let mut out = format!("{}\n", style.paint(Tone::Strong, view.name.as_str()));
    out.push_str(&wrap(&format!("  {}", clean(&explain.doing)), 4));
    let facts = [
        view.phase.map(|phase| format!("works in phase {phase}")),
        view.waits_for.as_ref().map(|what| format!("waits for: {}", clean(what))),
        view.last_death.as_ref().map(|death| format!("died last: {}", clean(death))),
        (view.restarts > 0).then(|| format!("restarts after deaths: {}", view.restarts)),
    ];
    for fact in facts.into_iter().flatten() {
        out.push_str(&wrap(&format!("  {fact}"), 4));
    }
    out.push_str(&format!("\n{}\n", style.paint(Tone::Strong, "What happens next")));
    for next in &explain.next {
        out.push_str(&wrap(&format!("  {}", clean(next)), 4));
    }
    out.push_str(&format!("\n{}\n", style.paint(Tone::Strong, "What was decided last (newest first)")));
    for entry in decisions.iter().rev() {
        out.push_str(&show(entry).lines().map(|line| format!("  {line}\n")).collect::<String>());
        let evidence = flatten(&entry.evidence);
        if !evidence.is_empty() {
            out.push_str(&wrap(&format!("      on: {evidence}"), 10));
        }
    }
    if decisions.is_empty() {
        out.push_str("  nothing yet\n");
    }
    out
}

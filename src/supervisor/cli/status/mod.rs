//! `supervisor status`: what every loop is doing, from the daemon or, without one, from what it wrote last.

mod table;

use super::context::{Context, odd};
use super::fault::Fault;
use super::last_known;
use super::out::{Style, print, print_json};
use crate::supervisor::control::protocol::{Request, Response};
use crate::supervisor::core::view::StatusView;
use crate::support::process::memory::memory;
use crate::support::process::{ProcId, tree};
use std::io::{IsTerminal, stdout};
use std::time::Duration;

/// Options of `status`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Works without a running supervisor, too: then it shows what was written last, and says so.\n\
    The shape of --json is described in docs/status.md.")]
pub struct Args {
    /// As JSON
    #[arg(long, conflicts_with = "watch")]
    json: bool,
    /// Show it anew each second, until Ctrl-C
    #[arg(long)]
    watch: bool,
}

/// Runs `status`.
pub fn run(context: &Context, args: &Args) -> anyhow::Result<()> {
    if args.watch && !stdout().is_terminal() {
        let message =
            "watching the status: stdout is no terminal; leave --watch out, or use `watch -n1 supervisor status`";
        return Err(Fault::Usage(message.to_owned()).into());
    }
    let style = Style::of_stdout();
    loop {
        let (status, notes) = read(context)?;
        if args.json {
            return print_json(&status);
        }
        let mut text = table::text(&status, &notes, style);
        if !args.watch {
            return print(&text);
        }
        // Each line is erased to its end as it is written, and what is below afterwards: a cleared screen flickers.
        text = text.replace('\n', "\x1b[K\n");
        print(&format!("\x1b[H{text}\x1b[J"))?;
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn read(context: &Context) -> anyhow::Result<(StatusView, Vec<String>)> {
    let (mut status, notes) = match context.ask_if_running(Request::Status)? {
        Some(Response::Status(status)) => (*status, Vec::new()),
        Some(other) => return Err(odd(&other)),
        None => {
            let known = last_known::read(context.config()?)?;
            (known.status(), known.notes)
        }
    };
    for l in &mut status.loops {
        if let (None, Some(pid)) = (l.memory, l.pid) {
            l.memory = memory_of(pid);
        }
    }
    Ok((status, notes))
}

/// Of a process and all below it, in bytes; `None` when it cannot be seen, which a status must not fail for.
fn memory_of(pid: i32) -> Option<u64> {
    let mut all = tree::descendants(pid).ok()?;
    all.extend(ProcId::of(pid).ok()?);
    memory(&all).ok().map(|m| m.bytes).filter(|bytes| *bytes > 0)
}

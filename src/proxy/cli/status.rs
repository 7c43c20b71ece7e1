//! `proxy-shim status`.

use super::print;
use crate::proxy::config::Config;
use crate::proxy::control;
use crate::proxy::state::StatusView;
use crate::support::units::{short_duration, short_size};
use anyhow::Context as _;
use std::fmt::Write;
use std::time::Duration;

/// Answered from memory.
pub const WITHIN: Duration = Duration::from_secs(5);

/// Arguments of `status`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// Asks the running proxy and shows what it says.
pub fn run(config: &Config, args: &Args) -> anyhow::Result<()> {
    let view = control::status(&config.runtime_dir, WITHIN)?;
    if args.json {
        let json = serde_json::to_string_pretty(&view).context("writing the status as JSON")?;
        return print(&format!("{json}\n"));
    }
    print(&text(&view))
}

/// A status for people.
pub fn text(view: &StatusView) -> String {
    let mut out = String::new();
    let since = short_duration(Duration::from_millis(view.for_ms));
    let c = &view.connections;
    let mut line = |name: &str, text: String| {
        // Into a String nothing fails.
        let _ = writeln!(out, "{name:<12} {text}");
    };
    line("way out", format!("{} for {since} (since {})", view.link.text(), view.since));
    let backend = view.backend.as_ref().map_or(String::new(), |state| format!(", state {state}"));
    let starts = if view.starts > 1 { format!(", tailscaled started {} times", view.starts) } else { String::new() };
    line("upstream", format!("{}{backend}{starts}", view.upstream));
    line("listening", format!("{} (pid {}, version {})", view.listen, view.pid, view.version));
    let waiting = if c.waiting > 0 { format!(" ({} waiting)", c.waiting) } else { String::new() };
    let counts = format!("{} open{waiting} of at most {}, {} in all, {} failed", c.open, c.most, c.total, c.failed);
    line("connections", counts);
    line("bytes", format!("{} up, {} down", short_size(c.bytes_up), short_size(c.bytes_down)));
    for (name, probe) in &view.probes {
        let at = probe.at.as_deref().unwrap_or_default();
        let took = probe.took_ms.unwrap_or_default();
        let result = match (probe.passed, &probe.why) {
            (Some(true), _) => format!("passed in {took} ms at {at}"),
            (Some(false), why) => format!("FAILED at {at}: {}", why.as_deref().unwrap_or("no reason is known")),
            (None, _) => "not yet".to_owned(),
        };
        line("probe", format!("{name} ({}): {result}", probe.target));
    }
    for failure in &view.failures {
        let target = failure.target.as_ref().map_or(String::new(), |target| format!("{target}: "));
        line("failure", format!("{} {target}{}", failure.at, failure.why));
    }
    out
}

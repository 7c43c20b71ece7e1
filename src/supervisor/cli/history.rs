//! `supervisor history`: the journal, for people and for scripts.

use super::attach::known;
use super::context::Context;
use super::out::{clean, print, wrap};
use crate::supervisor::journal::{self, Entry};
use crate::supervisor::names::LoopName;
use crate::support::clock::format_time;
use serde_json::Value;
use std::num::NonZeroUsize;

/// Options of `history`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  supervisor history builder -n 5\n  supervisor history --json | jq .decision")]
pub struct Args {
    /// Only what is about this loop
    #[arg(value_name = "LOOP")]
    name: Option<LoopName>,
    /// So many of the newest
    #[arg(short = 'n', value_name = "N", default_value = "50")]
    number: NonZeroUsize,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

/// Runs `history`.
pub fn run(context: &Context, args: &Args) -> anyhow::Result<()> {
    let config = context.config()?;
    let recorded = || crate::supervisor::store::Layout::new(&config.state_dir);
    if let Some(name) = &args.name {
        // A loop that was taken out of the config still has a history.
        if !recorded().loop_record(name).exists() {
            known(&config, name)?;
        }
    }
    let entries = journal::tail(&config.state_dir, args.number.get(), args.name.as_ref())?;
    let mut text = String::new();
    for entry in &entries {
        if args.json {
            text.push_str(&serde_json::to_string(entry)?);
            text.push('\n');
        } else {
            text.push_str(&show(entry));
        }
    }
    if entries.is_empty() && !args.json {
        text.push_str("nothing was decided yet\n");
    }
    print(&text)
}

/// An entry in a line or a few.
pub fn show(entry: &Entry) -> String {
    let whose = match (&entry.loop_name, entry.epoch) {
        (Some(name), Some(epoch)) => format!("{name} #{epoch}"),
        (Some(name), None) => name.to_string(),
        (None, _) => "all".to_owned(),
    };
    let mut line = format!("{} {whose} {}: {}", format_time(entry.at.wall), clean(&entry.decision), clean(&entry.why));
    if let Some(next) = &entry.next {
        line.push_str(&format!("; next: {}", clean(next)));
    }
    wrap(&line, 4)
}

/// Evidence as `key=value` words; what is nested has its keys joined with a dot.
pub fn flatten(evidence: &Value) -> String {
    let mut words = Vec::new();
    collect(evidence, String::new(), &mut words);
    words.join(" ")
}

fn collect(value: &Value, path: String, words: &mut Vec<String>) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    let text = match value {
        Value::Null => return,
        Value::Object(fields) => {
            for (key, value) in fields {
                collect(value, below(&clean(key)), words);
            }
            return;
        }
        Value::Array(items) if items.iter().any(|i| i.is_object() || i.is_array()) => {
            for (index, value) in items.iter().enumerate() {
                collect(value, below(&index.to_string()), words);
            }
            return;
        }
        Value::Array(items) => items.iter().map(scalar).collect::<Vec<_>>().join(","),
        other => scalar(other),
    };
    let text = if text.is_empty() || text.contains(' ') { format!("{text:?}") } else { text };
    words.push(if path.is_empty() { text } else { format!("{path}={text}") });
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => clean(text),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::clock::Now;
    use serde_json::json;

    #[test]
    fn evidence_reads_as_words() {
        let evidence =
            json!({ "cause": { "signal": 9, "name": "SIG\nKILL" }, "ran": "2m 3s", "pids": [1, 2], "no": null });
        assert_eq!(flatten(&evidence), r#"cause.name="SIG KILL" cause.signal=9 pids=1,2 ran="2m 3s""#);
        assert_eq!(flatten(&Value::Null), "");
        assert_eq!(flatten(&json!([{ "a": "" }])), r#"0.a="""#);
    }

    #[test]
    fn an_entry_says_when_whose_what_why_and_what_next() {
        let mut entry = Entry::new(Now { wall: 0, boot: 0 }, "restart", "it was killed\x1b[2J");
        assert_eq!(show(&entry), "1970-01-01 00:00:00Z all restart: it was killed [2J\n");
        entry.loop_name = Some("builder".parse().unwrap());
        entry.epoch = Some(3);
        entry.next = Some("backoff".into());
        assert_eq!(show(&entry), "1970-01-01 00:00:00Z builder #3 restart: it was killed [2J; next: backoff\n");
    }
}

//! `status`: what is known of each secret, as a table or as JSON.

use super::{parse, say};
use crate::secrets::record::Record;
use crate::secrets::status::{FileState, Status, status};
use crate::supervisor::cli::out::{self, Style, Tone, pad};
use std::path::Path;
use unicode_width::UnicodeWidthStr;

pub(super) fn run(manifest: &Path, json: bool) -> anyhow::Result<()> {
    let manifest = parse(manifest)?.value;
    let (record, note) = Record::inspect(&manifest.state_dir)?;
    if let Some(note) = note {
        say(&format!("secrets-placer: {note}"));
    }
    let status = status(&manifest, &record);
    if json { out::print_json(&status) } else { out::print(&table(&status, Style::of_stdout())) }
}

fn table(status: &Status, style: Style) -> String {
    let widest = |of: &dyn Fn(usize) -> usize| (0..status.secrets.len()).map(of).max().unwrap_or(0);
    let name = widest(&|i| status.secrets[i].name.width());
    let path = widest(&|i| status.secrets[i].path.to_string_lossy().width());
    let mut text = String::new();
    for secret in &status.secrets {
        let (word, tone) = match secret.state {
            FileState::Placed => ("placed ", Tone::Good),
            FileState::Missing => ("missing", Tone::Bad),
            FileState::Changed => ("changed", Tone::Bad),
            FileState::Foreign => ("foreign", Tone::Waiting),
            FileState::Unknown => ("unknown", Tone::Bad),
        };
        let (shown, detail) = (secret.path.to_string_lossy(), out::clean(&secret.detail));
        let word = style.paint(tone, word);
        text += &format!("{}  {word}  {}  {detail}\n", pad(&secret.name, name), pad(&shown, path));
    }
    for stale in &status.stale {
        text += &format!("stale: {}, which `secrets-placer prune` removes\n", stale.display());
    }
    text
}

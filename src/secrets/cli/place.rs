//! `place`, `check` and `prune`: reads everything, decides with the library, prints.

use super::{From, load, parse, say};
use crate::secrets::bootstrap;
use crate::secrets::manifest::Manifest;
use crate::secrets::record::{Lock, Record};
use crate::secrets::source::{self, Item, Origin};
use crate::secrets::survey::{Stop, survey, told};
use crate::secrets::worker::State;
use crate::secrets::{place as placing, prune as pruning, services};
use crate::supervisor::cli::fault::Fault;
use crate::supervisor::cli::out::print;
use crate::support::clock::Now;
use std::path::Path;

pub(super) fn place(from: &From) -> anyhow::Result<()> {
    let (manifest, identities) = load(&from.at.manifest)?;
    let _lock = lock(&manifest)?;
    let now = Now::read().wall;
    let items = items(from, &manifest, &identities, now)?;
    let (mut record, note) = Record::read(&manifest.state_dir)?;
    say_each(&note);
    let mut crews = survey(&items).map_err(|stop| stopped(stop, "nothing was changed"))?;
    let before = record.clone();
    let done = placing::place(&mut crews, &mut record, &manifest.state_dir, now)?;
    let done = done.map_err(|stop| stopped(stop, "nothing was changed"))?;
    let mut failed = done.failed;
    if failed.is_empty() {
        failed = services::settle(&mut record);
    }
    if record != before {
        record.write(&manifest.state_dir)?;
    }
    let mut text: String = done.placed.iter().map(|line| format!("{line}\n")).collect();
    let (all, placed) = (items.len(), done.placed.len());
    text += &format!("{}, {placed} placed, {} as they were\n", count(all), all - placed);
    print(&text)?;
    if failed.is_empty() {
        return Ok(());
    }
    say_each(&failed);
    Err(Fault::Failed(format!("placing secrets: {} failed; see above", failed.len())).into())
}

pub(super) fn check(from: &From) -> anyhow::Result<()> {
    let (manifest, identities) = load(&from.at.manifest)?;
    let items = items(from, &manifest, &identities, Now::read().wall)?;
    let crews = survey(&items).map_err(|stop| stopped(stop, "these cannot be placed"))?;
    let differing = crews.iter().flat_map(|crew| &crew.items).filter(|(_, state)| *state != State::Same);
    let line = |(item, state): &(&Item, State)| {
        format!("`{}` at `{}`: {}\n", item.name, item.entry.path.display(), told(state, item))
    };
    let mut lines: Vec<String> = differing.map(line).collect();
    let (record, note) = Record::inspect(&manifest.state_dir)?;
    say_each(&note);
    lines.extend(pruning::stale(&manifest, &record).iter().map(|path| {
        format!(
            "`{}`: an earlier manifest placed it, and this one does not name it; `prune` removes it\n",
            path.display()
        )
    }));
    lines.sort();
    print(&format!("{}{}, {}\n", lines.concat(), count(items.len()), differences(lines.len())))?;
    if lines.is_empty() { Ok(()) } else { Err(Fault::Said.into()) }
}

pub(super) fn check_static(manifest: &Path) -> anyhow::Result<()> {
    let parsed = parse(manifest)?;
    print(&format!("{}: the manifest is sound\n", count(parsed.value.secrets.len())))
}

pub(super) fn prune(manifest: &Path) -> anyhow::Result<()> {
    // Users that are gone are no reason to keep files.
    let manifest = parse(manifest)?.value;
    let _lock = lock(&manifest)?;
    let (mut record, note) = Record::read(&manifest.state_dir)?;
    say_each(&note);
    let before = record.clone();
    let done = pruning::prune(&manifest, &mut record)?;
    if record != before {
        record.write(&manifest.state_dir)?;
    }
    let text: String = done.removed.iter().map(|line| format!("{line}\n")).collect();
    print(&format!("{text}{} removed\n", done.removed.len()))?;
    if done.left.is_empty() {
        return Ok(());
    }
    say_each(&done.left);
    Err(Fault::Failed(format!("removing stale secrets: {} were left; see above", done.left.len())).into())
}

fn items(
    from: &From,
    manifest: &Manifest,
    identities: &std::collections::BTreeMap<
        crate::secrets::manifest::SecretName,
        crate::secrets::manifest::accounts::Identity,
    >,
    now: i64,
) -> anyhow::Result<Vec<Item>> {
    let origin = match &from.sops {
        Some(file) => {
            let key_file = from.key_file.as_deref().unwrap_or(&manifest.age_key_file);
            Origin::Sops { file: file.clone(), values: bootstrap::decrypt(file, key_file)? }
        }
        None => Origin::Manifest { credentials: std::env::var_os("CREDENTIALS_DIRECTORY").map(Into::into) },
    };
    match source::load(manifest, identities, &origin, now / 1000) {
        Ok((items, warnings)) => {
            warnings.iter().for_each(|warning| say(&format!("warning: {warning}")));
            Ok(items)
        }
        Err(wrong) => Err(stopped(Stop::Refused(wrong), "nothing was changed")),
    }
}

/// Says each reason, and sums them up with what that means for all.
fn stopped(stop: Stop, so: &str) -> anyhow::Error {
    match stop {
        Stop::Lost(lost) => lost.into(),
        Stop::Refused(mut reasons) => {
            reasons.dedup();
            say_each(&reasons);
            Fault::Failed(format!("checking all secrets first: {} cannot be placed; {so}", reasons.len())).into()
        }
    }
}

fn lock(manifest: &Manifest) -> anyhow::Result<Lock> {
    Lock::take(&manifest.state_dir)?.ok_or_else(|| {
        let folder = manifest.state_dir.display();
        Fault::NotNow(format!("locking `{folder}`: another secrets-placer is at work; try again when it is done"))
            .into()
    })
}

fn say_each<'t>(lines: impl IntoIterator<Item = &'t String>) {
    lines.into_iter().for_each(|line| say(&format!("secrets-placer: {line}")));
}

fn count(secrets: usize) -> String {
    if secrets == 1 { "1 secret".to_owned() } else { format!("{secrets} secrets") }
}

fn differences(count: usize) -> String {
    match count {
        0 => "no difference".to_owned(),
        1 => "1 difference".to_owned(),
        count => format!("{count} differences"),
    }
}

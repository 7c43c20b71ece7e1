//! The one secret that no other can decrypt: the machine's age key, put in its place once, and shown to be the right one.

use super::content::{Content, LARGEST};
use super::format::identities;
use super::manifest::accounts::Identity;
use super::sops::Encrypted;
use super::worker::link::Worker;
use super::worker::{Answer, Difference, Request, State, Sync, Target};
use crate::supervisor::cli::fault::Fault;
use crate::support::config::text::read_text;
use anyhow::{Context, anyhow};
use std::path::Path;

/// No sops file of secrets is near this.
const LARGEST_SOPS: u64 = 16 << 20;

/// What to do with another key that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Other {
    /// Refuse.
    Keep,
    /// Replace it.
    Replace,
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// It was there, as it should be.
    Unchanged,
    /// It is there now.
    Placed,
}

/// A sops file that is not decrypted.
///
/// # Errors
/// When it cannot be read, or is none.
pub fn read_sops(file: &Path) -> anyhow::Result<Encrypted> {
    let doing = || format!("reading the sops file `{}`", file.display());
    let text =
        read_text(file, LARGEST_SOPS).map_err(|e| anyhow!("{}: {e}; name another with `--sops FILE`", doing()))?;
    Encrypted::read(&text).with_context(doing)
}

/// Puts a key in its place, after it has decrypted the sops file.
///
/// # Errors
/// When it is no key, or not one of that file, or another is there; then nothing has changed.
pub fn place(key: &Content, sops: &Path, path: &Path, other: Other) -> anyhow::Result<Done> {
    let own = identities(key.bytes()).map_err(|bad| anyhow!("reading the age key from stdin: {bad}"))?;
    let encrypted = read_sops(sops)?;
    let shown = sops.display();
    if !encrypted.is_for(&own) {
        let public: Vec<_> = own.iter().map(|key| format!("`{}`", key.to_public())).collect();
        return Err(anyhow!(
            "checking the age key with `{shown}`: its public key {} is none of the file's recipients; give the key of this \
             machine, or add it to .sops.yaml and run `sops updatekeys {shown}`",
            public.join(", ")
        ));
    }
    encrypted.decrypt(&own).with_context(|| format!("decrypting `{shown}` with the age key"))?;
    let root = Identity { uid: 0, gid: 0, primary: 0, groups: Vec::new(), name: "root".to_owned() };
    let target = Target { path: path.to_owned(), uid: 0, gid: 0, mode: 0o400 };
    let mut worker = Worker::start(&root)?.map_err(Fault::Failed)?;
    let state = match worker.ask(Request::Inspect(target.clone()), Some(key))?.map_err(Fault::Failed)? {
        Answer::Found(state) => state,
        answer => return Err(anyhow!("placing the age key: the worker answered {answer:?}; please report this")),
    };
    match &state {
        State::Same => return Ok(Done::Unchanged),
        State::Differs(all) if all.contains(&Difference::Content) && other == Other::Keep => {
            return Err(anyhow!(
                "placing the age key at `{}`: a different one is there; keep it, or give `--replace`",
                path.display()
            ));
        }
        State::Differs(_) | State::Missing => {}
    }
    worker.ask(Request::Stage(target, Sync::Each), Some(key))?.map_err(Fault::Failed)?;
    match worker.ask(Request::Commit, None)?.map_err(Fault::Failed)? {
        Answer::Committed(failed) => match failed.into_iter().next() {
            None => Ok(Done::Placed),
            Some((_, told)) => Err(Fault::Failed(told).into()),
        },
        answer => Err(anyhow!("placing the age key: the worker answered {answer:?}; please report this")),
    }
}

/// The values of a sops file, with the key of this machine.
///
/// # Errors
/// When the key or the file cannot be used.
pub fn decrypt(sops: &Path, key_file: &Path) -> anyhow::Result<super::sops::Values> {
    let doing = || format!("reading the age key `{}`", key_file.display());
    let mut file = match std::fs::File::open(key_file) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let remedy = "put the machine's key in its place with `secrets-placer bootstrap-key`";
            return Err(anyhow!("{}: it is not there; {remedy}", doing()));
        }
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
            return Err(anyhow!("{}: permission denied; run it as root", doing()));
        }
        Err(e) => return Err(anyhow!("{}: {e}; look at that file", doing())),
    };
    let read = Content::of_file(&mut file).map_err(|e| anyhow!("{}: {e}; look at that file", doing()))?;
    let key = read.ok_or_else(|| {
        anyhow!("{}: it has more than {LARGEST} bytes, which no key has; name another with `--key-file FILE`", doing())
    })?;
    let own = identities(key.bytes()).map_err(|bad| anyhow!("{}: {bad}", doing()))?;
    read_sops(sops)?.decrypt(&own).with_context(|| format!("decrypting `{}`", sops.display()))
}

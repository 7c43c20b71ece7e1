//! Reads every secret from where it comes from, and judges all of them before any is placed.

use super::content::{Content, LARGEST};
use super::format;
use super::manifest::accounts::Identity;
use super::manifest::{Entry, Manifest, SecretName, Source};
use super::worker::Target;
use rustix::fs::{Mode, OFlags};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A secret that may be placed.
#[derive(Debug, Clone)]
pub struct Item {
    /// Its name.
    pub name: SecretName,
    /// What the manifest says of it.
    pub entry: Entry,
    /// As whom it is written.
    pub identity: Identity,
    /// What is written.
    pub content: Content,
}

impl Item {
    /// What its file must be.
    pub fn target(&self) -> Target {
        let Identity { uid, gid, .. } = self.identity;
        Target { path: self.entry.path.clone(), uid, gid, mode: self.entry.mode }
    }
}

/// Where contents come from.
#[derive(Debug, Clone)]
pub enum Origin {
    /// From what the manifest says; the folder is `$CREDENTIALS_DIRECTORY`.
    Manifest {
        /// Where systemd put the service's credentials.
        credentials: Option<PathBuf>,
    },
    /// All from one sops file.
    Sops {
        /// It.
        file: PathBuf,
        /// Its values.
        values: super::sops::Values,
    },
}

/// The secrets, and what will soon be wrong with one.
pub type Loaded = (Vec<Item>, Vec<String>);

/// Reads and judges all. `now` is in seconds since the Unix epoch.
///
/// # Errors
/// All that is wrong, each with the secret's name.
pub fn load(
    manifest: &Manifest,
    identities: &BTreeMap<SecretName, Identity>,
    origin: &Origin,
    now: i64,
) -> Result<Loaded, Vec<String>> {
    let (mut items, mut warnings, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
    for (name, entry) in &manifest.secrets {
        let Some(identity) = identities.get(name) else { continue };
        let (from, content) = content(entry, origin);
        let content = match content {
            Ok((content, warning)) => {
                warnings.extend(warning.map(|w| format!("checking the secret `{name}`{from}: {w}")));
                content
            }
            Err(told) => {
                wrong.push(format!("reading the secret `{name}`{from}: {told}"));
                continue;
            }
        };
        match format::check(entry.format, &content, &entry.required_keys, now) {
            Ok(found) => {
                warnings.extend(found.into_iter().map(|w| format!("checking the secret `{name}`{from}: {w}")));
                let (name, entry, identity) = (name.clone(), entry.clone(), identity.clone());
                items.push(Item { name, entry, identity, content });
            }
            Err(bad) => {
                let format = entry.format.name();
                wrong.push(format!("checking the secret `{name}`{from} as `{format}`: {bad}"));
            }
        }
    }
    for item in &items {
        let key = item.entry.private_key.as_ref();
        // One that is missing here was told of above.
        if let Some(key) = key.and_then(|key| items.iter().find(|other| other.name == *key))
            && let Err(bad) = format::matches(item.content.bytes(), key.content.bytes(), now)
        {
            wrong.push(format!("checking the secret `{}` with its private key `{}`: {bad}", item.name, key.name));
        }
    }
    if wrong.is_empty() { Ok((items, warnings)) } else { Err(wrong) }
}

type Told = String;

/// Where it comes from, as a part of a message, and the content with what should be mended about its source.
fn content(entry: &Entry, origin: &Origin) -> (String, Result<(Content, Option<Told>), Told>) {
    match (origin, &entry.source) {
        (Origin::Sops { file, values }, _) => {
            let from = format!(" from `{}#{}`", file.display(), entry.sops_key);
            (from, values.get(&entry.sops_key).map(|content| (content, None)))
        }
        (Origin::Manifest { .. }, None) => {
            let told = "the manifest has neither `source` nor `credential` for it; add one, or give `--sops FILE`";
            (String::new(), Err(told.to_owned()))
        }
        (Origin::Manifest { .. }, Some(source @ Source::File(path))) => (format!(" from `{source}`"), of_file(path)),
        (Origin::Manifest { credentials: Some(folder) }, Some(source @ Source::Credential(name))) => {
            (format!(" from `{source}`"), of_file(&folder.join(name)))
        }
        (Origin::Manifest { credentials: None }, Some(source @ Source::Credential(name))) => {
            let told = format!(
                "$CREDENTIALS_DIRECTORY is not set, so no service with credentials runs this; \
                 add `LoadCredential={name}:FILE` to its unit"
            );
            (format!(" from `{source}`"), Err(told))
        }
    }
}

fn of_file(path: &Path) -> Result<(Content, Option<Told>), Told> {
    // Symlinks are followed: /run/secrets of sops-nix is one. NONBLOCK: a FIFO must not be waited for.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let failed = |e: io::Error| match e.kind() {
        io::ErrorKind::NotFound => "it is not there; was it decrypted already, and under that name?".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied; run it as root".to_owned(),
        _ => format!("{e}; look at that file"),
    };
    let mut file = File::from(rustix::fs::open(path, flags, Mode::empty()).map_err(|e| failed(e.into()))?);
    let kind = file.metadata().map_err(failed)?;
    if !kind.is_file() {
        return Err("it is no regular file; name one".to_owned());
    }
    not_in_store(&std::fs::canonicalize(path).map_err(failed)?)?;
    let content = Content::of_file(&mut file).map_err(failed)?;
    let content = content.ok_or_else(|| format!("it has more than {LARGEST} bytes; name another file"))?;
    let wide = kind.mode() & 0o004 != 0;
    Ok((content, wide.then(|| "everybody on this machine can read that file; `chmod o-r` it".to_owned())))
}

/// `real` is the path behind all symlinks.
fn not_in_store(real: &Path) -> Result<(), Told> {
    if real.starts_with("/nix/store") {
        return Err("it is in the Nix store, which everybody can read; keep it elsewhere, encrypted".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_in_the_nix_store_is_refused() {
        let told = "it is in the Nix store, which everybody can read; keep it elsewhere, encrypted";
        assert_eq!(not_in_store(Path::new("/nix/store/abc-token")), Err(told.to_owned()));
        assert_eq!(not_in_store(Path::new("/nix/storey/token")), Ok(()));
    }
}

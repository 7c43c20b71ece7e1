//! TOML text to a [`Manifest`] with every default filled in, or all faults at once. Pure: needs no machine.

use super::keys::{SECRET, TABLES, TOP};
use super::{Account, Entry, Manifest, SecretName, Source, UnitName, cross};
use crate::secrets::format::{Format, NAMES};
use crate::support::config::parse::{ConfigErrors, Parsed, parse};
use crate::support::config::report::quoted;
use crate::support::config::walk::{Dialect, Open, Walk};
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::de::DeTable;

static DIALECT: Dialect = Dialect { tables: TABLES, filled_in: |_| false };

/// What the file may be at most: a program that reads it needs no more, and everybody may be worth less.
const WIDEST: u32 = 0o640;

/// Stands where a required path is missing, so that all else can still be judged; the manifest is thrown away.
pub(super) const NOWHERE: &str = "/nowhere/nowhere";

/// Reads a manifest. `file` is only for the places in the faults.
///
/// # Errors
/// [`ConfigErrors::Faults`] with everything that is wrong.
pub fn read(text: &str, file: &Path) -> Result<Parsed<Manifest>, ConfigErrors> {
    parse(text, file, &DIALECT, top)
}

fn top(walk: &mut Walk, root: &DeTable<'_>) -> Manifest {
    let open = walk.open(root, &TOP, String::new(), String::new(), 0..0);
    let mut manifest = Manifest {
        state_dir: walk.path(&open, "state_dir", None).unwrap_or_else(|| "/var/lib/cc-ci-secrets".into()),
        age_key_file: walk.path(&open, "age_key_file", None).unwrap_or_else(|| "/var/lib/sops-nix/key.txt".into()),
        secrets: Default::default(),
    };
    walk.require(&open, "secrets");
    for (name, at, table) in walk.named(&open, "secrets", &SECRET) {
        let entry = entry(walk, &table, name);
        match SecretName::try_from(name.to_owned()) {
            Ok(name) => {
                manifest.secrets.insert(name, entry);
            }
            Err(_) => {
                let help = "use 1 to 64 of a-z, 0-9, `-`, `_` and `.`, starting with a letter";
                walk.error(at, format!("{} cannot be the name of a secret", quoted(name)), help);
            }
        }
    }
    cross::check(&manifest, walk);
    manifest
}

fn entry(walk: &mut Walk, open: &Open<'_>, name: &str) -> Entry {
    walk.require(open, "path");
    walk.require(open, "owner");
    if let (Some(source), Some(_)) = (walk.get(open, "source"), walk.get(open, "credential")) {
        let help = "keep one of the two: `source` is a file, `credential` comes from systemd";
        walk.error(source.span(), "a secret has `source` and `credential`", help);
    }
    let source = walk.path(open, "source", None).map(Source::File).or_else(|| credential(walk, open));
    let owner = account(walk, open, "owner").unwrap_or(Account::Id(0));
    Entry {
        source,
        sops_key: sops_key(walk, open).unwrap_or_else(|| name.to_owned()),
        path: target(walk, open).unwrap_or_else(|| NOWHERE.into()),
        owner,
        group: account(walk, open, "group"),
        mode: mode(walk, open).unwrap_or(0o400),
        format: walk.choice(open, "format", NAMES).unwrap_or(Format::Any),
        required_keys: required_keys(walk, open),
        private_key: private_key(walk, open),
        try_restart: units(walk, open, "try_restart"),
        reload: units(walk, open, "reload"),
    }
}

fn credential(walk: &mut Walk, open: &Open<'_>) -> Option<Source> {
    let (text, at) = walk.text(open, "credential")?;
    if text.is_empty() || text.len() > 255 || text.contains(['/', ':']) || text == "." || text == ".." {
        let help = "write the name that the unit gives it: `LoadCredential=NAME:…`";
        walk.error(at, format!("{} cannot be the name of a credential", quoted(text)), help);
        return None;
    }
    Some(Source::Credential(text.to_owned()))
}

fn sops_key(walk: &mut Walk, open: &Open<'_>) -> Option<String> {
    let (text, at) = walk.text(open, "sops_key")?;
    if text.split('/').any(str::is_empty) {
        let help = "write the keys that lead to the value, with `/` between them: `incus/client_key`";
        walk.error(at, format!("{} is no key in a sops file", quoted(text)), help);
        return None;
    }
    Some(text.to_owned())
}

fn account(walk: &mut Walk, open: &Open<'_>, key: &str) -> Option<Account> {
    let (text, at) = walk.text(open, key)?;
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        // The highest number is how system calls say "none".
        if let Some(id) = text.parse().ok().filter(|id| *id != u32::MAX) {
            return Some(Account::Id(id));
        }
    } else if !text.is_empty() && !text.starts_with('-') && !text.contains([':', '/', ',', ' ', '\n']) {
        return Some(Account::Name(text.to_owned()));
    }
    walk.error(at, format!("{} cannot be an `{key}`", quoted(text)), "write a name, or a number such as `\"1000\"`");
    None
}

fn mode(walk: &mut Walk, open: &Open<'_>) -> Option<u32> {
    let (text, at) = walk.text(open, "mode")?;
    let digits = (3..=4).contains(&text.len()) && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    let Some(mode) = u32::from_str_radix(text, 8).ok().filter(|_| digits) else {
        let help = "write three or four octal digits: `mode = \"0400\"`";
        walk.error(at, format!("{} is no mode", quoted(text)), help);
        return None;
    };
    if mode & !WIDEST != 0 {
        let help = "use `0400`, `0440`, `0600` or `0640`; a group can be given by `group`";
        walk.error(at, format!("the mode {} is wider than `0640`", quoted(text)), help);
        return None;
    }
    if mode & 0o400 == 0 {
        let message = format!("with the mode {} its owner cannot read it", quoted(text));
        walk.error(at, message, "use `0400`, `0440`, `0600` or `0640`");
        return None;
    }
    Some(mode)
}

fn target(walk: &mut Walk, open: &Open<'_>) -> Option<PathBuf> {
    let (text, at) = walk.text(open, "path")?;
    let text = text.to_owned();
    let path = walk.path(open, "path", None)?;
    let below = |folder: &str| path.starts_with(folder);
    let name = path.file_name().map_or(0, |name| name.len());
    let (fault, help) = if text.split('/').any(|part| part == "..") {
        ("has `..` in it", "write the path without")
    } else if text.ends_with('/') || name == 0 {
        ("names a folder", "write the path of the file itself")
    } else if name > super::super::LONGEST_NAME {
        ("has a file name of more than 240 bytes", "choose a shorter one")
    } else if below("/nix/store") {
        ("is in the Nix store, which everybody can read", "choose a path outside of it")
    } else if ["/proc", "/sys", "/dev"].iter().any(|folder| below(folder)) {
        ("is where the kernel's own files are", "choose another path")
    } else {
        return Some(path);
    };
    walk.error(at, format!("{} {fault}", quoted(&text)), help);
    None
}

fn required_keys(walk: &mut Walk, open: &Open<'_>) -> Vec<String> {
    let found = walk.strings(open, "required_keys").unwrap_or_default();
    let name = |text: &str| {
        text.bytes().all(|b| b == b'_' || b.is_ascii_alphanumeric()) && !text.starts_with(|c: char| c.is_ascii_digit())
    };
    let mut kept = Vec::new();
    for (text, at) in found {
        if name(text) && !text.is_empty() {
            kept.push(text.to_owned());
        } else {
            let message = format!("{} cannot be the name of a variable", quoted(text));
            walk.error(at, message, "use letters, digits and `_`");
        }
    }
    kept
}

fn private_key(walk: &mut Walk, open: &Open<'_>) -> Option<SecretName> {
    let (text, at) = walk.text(open, "private_key")?;
    match SecretName::try_from(text.to_owned()) {
        Ok(name) => Some(name),
        Err(_) => {
            let help = "name the secret whose format is `pem-private-key`";
            walk.error(at, format!("{} cannot be the name of a secret", quoted(text)), help);
            None
        }
    }
}

fn units(walk: &mut Walk, open: &Open<'_>, key: &str) -> Vec<UnitName> {
    let found: Vec<(&str, Range<usize>)> = walk.strings(open, key).unwrap_or_default();
    let mut kept = Vec::new();
    for (text, at) in found {
        match UnitName::try_from(text.to_owned()) {
            Ok(unit) => kept.push(unit),
            Err(bad) => walk.error(at, bad.fault, bad.remedy),
        }
    }
    kept
}

//! Faults of a manifest that show only between its entries.

use super::{Manifest, SecretName};
use crate::secrets::format::Format;
use crate::support::config::report::quoted;
use crate::support::config::walk::Walk;
use std::collections::BTreeMap;
use std::path::Path;

pub(super) fn check(manifest: &Manifest, walk: &mut Walk) {
    let has = |walk: &Walk, name: &SecretName, key: &str| walk.source.has(&at(name, key));
    paths(manifest, walk);
    for (name, entry) in &manifest.secrets {
        if has(walk, name, "required_keys") && entry.format != Format::Dotenv {
            let message = format!("`required_keys` means nothing for the format `{}`", entry.format.name());
            walk.error(
                walk.source.key(&at(name, "required_keys")),
                message,
                "add `format = \"dotenv\"`, or take it out",
            );
        }
        if !has(walk, name, "private_key") {
            continue;
        }
        if entry.format != Format::PemCertificate {
            let message = format!("`private_key` means nothing for the format `{}`", entry.format.name());
            let help = "add `format = \"pem-certificate\"`, or take it out";
            walk.error(walk.source.key(&at(name, "private_key")), message, help);
        }
        let Some(key) = &entry.private_key else { continue };
        let place = walk.source.value(&at(name, "private_key"));
        match manifest.secrets.get(key) {
            None => {
                let names = manifest.secrets.keys().map(SecretName::as_str);
                let help = match walk.meant(key.as_str(), names) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => format!("add `[secrets.{key}]`, or take `private_key` out"),
                };
                walk.error(place, format!("there is no secret {}", quoted(key.as_str())), help);
            }
            Some(other) if other.format != Format::PemPrivateKey => {
                let message = format!("the secret `{key}` has the format `{}`", other.format.name());
                walk.error(
                    place,
                    message,
                    "a certificate's `private_key` is a secret with `format = \"pem-private-key\"`",
                );
            }
            Some(_) => {}
        }
    }
}

fn at(name: &SecretName, key: &str) -> String {
    format!("secrets.{name}.{key}")
}

/// No two entries one path, none below another's, and none where the placer keeps or reads something itself.
fn paths(manifest: &Manifest, walk: &mut Walk) {
    let mut taken: BTreeMap<&Path, &SecretName> = BTreeMap::new();
    for (name, entry) in &manifest.secrets {
        if !walk.source.has(&at(name, "path")) || entry.path == Path::new(super::read::NOWHERE) {
            continue;
        }
        let place = walk.source.value(&at(name, "path"));
        if let Some(other) = taken.insert(&entry.path, name) {
            let message =
                format!("`{name}` and `{other}` have the same path {}", quoted(&entry.path.to_string_lossy()));
            walk.error(place.clone(), message, "give each a path of its own");
        }
        if entry.path.starts_with(&manifest.state_dir) || entry.path == manifest.age_key_file {
            let message = format!("{} is the placer's own", quoted(&entry.path.to_string_lossy()));
            walk.error(place.clone(), message, "choose a path outside of `state_dir`, and not `age_key_file`");
        }
        if entry.source.as_ref().is_some_and(|s| matches!(s, super::Source::File(path) if *path == entry.path)) {
            walk.error(
                place,
                "`path` and `source` are the same file",
                "keep the source elsewhere, say in /run/secrets",
            );
        }
    }
    for (path, name) in &taken {
        let above = path.ancestors().skip(1).find_map(|folder| taken.get(folder).map(|other| (folder, other)));
        if let Some((folder, other)) = above {
            let folder = quoted(&folder.to_string_lossy());
            let message = format!("{folder} is a folder for `{name}` and a file for `{other}`");
            walk.error(walk.source.value(&at(name, "path")), message, "choose another path for one of the two");
        }
    }
}

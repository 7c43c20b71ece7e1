//! Reads the manifest's file.

use super::{Manifest, read};
use crate::support::config::parse::{ConfigErrors, Parsed};
use crate::support::config::report::{Fault, Source};
use crate::support::config::text::{Unread, read_text};
use std::path::Path;

/// A thousand secrets are a tenth of this; a larger file is another file.
const LARGEST: u64 = 4 << 20;

/// Reads and checks a manifest, without the checks that need the machine.
///
/// # Errors
/// [`ConfigErrors`] when it cannot be read, is no text, is larger than 4 MiB, or has faults.
pub fn read_file(path: &Path) -> Result<Parsed<Manifest>, ConfigErrors> {
    let unreadable = |cause: String, remedy: &str| ConfigErrors::Unreadable {
        file: path.to_owned(),
        cause,
        remedy: remedy.to_owned(),
    };
    match read_text(path, LARGEST) {
        Ok(text) => read(&text, path),
        Err(Unread::Missing) => Err(unreadable("it is not there".into(), "name another with `--manifest FILE`")),
        Err(Unread::Denied) => Err(unreadable("permission denied".into(), "let this user read it")),
        Err(Unread::NotUtf8 { lossy, at }) => {
            let source = Source::new(path, &lossy);
            let fault = Fault::error(at..at + 1, "the file is not UTF-8 text", "save it as UTF-8");
            let (diagnostics, more) = source.diagnostics(vec![fault]);
            Err(ConfigErrors::Faults { file: path.to_owned(), diagnostics, more })
        }
        Err(other) => Err(unreadable(other.to_string(), "name a TOML file with `--manifest FILE`")),
    }
}

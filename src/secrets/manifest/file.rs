//! Reads the manifest's file.

use super::{Manifest, read};
use crate::support::config::parse::{ConfigErrors, Parsed};
use crate::support::config::text::read_config;
use std::path::Path;

/// A thousand secrets are a tenth of this; a larger file is another file.
const LARGEST: u64 = 4 << 20;

/// Reads and checks a manifest, without the checks that need the machine.
///
/// # Errors
/// [`ConfigErrors`] when it cannot be read, is no text, is larger than 4 MiB, or has faults.
pub fn read_file(path: &Path) -> Result<Parsed<Manifest>, ConfigErrors> {
    read(&read_config(path, LARGEST, "--manifest")?, path)
}

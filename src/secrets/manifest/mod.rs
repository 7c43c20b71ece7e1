//! What the operator wrote: which secret goes where. This file has the types only; `read` is pure, `file` and
//! `accounts` look at the machine.

pub mod accounts;
mod cross;
mod file;
pub mod keys;
mod read;
#[cfg(test)]
mod tests;
mod units;

pub use file::read_file;
pub use read::read;
pub use units::UnitName;

use super::format::Format;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// A whole manifest. Every path is absolute and without `.` and `..`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Where it is remembered what was placed.
    pub state_dir: PathBuf,
    /// The one place of the machine's age key.
    pub age_key_file: PathBuf,
    /// The secrets by name.
    pub secrets: BTreeMap<SecretName, Entry>,
}

/// `[secrets.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where the content comes from, unless from a sops file.
    pub source: Option<Source>,
    /// Where it is in a sops file: keys, with `/` between them.
    pub sops_key: String,
    /// Where it goes.
    pub path: PathBuf,
    /// Whose it will be.
    pub owner: Account,
    /// The file's group; `None`: the owner's own.
    pub group: Option<Account>,
    /// The file's permissions, at most 0640.
    pub mode: u32,
    /// What the content must be.
    pub format: Format,
    /// The variables that a dotenv must set.
    pub required_keys: Vec<String>,
    /// For a certificate: the secret with its private key.
    pub private_key: Option<SecretName>,
    /// Units that are restarted, if they run, when it changed.
    pub try_restart: Vec<UnitName>,
    /// Units that are told to load it anew, if they run, when it changed.
    pub reload: Vec<UnitName>,
}

/// Where a content comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file.
    File(PathBuf),
    /// A credential that systemd gives to the service (LoadCredential= and the like).
    Credential(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Credential(name) => write!(f, "$CREDENTIALS_DIRECTORY/{name}"),
        }
    }
}

/// A user or a group as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Account {
    /// By name.
    Name(String),
    /// By number.
    Id(u32),
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Id(id) => id.fmt(f),
        }
    }
}

/// The name of a secret: up to 64 of a-z, 0-9, `-`, `_` and `.`, starting with a letter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SecretName(String);

impl SecretName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for SecretName {
    type Error = String;
    fn try_from(name: String) -> Result<Self, String> {
        let fine = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b);
        if name.len() <= 64 && name.starts_with(|c: char| c.is_ascii_lowercase()) && name.bytes().all(fine) {
            return Ok(Self(name));
        }
        Err(format!("the name `{name}` is none; use 1 to 64 of a-z, 0-9, `-`, `_` and `.`, starting with a letter"))
    }
}

impl From<SecretName> for String {
    fn from(name: SecretName) -> String {
        name.0
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

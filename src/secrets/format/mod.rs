//! Whether a secret is what its entry says that it is. Pure: bytes and the time in, a verdict out. No verdict shows
//! anything of the content.

mod age_identity;
mod dotenv;
mod pem;
mod ssh;
#[cfg(test)]
mod tests;

pub use age_identity::identities;
pub use pem::matches;

use super::content::Content;

/// What a secret must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Anything but nothing.
    Any,
    /// `KEY=value` lines, as the loops' env files.
    Dotenv,
    /// A private key that ssh can load without asking.
    SshPrivateKey,
    /// A certificate, and perhaps those that lead from it to its root.
    PemCertificate,
    /// One private key.
    PemPrivateKey,
    /// age secret keys, a line each.
    AgeIdentity,
    /// A JSON text.
    Json,
}

/// As written in a manifest.
pub const NAMES: &[(&str, Format)] = &[
    ("any", Format::Any),
    ("dotenv", Format::Dotenv),
    ("ssh-private-key", Format::SshPrivateKey),
    ("pem-certificate", Format::PemCertificate),
    ("pem-private-key", Format::PemPrivateKey),
    ("age-identity", Format::AgeIdentity),
    ("json", Format::Json),
];

impl Format {
    /// As written in a manifest.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(_, format)| *format == self).map_or("", |(name, _)| name)
    }
}

/// What is wrong with a content. Displays as `<what is wrong>; <what to do>`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{fault}; {remedy}")]
pub struct Bad {
    fault: String,
    remedy: String,
}

impl Bad {
    pub(super) fn new(fault: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { fault: fault.into(), remedy: remedy.into() }
    }
}

/// Judges a content. `required` are the variables that a dotenv must have; `now` is in seconds since the Unix epoch.
/// Gives what is fine today but will not stay so.
///
/// # Errors
/// What is wrong with it.
pub fn check(format: Format, content: &Content, required: &[String], now: i64) -> Result<Vec<String>, Bad> {
    let bytes = content.bytes();
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(Bad::new("it is empty", "write the secret into its source"));
    }
    match format {
        Format::Any => Ok(Vec::new()),
        Format::Dotenv => dotenv::check(bytes, required).map(|()| Vec::new()),
        Format::SshPrivateKey => ssh::check(bytes),
        Format::PemCertificate => pem::certificate(bytes, now).map(|(_, warnings)| warnings),
        Format::PemPrivateKey => pem::private_key(bytes).map(|_| Vec::new()),
        Format::AgeIdentity => identities(bytes).map(|_| Vec::new()),
        Format::Json => json(bytes).map(|()| Vec::new()),
    }
}

fn json(bytes: &[u8]) -> Result<(), Bad> {
    serde_json::from_slice::<serde::de::IgnoredAny>(bytes).map(drop).map_err(|e| {
        // serde's own text can quote what it found.
        let place = format!("it is no JSON from line {}, column {} on", e.line(), e.column());
        Bad::new(place, "try it with `jq . FILE`")
    })
}

//! Names of systemd units that may be restarted or reloaded for a changed secret: never a loop's.

use std::fmt;

/// The name of a unit that a changed secret may touch.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UnitName(String);

/// Why a name is not taken. Displays as `<what is wrong>; <what to do>`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{fault}; {remedy}")]
pub struct BadUnit {
    /// What is wrong.
    pub fault: String,
    /// What to do about it.
    pub remedy: &'static str,
}

/// Targets and slices are not among them: what happens to one happens to all that is in it.
const KINDS: &[&str] = &[".service", ".socket", ".path", ".timer"];

/// What the template of the loops' units begins with.
const LOOPS: &str = "cc-ci-session@";

impl UnitName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for UnitName {
    type Error = BadUnit;
    fn try_from(name: String) -> Result<Self, BadUnit> {
        let bad = |fault: String, remedy| Err(BadUnit { fault, remedy });
        if name.starts_with(LOOPS) {
            let fault = format!("`{name}` is a loop's unit, and a changed secret never ends an agent's work");
            return bad(fault, "take it out; the loop reads its env files at its next start");
        }
        if name == "cc-ci-secrets.service" {
            return bad(format!("`{name}` is what places the secrets"), "take it out");
        }
        // A pattern could mean a loop's.
        let fine = |b: u8| b.is_ascii_alphanumeric() || b":-_.\\@".contains(&b);
        let stem = KINDS.iter().find_map(|kind| name.strip_suffix(kind));
        if stem.is_some_and(|s| !s.is_empty() && !s.starts_with('-')) && name.len() < 256 && name.bytes().all(fine) {
            return Ok(Self(name));
        }
        let remedy = "write its whole name, with `.service`, `.socket`, `.path` or `.timer`, and no pattern";
        bad(format!("`{name}` is not the name of such a unit"), remedy)
    }
}

impl From<UnitName> for String {
    fn from(name: UnitName) -> String {
        name.0
    }
}

impl fmt::Display for UnitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

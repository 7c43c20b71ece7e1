//! Names that end up in paths, tmux targets and unit instances, so what they may contain is narrow.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// Long enough for a word or three; short enough that `<runtime_dir>/session/NAME/tmux.sock` stays under the 108
/// bytes of `sockaddr_un.sun_path` with any sensible runtime_dir.
const MAX_LEN: usize = 32;

/// Why a text is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the name `{name}` {fault}; use 1 to 32 of a-z, 0-9, `-` and `_`, starting with a letter")]
pub struct BadName {
    name: String,
    fault: &'static str,
}

fn checked(name: &str) -> Result<(), BadName> {
    let fault = if name.is_empty() {
        "is empty"
    } else if name.len() > MAX_LEN {
        "is too long"
    } else if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        "does not start with a lower-case letter"
    } else if !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_') {
        "has a character that a path, a tmux target or a unit name would read differently"
    } else {
        return Ok(());
    };
    Err(BadName { name: name.to_owned(), fault })
}

macro_rules! name_type {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(Arc<str>);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $type {
            type Error = BadName;
            fn try_from(name: String) -> Result<Self, BadName> {
                checked(&name)?;
                Ok(Self(name.into()))
            }
        }

        impl std::str::FromStr for $type {
            type Err = BadName;
            fn from_str(name: &str) -> Result<Self, BadName> {
                Self::try_from(name.to_owned())
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name_type!(
    /// A loop's name: `builder`.
    LoopName
);
name_type!(
    /// The name of something that loops need: `proxy`.
    NeedName
);
name_type!(
    /// The name of an account whose limits and login its loops share: `default`.
    AccountName
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_would_escape_its_folder_is_refused() {
        for bad in ["", "..", "a/b", "A", "1a", "a b", "a:b", "a.b", "-a", &"a".repeat(33)] {
            assert!(bad.parse::<LoopName>().is_err(), "{bad:?} was taken");
        }
        assert_eq!("builder-2_x".parse::<LoopName>().unwrap().as_str(), "builder-2_x");
    }
}

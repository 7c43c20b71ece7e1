//! What a sops file says of itself under `sops`.

use super::{SopsError, error};
use regex::Regex;
use serde::Deserialize;

#[derive(Debug, Deserialize)]
pub(super) struct Metadata {
    #[serde(default, deserialize_with = "none_is_empty")]
    pub(super) age: Vec<AgeKey>,
    pub(super) lastmodified: String,
    pub(super) mac: String,
    #[serde(default)]
    pub(super) mac_only_encrypted: bool,
    #[serde(default)]
    unencrypted_suffix: String,
    #[serde(default)]
    encrypted_suffix: String,
    #[serde(default)]
    unencrypted_regex: String,
    #[serde(default)]
    encrypted_regex: String,
    #[serde(default)]
    unencrypted_comment_regex: String,
    #[serde(default)]
    encrypted_comment_regex: String,
    #[serde(default)]
    shamir_threshold: u32,
    #[serde(default, deserialize_with = "none_is_empty")]
    key_groups: Vec<serde::de::IgnoredAny>,
}

#[derive(Debug, Deserialize)]
pub(super) struct AgeKey {
    pub(super) recipient: String,
    pub(super) enc: String,
}

/// sops writes `null` for lists without elements.
fn none_is_empty<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    Option::<Vec<T>>::deserialize(from).map(Option::unwrap_or_default)
}

/// Which values are encrypted, by the names of all keys that lead to them.
#[derive(Debug)]
pub(super) enum Rule {
    ButSuffix(String),
    OnlySuffix(String),
    But(Regex),
    Only(Regex),
}

impl Rule {
    pub(super) fn encrypts(&self, path: &[String]) -> bool {
        match self {
            Self::ButSuffix(suffix) => !path.iter().any(|name| name.ends_with(suffix.as_str())),
            Self::OnlySuffix(suffix) => path.iter().any(|name| name.ends_with(suffix.as_str())),
            Self::But(regex) => !path.iter().any(|name| regex.is_match(name)),
            Self::Only(regex) => path.iter().any(|name| regex.is_match(name)),
        }
    }
}

impl Metadata {
    /// # Errors
    /// When it is of a kind that cannot be read here.
    pub(super) fn rule(&self) -> Result<Rule, SopsError> {
        if self.shamir_threshold > 0 || !self.key_groups.is_empty() {
            return Err(error("it has key groups, which are not supported; use one group of age keys"));
        }
        if !self.unencrypted_comment_regex.is_empty() || !self.encrypted_comment_regex.is_empty() {
            return Err(error("it is encrypted by comments, which are not supported; use `encrypted_regex`"));
        }
        let regex = |text: &str| {
            Regex::new(text).map_err(|_| error("its regular expression cannot be read here; write a plainer one"))
        };
        let given = [&self.unencrypted_suffix, &self.encrypted_suffix, &self.unencrypted_regex, &self.encrypted_regex];
        match given.map(|text| text.as_str()) {
            ["", "", "", ""] => Ok(Rule::ButSuffix("_unencrypted".to_owned())),
            [suffix, "", "", ""] => Ok(Rule::ButSuffix(suffix.to_owned())),
            ["", suffix, "", ""] => Ok(Rule::OnlySuffix(suffix.to_owned())),
            ["", "", text, ""] => regex(text).map(Rule::But),
            ["", "", "", text] => regex(text).map(Rule::Only),
            _ => Err(error("it has more than one rule for what is encrypted; keep one, as sops demands")),
        }
    }
}

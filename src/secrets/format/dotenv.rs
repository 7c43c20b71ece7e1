//! Env files, read by what reads them for the loops.

use super::Bad;
use crate::supervisor::env_file;
use std::os::unix::ffi::OsStringExt;
use zeroize::Zeroizing;

pub(super) fn check(bytes: &[u8], required: &[String]) -> Result<(), Bad> {
    let found =
        env_file::parse(bytes).map_err(|e| Bad::new(format!("as an env file it is wrong in {e}"), "mend it"))?;
    let found: Vec<(Vec<u8>, Zeroizing<Vec<u8>>)> =
        found.into_iter().map(|(key, value)| (key.into_vec(), Zeroizing::new(value.into_vec()))).collect();
    // The last of a name is the one that counts.
    let value = |key: &String| found.iter().rev().find(|(name, _)| name == key.as_bytes()).map(|(_, value)| value);
    let missing: Vec<_> = required.iter().filter(|key| value(key).is_none()).map(|key| format!("`{key}`")).collect();
    if !missing.is_empty() {
        let fault = format!("it does not set {}", missing.join(", "));
        return Err(Bad::new(fault, "add each as `KEY=value`, or take it out of `required_keys`"));
    }
    let empty: Vec<_> =
        required.iter().filter(|key| value(key).is_some_and(|v| v.is_empty())).map(|key| format!("`{key}`")).collect();
    if !empty.is_empty() {
        let fault = format!("it sets {} to nothing", empty.join(", "));
        return Err(Bad::new(fault, "write the value, or take it out of `required_keys`"));
    }
    Ok(())
}

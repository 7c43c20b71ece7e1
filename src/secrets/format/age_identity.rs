//! age secret keys: `AGE-SECRET-KEY-1…`, one a line, with `#` comments as age-keygen writes them.

use super::Bad;
use age::x25519::Identity;

/// The identities of a key file.
///
/// # Errors
/// When a line is none, or there is none.
pub fn identities(bytes: &[u8]) -> Result<Vec<Identity>, Bad> {
    let remedy = "give the file that `age-keygen` wrote";
    let text = std::str::from_utf8(bytes).map_err(|_| Bad::new("it is no text", remedy))?;
    let mut found = Vec::new();
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match line.parse() {
            Ok(identity) => found.push(identity),
            Err(_) => return Err(bad_line(number, line)),
        }
    }
    if found.is_empty() {
        return Err(Bad::new("it has no age secret key", remedy));
    }
    Ok(found)
}

fn bad_line(number: usize, line: &str) -> Bad {
    let upper = |prefix: &str| line.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    if upper("age1") {
        let fault = format!("line {number} is an age public key, not the secret one");
        return Bad::new(fault, "give the line that starts with `AGE-SECRET-KEY-1`");
    }
    if upper("AGE-PLUGIN-") || upper("AGE-SECRET-KEY-PQ-") {
        let fault = format!("line {number} is an age key of a kind that cannot be used here");
        return Bad::new(fault, "use one that starts with `AGE-SECRET-KEY-1`");
    }
    if upper("age-encryption.org/") || upper("-----BEGIN AGE") {
        return Bad::new("it is encrypted itself", "decrypt it first: `age -d FILE`");
    }
    let fault = format!("line {number} is no age secret key, or one with a letter wrong");
    Bad::new(fault, "give the file that `age-keygen` wrote, unchanged")
}

//! The numbers of a manifest's users and groups, from the machine's user database.

use super::{Account, Manifest, SecretName};
use crate::support::config::parse::{ConfigErrors, Parsed};
use crate::support::config::report::{Fault, Source, quoted};
use nix::unistd::{Gid, Group, Uid, User};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::path::Path;

/// Who a file is written as, and whose it will be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Identity {
    /// The owner.
    pub uid: u32,
    /// The file's group.
    pub gid: u32,
    /// The owner's own group, which missing folders get.
    pub primary: u32,
    /// The groups that the owner is in; the operating system asks for them at each folder.
    pub groups: Vec<u32>,
    /// The owner's name, for messages.
    pub name: String,
}

/// The identity of each secret.
///
/// # Errors
/// [`ConfigErrors`] with each name that the machine does not know.
pub fn resolve(parsed: &Parsed<Manifest>, file: &Path) -> Result<BTreeMap<SecretName, Identity>, ConfigErrors> {
    let mut faults = Vec::new();
    let mut seen: BTreeMap<String, Result<Identity, (&'static str, String)>> = BTreeMap::new();
    let mut found = BTreeMap::new();
    for (name, entry) in &parsed.value.secrets {
        // A thousand secrets of one user are one question to the database, which may be a network away.
        let key = format!("{}:{:?}", entry.owner, entry.group);
        match seen.entry(key).or_insert_with(|| identity(&entry.owner, entry.group.as_ref())) {
            Ok(identity) => {
                found.insert(name.clone(), identity.clone());
            }
            Err((key, message)) => faults.push(fault(&parsed.source, name, key, message)),
        }
    }
    if faults.is_empty() {
        return Ok(found);
    }
    let (diagnostics, more) = parsed.source.diagnostics(faults);
    Err(ConfigErrors::Faults { file: file.to_owned(), diagnostics, more })
}

fn fault(source: &Source, name: &SecretName, key: &str, message: &str) -> Fault {
    let help = format!("create it before, or write another `{key}`");
    Fault::error(source.value(&format!("secrets.{name}.{key}")), message, help)
}

fn identity(owner: &Account, group: Option<&Account>) -> Result<Identity, (&'static str, String)> {
    let unknown = |key, kind: &str, account: &Account| {
        (key, format!("there is no {kind} {} on this machine", quoted(&account.to_string())))
    };
    let failed = |key, e: nix::Error| (key, format!("the user database cannot be asked: {}", e.desc()));
    let user = match owner {
        Account::Name(name) => Some(
            User::from_name(name).map_err(|e| failed("owner", e))?.ok_or_else(|| unknown("owner", "user", owner))?,
        ),
        Account::Id(uid) => User::from_uid(Uid::from_raw(*uid)).map_err(|e| failed("owner", e))?,
    };
    let uid = match (&user, owner) {
        (Some(user), _) => user.uid.as_raw(),
        (None, Account::Id(uid)) => *uid,
        (None, Account::Name(_)) => return Err(unknown("owner", "user", owner)),
    };
    let gid = match (group, &user) {
        (Some(Account::Id(gid)), _) => *gid,
        (Some(Account::Name(name)), _) => {
            let group = Group::from_name(name).map_err(|e| failed("group", e))?;
            let group =
                group.ok_or_else(|| ("group", format!("there is no group {} on this machine", quoted(name))))?;
            group.gid.as_raw()
        }
        (None, Some(user)) => user.gid.as_raw(),
        (None, None) => {
            let message = format!("the user `{uid}` has no entry in the user database, so no group is known");
            return Err(("owner", message));
        }
    };
    // A number that the machine knows no user for has no group of its own but the file's.
    let primary = user.as_ref().map_or(gid, |user| user.gid.as_raw());
    let (groups, name) = match user {
        // Root needs none.
        Some(user) if uid == 0 => (Vec::new(), user.name),
        Some(user) => {
            let name = CString::new(user.name.as_str()).unwrap_or_default();
            let groups = nix::unistd::getgrouplist(&name, user.gid).map_err(|e| failed("owner", e))?;
            (groups.into_iter().map(Gid::as_raw).collect(), user.name)
        }
        None => (Vec::new(), uid.to_string()),
    };
    Ok(Identity { uid, gid, primary, groups, name })
}

/// In no group that has a right anywhere.
const NOGROUP: u32 = 65534;

/// The identity of a number, of which the machine may know nothing any more.
pub fn of_uid(uid: u32) -> Identity {
    let nobody = || Identity { uid, gid: NOGROUP, primary: NOGROUP, groups: Vec::new(), name: uid.to_string() };
    identity(&Account::Id(uid), None).unwrap_or_else(|_| nobody())
}

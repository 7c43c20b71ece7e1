//! Files that survive a power cut: nothing else in this package writes state. Owns how a file is replaced, how its
//! previous version is kept and used, and how a torn or foreign one is set aside; not what is in it.

mod error;
mod json;
mod read;
mod steps;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use error::DurableError;
pub use json::{inspect_json, read_json, write_json};
pub use read::{Read, Unfit, inspect, read};
pub(crate) use read::{read_bytes, set_aside};
pub(crate) use steps::step;
#[cfg(test)]
pub(crate) use steps::watch;

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;
use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use tempfile::TempPath;

#[cfg(all(feature = "test-skip-folder-fsync", not(debug_assertions)))]
compile_error!(
    "the feature test-skip-folder-fsync is for the negative twin of the power-cut test, never for a release"
);

/// Marks a temporary file as one of ours, so that [`sweep`] takes no other program's.
const TEMP_SUFFIX: &str = ".cc-ci-tmp";

/// Group may look, others may not: state names paths, accounts and commits.
const FOLDER_MODE: u32 = 0o750;

/// Replaces the content of `path` so that after a power cut at any moment either the old or the new content is there,
/// whole, and after `Ok` the new one is. The version before stays beside it as `<name>.prev`.
///
/// `mode` is given when the file is opened, so it is never wider than that, and narrower if the umask says so.
/// A missing folder is created. On an error before the rename nothing has changed; when only the folder's fsync
/// fails the new content is there but may not survive a power cut.
///
/// The order, and what a power cut after each step leaves (C: `path`, P: `path.prev`, T and L: temporary names):
///
/// 1. T is created and written: C and P untouched; a stale T, which [`sweep`] removes.
/// 2. fsync(T): the same. Without it the rename could reach the disk before the data, and C would be empty.
/// 3. link(C, L): the same, and a stale L. A second name instead of a copy, so the old version cannot be torn.
/// 4. rename(T, C): C is the old or the new one, whole; P is the one before the old.
/// 5. rename(L, P): P is the old one. *After* 4, not before: a C that somebody else tore takes the place of the good P
///    only when the new C is there. Should a file system let 5 reach the disk without 4, both are the old one.
/// 6. fsync(folder): both renames are on disk. One is enough, since any subset of 4 and 5 is good (see above).
///
/// `the_steps_come_in_the_order_that_a_power_cut_asks_for` checks this order by strace.
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), DurableError> {
    let (folder, name) = split(path)?;
    let failed = |doing| move |cause: io::Error| DurableError::io(doing, path, cause);
    let (mut file, temp) = match create_temp(folder, name, mode) {
        Err(cause) if cause.kind() == ErrorKind::NotFound => {
            create_folder(folder)?;
            create_temp(folder, name, mode)
        }
        other => other,
    }
    .map_err(failed("creating the new version of"))?;
    step("durable: temp created");
    file.write_all(bytes).map_err(failed("writing the new version of"))?;
    step("durable: temp written");
    file.sync_all().map_err(failed("syncing the new version of"))?;
    step("durable: temp synced");
    let old = link_old(path, folder, name).map_err(failed("keeping the previous version of"))?;
    step("durable: old linked");
    temp.persist(path).map_err(|e| DurableError::io("replacing", path, e.error))?;
    step("durable: renamed");
    if let Some(old) = old {
        // The new version is in place, so this is no longer a reason to call the write failed: `.prev` is then one
        // version older than it could be. `old` removes the name L when dropped, which matters when two writers
        // linked the same version: rename(2) does nothing when both names are one file.
        if let Err(cause) = fs::rename(&old, previous(path)) {
            tracing::warn!("keeping the previous version of `{}`: {cause}; it keeps an older one", path.display());
        }
    }
    step("durable: previous kept");
    if cfg!(not(feature = "test-skip-folder-fsync")) {
        sync_folder(folder)?;
    }
    step("durable: folder synced");
    Ok(())
}

/// Where the version before the current one of `path` is kept.
pub fn previous(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".prev");
    name.into()
}

/// Creates a folder and its missing parents with mode 0750, each surviving a power cut. An existing one is left as it
/// is.
pub fn create_folder(path: &Path) -> Result<(), DurableError> {
    let made = match make_folder(path) {
        Err(cause) if cause.kind() == ErrorKind::NotFound && parent(path) != path => {
            create_folder(parent(path))?;
            make_folder(path)
        }
        made => made,
    };
    match made {
        Ok(()) => sync_folder(parent(path)),
        Err(cause) if cause.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(cause) => Err(DurableError::io("creating the folder", path, cause)),
    }
}

fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(FOLDER_MODE).create(path)
}

/// Removes the temporary files that a crash left in `folder` and returns their paths; a missing folder has none.
/// One that a living writer still holds is left alone.
pub fn sweep(folder: &Path) -> Result<Vec<PathBuf>, DurableError> {
    let failed = |cause| DurableError::io("looking for stale temporary files in", folder, cause);
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(cause) => return Err(failed(cause)),
    };
    let mut removed = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let (name, path) = (entry.file_name(), entry.path());
        let name = name.as_encoded_bytes();
        let ours = name.starts_with(b".") && name.ends_with(TEMP_SUFFIX.as_bytes());
        if !ours || !entry.file_type().map_err(failed)?.is_file() {
            continue;
        }
        match remove_unless_held(&path) {
            Ok(Swept::Removed) => removed.push(path),
            Ok(Swept::Held | Swept::Gone) => {}
            Err(cause) => return Err(DurableError::io("removing the stale temporary file", &path, cause)),
        }
    }
    Ok(removed)
}

/// Makes the names in a folder survive a power cut.
fn sync_folder(folder: &Path) -> Result<(), DurableError> {
    File::open(folder).and_then(|f| f.sync_all()).map_err(|cause| DurableError::io("syncing the folder", folder, cause))
}

enum Swept {
    Removed,
    Held,
    Gone,
}

/// The lock is kept until the file is gone, so that its writer, who locks it after creating it, sees that it was taken.
fn remove_unless_held(path: &Path) -> io::Result<Swept> {
    let gone = |cause: io::Error| if cause.kind() == ErrorKind::NotFound { Ok(Swept::Gone) } else { Err(cause) };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(cause) => return gone(cause),
    };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Ok(Swept::Held),
        Err(cause) => Err(cause.into()),
        Ok(()) => fs::remove_file(path).map(|()| Swept::Removed).or_else(gone),
    }
}

/// A new file that is locked, so that another process's sweep does not take it for a stale one.
fn create_temp(folder: &Path, name: &str, mode: u32) -> io::Result<(File, TempPath)> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(mode);
    loop {
        let made = make_temp(folder, name, |temp| Ok(File::from(rustix::fs::open(temp, flags, mode)?)))?;
        let (file, temp) = made.into_parts();
        flock(&file, FlockOperation::LockExclusive)?;
        // A sweep may have come between the two lines above.
        if file.metadata()?.nlink() > 0 {
            return Ok((file, temp));
        }
    }
}

/// Gives the current version a second, temporary name; `None` when there is no current version.
fn link_old(path: &Path, folder: &Path, name: &str) -> io::Result<Option<TempPath>> {
    match make_temp(folder, name, |temp| fs::hard_link(path, temp)) {
        Ok(made) => Ok(Some(made.into_temp_path())),
        Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(None),
        // vfat and 9p have no hard links, and fs.protected_hardlinks forbids one to another user's file. A copy does
        // as well: it is whole before it takes the name `.prev`.
        Err(cause) if matches!(cause.kind(), ErrorKind::PermissionDenied | ErrorKind::Unsupported) => {
            let bytes = fs::read(path)?;
            let mode = rustix::fs::stat(path)?.st_mode & 0o777;
            let (mut file, temp) = create_temp(folder, name, mode)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            Ok(Some(temp))
        }
        Err(cause) => Err(cause),
    }
}

/// A unique temporary name beside the file, removed when dropped.
fn make_temp<R>(
    folder: &Path,
    name: &str,
    mut make: impl FnMut(&Path) -> io::Result<R>,
) -> io::Result<tempfile::NamedTempFile<R>> {
    let dot = if name.starts_with('.') { "" } else { "." };
    // tempfile wraps errors so that the number is lost and the text names the temporary file, so it is kept here.
    let mut number = None;
    tempfile::Builder::new()
        .prefix(&format!("{dot}{name}."))
        .suffix(TEMP_SUFFIX)
        .make_in(folder, |temp| make(temp).inspect_err(|cause| number = cause.raw_os_error()))
        .map_err(|cause| number.map_or(cause, io::Error::from_raw_os_error))
}

fn split(path: &Path) -> Result<(&Path, &str), DurableError> {
    match path.file_name().and_then(|name| name.to_str()) {
        Some(name) => Ok((parent(path), name)),
        None => Err(DurableError::io("writing", path, ErrorKind::InvalidInput)),
    }
}

/// The folder that a path's name is in; `.` for a bare name, which has an empty parent.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
        None => path,
    }
}

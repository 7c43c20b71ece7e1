//! The way to a target's folder, one name at a time and never through a symlink; what may not be on the way.

use super::Refusal;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat, fstat, mkdirat, open, openat2};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Only the owner: whoever wants it wider makes the folder beforehand.
const NEW_FOLDER: u32 = 0o700;

/// What a name is resolved with, everywhere below `/`.
pub(super) const STRICT: ResolveFlags =
    ResolveFlags::NO_SYMLINKS.union(ResolveFlags::NO_MAGICLINKS).union(ResolveFlags::BENEATH);

/// What to do where a folder is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    Create,
    Leave,
}

/// A folder's inode, whatever its path.
pub(super) type Id = (u64, u64);

/// An open folder.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) path: PathBuf,
    pub(super) id: Id,
    /// Opened with O_PATH.
    pub(super) fd: OwnedFd,
}

/// Finds folders; the last one is kept open, since the next target is mostly beside it.
#[derive(Debug, Default)]
pub(super) struct Folders {
    pub(super) user: String,
    last: Option<(u32, Folder)>,
}

impl Folders {
    /// The folder of that path, for files of `owner`; `None` when it is missing and not to be created.
    pub(super) fn find(&mut self, path: &Path, owner: u32, missing: Missing) -> Result<Option<&Folder>, Refusal> {
        let known = self.last.as_ref().is_some_and(|(uid, folder)| *uid == owner && folder.path == path);
        if !known {
            self.last = self.walk(path, owner, missing)?.map(|folder| (owner, folder));
        }
        Ok(self.last.as_ref().map(|(_, folder)| folder))
    }

    /// The folder of that path, looked for anew.
    pub(super) fn find_anew(&mut self, path: &Path, owner: u32, missing: Missing) -> Result<Option<&Folder>, Refusal> {
        self.last = None;
        self.find(path, owner, missing)
    }

    fn walk(&self, path: &Path, owner: u32, missing: Missing) -> Result<Option<Folder>, Refusal> {
        let mut at = PathBuf::from("/");
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut fd = open("/", flags | OFlags::NOFOLLOW, Mode::empty()).map_err(|e| self.closed(&at, e))?;
        let mut stat = fstat(&fd).map_err(|e| self.closed(&at, e))?;
        let names: Vec<&OsStr> = path.iter().skip(1).collect();
        self.judge(&at, &stat, owner, names.is_empty())?;
        for (number, name) in names.iter().enumerate() {
            let above = at.clone();
            at.push(name);
            fd = match openat2(&fd, *name, flags, Mode::empty(), STRICT) {
                Err(Errno::NOENT) if missing == Missing::Leave => return Ok(None),
                Err(Errno::NOENT) => self.create(&fd, &above, name, &at)?,
                other => other.map_err(|e| self.closed(&at, e))?,
            };
            stat = fstat(&fd).map_err(|e| self.closed(&at, e))?;
            self.judge(&at, &stat, owner, number + 1 == names.len())?;
        }
        Ok(Some(Folder { path: path.to_owned(), id: (stat.st_dev, stat.st_ino), fd }))
    }

    fn create(&self, parent: &OwnedFd, above: &Path, name: &OsStr, path: &Path) -> Result<OwnedFd, Refusal> {
        match mkdirat(parent, name, Mode::from_raw_mode(NEW_FOLDER)) {
            // Somebody else may have made it meanwhile: what it is shows when it is opened and judged.
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => {
                let text = format!(
                    "creating the folder `{}` as `{}`: {}; make it beforehand, owned by that user",
                    path.display(),
                    self.user,
                    said(e)
                );
                return Err(Refusal::new(text));
            }
        }
        sync(parent, above)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat2(parent, name, flags, Mode::empty(), STRICT).map_err(|e| self.closed(path, e))
    }

    fn closed(&self, path: &Path, e: Errno) -> Refusal {
        let (cause, remedy) = match e {
            Errno::LOOP => ("it is a symlink", "write the path that it leads to, or put a folder there".to_owned()),
            Errno::NOTDIR => ("it is no folder", "move away what is there, or choose another path".to_owned()),
            Errno::ACCESS => ("permission denied", format!("let `{}` through, or choose another path", self.user)),
            Errno::NOSYS => (
                "there is no openat2",
                "use Linux 5.6 or newer, and no RestrictSUIDSGID= in the unit, which takes it away".to_owned(),
            ),
            e => return Refusal::new(format!("going through `{}`: {}; look at that folder", path.display(), said(e))),
        };
        Refusal::new(format!("going through `{}`: {cause}; {remedy}", path.display()))
    }

    /// Whoever can rename things on the way decides what the path means: that is root or the owner, nobody else.
    fn judge(&self, path: &Path, stat: &Stat, owner: u32, last: bool) -> Result<(), Refusal> {
        let shown = path.display();
        if stat.st_uid != 0 && stat.st_uid != owner {
            return Err(Refusal::new(format!(
                "going through `{shown}`: it belongs to the user {}, who is neither root nor `{}`; choose another path, \
                 or make that user the `owner`",
                stat.st_uid, self.user
            )));
        }
        // Sticky folders let only its owner rename a folder, but anybody put a file beside ours.
        let sticky = stat.st_mode & 0o1000 != 0;
        if stat.st_mode & 0o002 != 0 && (last || !sticky) {
            return Err(Refusal::new(format!(
                "going through `{shown}`: everybody can write there; choose another path, or `chmod o-w {shown}`"
            )));
        }
        Ok(())
    }
}

/// Makes the names in a folder survive a power cut. `path` is for the message.
pub(super) fn sync(folder: impl AsFd, path: &Path) -> Result<(), Refusal> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let done = openat2(folder, ".", flags, Mode::empty(), STRICT).and_then(rustix::fs::fsync);
    done.map_err(|e| {
        Refusal::new(format!("syncing the folder `{}`: {}; check that disk (`dmesg`)", path.display(), said(e)))
    })
}

/// What stands in the way where a file should be.
pub(super) fn kind(stat: &Stat) -> &'static str {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => "a file",
        FileType::Directory => "a folder",
        FileType::Symlink => "a symlink",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device node",
        _ => "of an unknown kind",
    }
}

/// An error number in words, without the number.
pub(super) fn said(e: Errno) -> String {
    let text = std::io::Error::from(e).to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

//! Reading a durable file: the current version, else the previous one, never silently neither.

use super::{DurableError, previous, step};
use rustix::fs::{CWD, Mode, OFlags, RenameFlags, renameat_with};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _};
use std::path::{Path, PathBuf};

/// No state file comes near this; a larger one is foreign, and reading it would only take the machine's memory.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// What was found where a durable file should be.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Read<T> {
    /// The current version is good.
    Current(T),
    /// The current version is missing, torn or foreign; the previous one is good.
    Recovered {
        /// The previous version.
        value: T,
        /// Where the bad current one is now; `None` when it is missing, or only looked at.
        set_aside: Option<PathBuf>,
        /// What is wrong with the current one.
        why: String,
    },
    /// Neither version is good, though there is or was one.
    Lost {
        /// Where the bad ones are now; empty when only looked at.
        set_aside: Vec<PathBuf>,
        /// What is wrong with them.
        why: String,
    },
    /// There is neither a current nor a previous version: never written, or removed by the operator.
    Absent,
}

/// Why the content of a file is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unfit {
    /// It is torn, empty or not ours: what is wrong, as in "is empty".
    Foreign(String),
    /// A newer version of this program wrote it.
    Newer {
        /// The version that the file has.
        found: u64,
        /// The newest version that this program reads.
        supported: u64,
    },
}

impl From<String> for Unfit {
    fn from(why: String) -> Self {
        Self::Foreign(why)
    }
}

/// Whether a bad file is moved out of the way or only reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bad {
    SetAside,
    Leave,
}

/// Reads `path`, and its previous version if the current one is missing or `validate` calls it unfit.
///
/// A bad version is set aside as `<name>.foreign-<time>`, never over an earlier one. What a newer version wrote is an
/// error and stays where it is. Only a missing file counts as absent; every other I/O error is an error.
pub fn read<T, E: Into<Unfit>>(path: &Path, validate: impl Fn(&[u8]) -> Result<T, E>) -> Result<Read<T>, DurableError> {
    read_as(path, validate, Bad::SetAside)
}

/// Like [`read`], but changes nothing: for readers that do not own the file.
pub fn inspect<T, E: Into<Unfit>>(
    path: &Path,
    validate: impl Fn(&[u8]) -> Result<T, E>,
) -> Result<Read<T>, DurableError> {
    read_as(path, validate, Bad::Leave)
}

pub(super) fn read_as<T, E: Into<Unfit>>(
    path: &Path,
    validate: impl Fn(&[u8]) -> Result<T, E>,
    bad: Bad,
) -> Result<Read<T>, DurableError> {
    // Both are judged before either is moved, so that a refusal leaves everything as it was.
    let current = match judge(path, &validate)? {
        Judged::Good(value) => return Ok(Read::Current(value)),
        Judged::Missing => None,
        Judged::Foreign(why) => Some(why),
    };
    let before = previous(path);
    let older = judge(&before, &validate)?;
    // A writer may have put the first version there between the two looks, and its second by now.
    if let Judged::Good(value) = judge(path, &validate)? {
        return Ok(Read::Current(value));
    }
    let aside = |path: &Path| match bad {
        Bad::SetAside => set_aside(path).map(Some),
        Bad::Leave => Ok(None),
    };
    let mut moved = match &current {
        Some(_) => aside(path)?,
        None => None,
    };
    let why = match &current {
        Some(why) => format!("`{}` {why}", path.display()),
        None => format!("`{}` is missing", path.display()),
    };
    Ok(match older {
        Judged::Good(value) => Read::Recovered { value, set_aside: moved, why },
        Judged::Missing if current.is_none() => Read::Absent,
        Judged::Missing => {
            Read::Lost { set_aside: moved.take().into_iter().collect(), why: format!("{why}, and has no `.prev`") }
        }
        Judged::Foreign(older_why) => Read::Lost {
            set_aside: moved.into_iter().chain(aside(&before)?).collect(),
            why: format!("{why}, and `{}` {older_why}", before.display()),
        },
    })
}

enum Judged<T> {
    Good(T),
    Missing,
    Foreign(String),
}

fn judge<T, E: Into<Unfit>>(path: &Path, validate: &impl Fn(&[u8]) -> Result<T, E>) -> Result<Judged<T>, DurableError> {
    let Some(bytes) = read_bytes(path)? else { return Ok(Judged::Missing) };
    if bytes.len() as u64 > MAX_BYTES {
        return Ok(Judged::Foreign(format!("is larger than {MAX_BYTES} bytes")));
    }
    match validate(&bytes).map_err(Into::into) {
        Ok(value) => Ok(Judged::Good(value)),
        Err(Unfit::Foreign(why)) => Ok(Judged::Foreign(why)),
        Err(Unfit::Newer { found, supported }) => Err(DurableError::Newer { path: path.to_owned(), found, supported }),
    }
}

/// The content of a regular file, cut off one byte after the largest size that is taken; `None` when there is none.
pub(crate) fn read_bytes(path: &Path) -> Result<Option<Vec<u8>>, DurableError> {
    let failed = |cause| DurableError::io("reading", path, cause);
    // NONBLOCK: opening a FIFO that somebody put there would wait for a writer for ever.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(fd) => File::from(fd),
        Err(Errno::NOENT) => return Ok(None),
        Err(cause) => return Err(failed(cause.into())),
    };
    let kind = file.metadata().map_err(failed)?;
    if kind.is_dir() {
        return Err(failed(Errno::ISDIR.into()));
    } else if !kind.is_file() {
        return Err(failed(io::Error::new(ErrorKind::InvalidInput, "it is no regular file")));
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    Ok(Some(bytes))
}

/// Moves a bad file out of the way and says where it is now. Needs no fsync: if the move is lost, it is done again.
pub(crate) fn set_aside(path: &Path) -> Result<PathBuf, DurableError> {
    let stamp = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    for attempt in 1_u32.. {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".foreign-{stamp}"));
        if attempt > 1 {
            name.push(format!("-{attempt}"));
        }
        let aside = PathBuf::from(name);
        match rename_to_free_name(path, &aside) {
            Ok(()) => {
                step("durable: set aside");
                return Ok(aside);
            }
            Err(cause) if cause.kind() == ErrorKind::AlreadyExists => {}
            Err(cause) => return Err(DurableError::io("setting aside", path, cause)),
        }
    }
    Err(DurableError::io("setting aside", path, ErrorKind::AlreadyExists))
}

fn rename_to_free_name(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // 9p and some others cannot rename without replacing. Dying between the two leaves one file with both names;
        // the next read sets it aside once more.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            fs::hard_link(from, to)?;
            fs::remove_file(from)
        }
        other => Ok(other?),
    }
}

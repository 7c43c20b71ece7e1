//! The text of a file that a person named, without hanging on what is no file.

use super::parse::ConfigErrors;
use super::report::{Fault, Source};
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// No config is near this, in bytes; a larger file is another file.
pub const LARGEST_CONFIG: u64 = 1 << 20;

/// The text of a config of at most `most` bytes; `option` is how another file is named, for the messages.
///
/// # Errors
/// [`ConfigErrors`] when it cannot be read, is no text, or is larger.
pub fn read_config(path: &Path, most: u64, option: &str) -> Result<String, ConfigErrors> {
    let unreadable = |cause: String, remedy: String| ConfigErrors::Unreadable { file: path.to_owned(), cause, remedy };
    match read_text(path, most) {
        Ok(text) => Ok(text),
        Err(Unread::Missing) => Err(unreadable("it is not there".into(), format!("name another with `{option} FILE`"))),
        Err(Unread::Denied) => Err(unreadable("permission denied".into(), "let this user read it".into())),
        Err(Unread::NotUtf8 { lossy, at }) => {
            let source = Source::new(path, &lossy);
            let fault = Fault::error(at..at + 1, "the file is not UTF-8 text", "save it as UTF-8");
            let (diagnostics, more) = source.diagnostics(vec![fault]);
            Err(ConfigErrors::Faults { file: path.to_owned(), diagnostics, more })
        }
        Err(other) => Err(unreadable(other.to_string(), format!("name a TOML file with `{option} FILE`"))),
    }
}

/// Why a file's text could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    /// There is no such file.
    #[error("it is not there")]
    Missing,
    /// This user may not read it.
    #[error("permission denied")]
    Denied,
    /// The path goes round in circles.
    #[error("it is a symlink that leads back to itself")]
    SymlinkLoop,
    /// A folder.
    #[error("it is a folder")]
    Folder,
    /// A pipe, a device or a socket.
    #[error("it is no regular file")]
    NoFile,
    /// Larger than anyone would write.
    #[error("it has {size} bytes, of at most {most}")]
    TooLarge {
        /// In bytes; what the file system says.
        size: u64,
        /// In bytes.
        most: u64,
    },
    /// Not text.
    #[error("it is not UTF-8 text from byte {at} on")]
    NotUtf8 {
        /// What can be shown of it.
        lossy: String,
        /// The first bad byte, the same in the file and in `lossy`.
        at: usize,
    },
    /// Anything else.
    #[error("{0}")]
    Other(io::Error),
}

impl From<io::Error> for Unread {
    fn from(e: io::Error) -> Self {
        match e.kind() {
            io::ErrorKind::NotFound => Self::Missing,
            io::ErrorKind::PermissionDenied => Self::Denied,
            _ if e.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => Self::SymlinkLoop,
            _ => Self::Other(e),
        }
    }
}

/// The text of a regular file of at most `most` bytes.
///
/// # Errors
/// [`Unread`]; never hangs on a pipe or reads a device without end.
pub fn read_text(path: &Path, most: u64) -> Result<String, Unread> {
    // NONBLOCK: opening a pipe that nobody writes to would wait for ever.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty()).map_err(io::Error::from)?);
    let kind = file.metadata()?;
    if kind.is_dir() {
        return Err(Unread::Folder);
    }
    if !kind.is_file() {
        return Err(Unread::NoFile);
    }
    let mut bytes = Vec::new();
    // Files of /proc say that they have no bytes, and a file can grow: what is read counts.
    file.take(most + 1).read_to_end(&mut bytes)?;
    let read = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    if kind.len() > most || read > most {
        return Err(Unread::TooLarge { size: kind.len().max(read), most });
    }
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        Unread::NotUtf8 { lossy: String::from_utf8_lossy(e.as_bytes()).into_owned(), at }
    })
}

//! What can go wrong with a file that must survive a power cut, said so that the reader knows what to do.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Why a durable file could not be read or written. The cause is part of the text, so there is no `source()`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DurableError {
    /// The operating system refused.
    #[error("{doing} `{}`: {cause}; {}", path.display(), remedy(cause, path))]
    Io {
        /// What was being done, as in "writing".
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the operating system said.
        cause: io::Error,
    },
    /// The file is whole, but a newer version of this program wrote it; it is left where it is.
    #[error(
        "reading `{}`: it was written by a newer version (format {found}, this one reads {supported}); \
         run that version, or move the file away",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The version that the file has.
        found: u64,
        /// The newest version that this program reads.
        supported: u64,
    },
    /// The value cannot be said in JSON (a map whose keys are no text): a fault of this program.
    #[error("encoding `{}`: {cause}; this is a fault of this program, please report it", path.display())]
    Encode {
        /// The file that it was for.
        path: PathBuf,
        /// What serde said.
        cause: serde_json::Error,
    },
}

impl DurableError {
    pub(crate) fn io(doing: &'static str, path: &Path, cause: impl Into<io::Error>) -> Self {
        Self::Io { doing, path: path.to_owned(), cause: cause.into() }
    }

    /// Whether the file system or the user's quota is full, which passes when somebody frees space.
    pub fn is_no_space(&self) -> bool {
        matches!(self, Self::Io { cause, .. } if no_space(cause))
    }

    /// The file or folder that the error is about.
    pub fn path(&self) -> &Path {
        match self {
            Self::Io { path, .. } | Self::Newer { path, .. } | Self::Encode { path, .. } => path,
        }
    }
}

fn no_space(cause: &io::Error) -> bool {
    matches!(cause.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

fn remedy(cause: &io::Error, path: &Path) -> String {
    match cause.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            let folder = path.parent().unwrap_or(path).display();
            format!("free space there (`df -h {folder}` and `df -i {folder}` show how much is left)")
        }
        ErrorKind::ReadOnlyFilesystem => {
            "mount that file system writable (`dmesg` tells if an error made it read-only), or let the unit write \
             there (ReadWritePaths=)"
                .to_owned()
        }
        ErrorKind::PermissionDenied => {
            let uid = rustix::process::geteuid().as_raw();
            format!("make it and its folder belong to uid {uid}, which runs this (`chown -R {uid}`)")
        }
        ErrorKind::NotFound => "create its folder".to_owned(),
        ErrorKind::NotADirectory | ErrorKind::IsADirectory | ErrorKind::AlreadyExists | ErrorKind::InvalidInput => {
            "move away what is there, or name another path".to_owned()
        }
        _ => "check that disk (`dmesg`), then try again".to_owned(),
    }
}

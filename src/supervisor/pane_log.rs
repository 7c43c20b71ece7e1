//! The file that a loop's pane writes to, kept from growing without end.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

/// A log of at least this many bytes is rotated.
pub const MAX_BYTES: u64 = 32 * 1024 * 1024;

/// How many rotated logs are kept beside the current one.
pub const KEEP: u32 = 3;

/// What became of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotation {
    /// It is small enough, or not there.
    NotNeeded,
    /// It is `LOG.1` now, and the pipe still writes there: pipe anew.
    Rotated,
}

/// Renames `log` to `log.1`, `log.1` to `log.2`, and so on up to `keep`, if it has `max` bytes or more. The oldest is
/// replaced. A rename that fails in the middle loses nothing: the next call finds a gap and goes on.
///
/// # Errors
/// When a file is there but cannot be looked at or renamed.
pub fn rotate(log: &Path, max: u64, keep: u32) -> io::Result<Rotation> {
    let within = |e: io::Error| io::Error::new(e.kind(), format!("rotate log `{}`: {e}", log.display()));
    match std::fs::metadata(log) {
        Ok(meta) if meta.len() >= max => {}
        Ok(_) => return Ok(Rotation::NotNeeded),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Rotation::NotNeeded),
        Err(e) => return Err(within(e)),
    }
    for n in (1..keep).rev() {
        match std::fs::rename(numbered(log, n), numbered(log, n + 1)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(within(e)),
            _ => {}
        }
    }
    std::fs::rename(log, numbered(log, 1)).map_err(within)?;
    Ok(Rotation::Rotated)
}

/// The `n`th rotated log; the greater `n`, the older.
pub fn numbered(log: &Path, n: u32) -> PathBuf {
    let mut name = OsString::from(log);
    name.push(format!(".{n}"));
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_moves_down_a_chain_and_the_oldest_goes() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("builder.log");
        for n in 1..=5 {
            std::fs::write(&log, n.to_string()).unwrap();
            assert_eq!(rotate(&log, 1, 3).unwrap(), Rotation::Rotated);
        }
        let kept: Vec<String> = (1..=3).map(|n| std::fs::read_to_string(numbered(&log, n)).unwrap()).collect();
        assert_eq!(kept, ["5", "4", "3"]);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
    }

    #[test]
    fn a_small_or_missing_log_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("builder.log");
        assert_eq!(rotate(&log, 10, 3).unwrap(), Rotation::NotNeeded);
        std::fs::write(&log, "123456789").unwrap();
        assert_eq!(rotate(&log, 10, 3).unwrap(), Rotation::NotNeeded);
        assert!(log.exists());
    }
}

//! The end of a file of JSON lines that somebody else writes to. What its records mean is the adapters' business.

use rustix::fs::{Mode, OFlags};
use serde_json::Value;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// Enough, in bytes, for a refusal: its record is the last or nearly so, and 1 KB; what comes before it may be the output
/// of a whole build.
pub const TAIL: u64 = 256 << 10;
/// Enough for what happened in a turn: hours of tools and what they printed.
pub const TURN: u64 = 4 << 20;

/// The records in the last `limit` bytes, oldest first. A line that is no JSON (cut by the limit, or being written) is
/// left out.
///
/// # Errors
/// When it is not there, cannot be read, or is no file.
pub fn tail(path: &Path, limit: u64) -> io::Result<Vec<Value>> {
    // A pipe in its place must not hold the caller up.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let mut file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    file.seek(SeekFrom::Start(meta.len().saturating_sub(limit)))?;
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn written(bytes: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("session.jsonl");
        std::fs::write(&path, bytes).unwrap();
        (dir, path)
    }

    #[test]
    fn a_line_that_is_being_written_is_left_out() {
        let (_dir, path) = written(b"{\"n\":1}\n\0\0\n{\"n\":2}\n{\"n\":");
        assert_eq!(tail(&path, TAIL).unwrap(), [json!({ "n": 1 }), json!({ "n": 2 })]);
    }

    #[test]
    fn of_a_large_file_only_the_end_is_read() {
        let mut text = format!("{}\n", json!({ "n": 0, "text": "x".repeat(2 * TAIL as usize) }));
        text.push_str("{\"n\":1}\n");
        let (_dir, path) = written(text.as_bytes());
        assert_eq!(tail(&path, TAIL).unwrap(), [json!({ "n": 1 })]);
    }

    #[test]
    fn what_is_no_file_holds_nobody_up() {
        let dir = tempfile::tempdir().unwrap();
        assert!(tail(&dir.path().join("none"), TAIL).is_err());
        assert!(tail(dir.path(), TAIL).is_err());
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        assert!(tail(&pipe, TAIL).is_err());
    }
}

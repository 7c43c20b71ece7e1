//! Files that are made anew at each start, so that they need no durability, and that only this user may read. What must
//! last is `durable`'s.

use rustix::fs::{Mode, fchmod};
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Puts `content` into the file at `path`, which then has mode 0600 whatever the umask is and whatever it had before.
///
/// # Errors
/// When it cannot be opened, its mode not be set or not all of it be written.
pub fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(path)?;
    // One that was there keeps its mode: an earlier version of the program may have made it for more than its owner.
    fchmod(&file, Mode::RUSR | Mode::WUSR)?;
    file.write_all(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_file_that_was_open_to_others_is_closed_to_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("conf");
        fs::write(&path, "something longer than what comes").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        write(&path, b"new").unwrap();
        assert_eq!((mode(&path), fs::read_to_string(&path).unwrap().as_str()), (0o600, "new"));
    }
}

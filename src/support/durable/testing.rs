//! What the tests of durable files share: a disk that can be filled.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// A tmpfs of 256 KiB, unmounted when dropped.
pub(crate) struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    /// `None`, with the reason printed, where mounting is not permitted.
    pub(crate) fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=256k", "cc-ci-test"]).arg(folder.path());
        match mount.output() {
            Ok(done) if done.status.success() => Some(Self { folder }),
            Ok(done) => {
                eprintln!("skipped: mounting is not permitted: {}", String::from_utf8_lossy(&done.stderr));
                None
            }
            Err(cause) => {
                eprintln!("skipped: no mount(8): {cause}");
                None
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Takes all space but for `left` bytes (in whole pages).
    pub(crate) fn fill_but(&self, left: usize) {
        self.free();
        let mut file = File::create(self.ballast()).unwrap();
        loop {
            match file.write(&[b'x'; 4096]) {
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::StorageFull => break,
                Err(e) => panic!("filling: {e}"),
            }
        }
        let size = file.metadata().unwrap().len();
        file.set_len(size - left as u64).unwrap();
    }

    /// Gives all space back.
    pub(crate) fn free(&self) {
        match fs::remove_file(self.ballast()) {
            Err(e) if e.kind() != ErrorKind::NotFound => panic!("freeing: {e}"),
            _ => {}
        }
    }

    fn ballast(&self) -> PathBuf {
        self.folder.path().join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let done = Command::new("umount").arg(self.folder.path()).status();
        assert!(done.is_ok_and(|s| s.success()), "{} is still mounted", self.folder.path().display());
    }
}

/// Every name in a folder, sorted.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

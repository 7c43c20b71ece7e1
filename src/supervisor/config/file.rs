//! Finds the config file and reads it.

use super::read::{ConfigErrors, Loaded, read};
use crate::support::config::text::{LARGEST_CONFIG, read_config};
pub use crate::support::config::text::{Unread, read_text};
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

/// Where a NixOS or Debian installation has its config.
const SYSTEM_FILE: &str = "/etc/cc-ci-orchestrator/supervisor.toml";
const LOCAL_FILE: &str = "supervisor.toml";

/// There is no config anywhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "find a config: `--config` is not given, `$CC_CI_CONFIG` is not set, and there is no `{local}` and no `{system}`; \
     write one of them, or see everything work with `supervisor demo`",
    local = local.display(), system = system.display()
)]
pub struct NotFound {
    local: PathBuf,
    system: PathBuf,
}

/// The config to use, as an absolute path: `explicit`, else `env` (the value of `$CC_CI_CONFIG`; empty is unset), else
/// `supervisor.toml` in `cwd`, else the system's. Whether it can be read is for [`read_file`] to say.
///
/// # Errors
/// [`NotFound`] when none is given and neither file is there. A file that is there but out of reach is not skipped.
pub fn find(explicit: Option<&Path>, env: Option<&OsStr>, cwd: &Path) -> Result<PathBuf, NotFound> {
    find_in(explicit, env, cwd, Path::new(SYSTEM_FILE))
}

fn find_in(explicit: Option<&Path>, env: Option<&OsStr>, cwd: &Path, system: &Path) -> Result<PathBuf, NotFound> {
    let named = explicit.or_else(|| env.filter(|value| !value.is_empty()).map(Path::new));
    if let Some(path) = named {
        return Ok(cwd.join(path));
    }
    let (local, system) = (cwd.join(LOCAL_FILE), system.to_owned());
    for path in [&local, &system] {
        // Not metadata(): a dangling symlink is meant to be a config and must be reported, not skipped.
        match path.symlink_metadata() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            _ => return Ok(path.clone()),
        }
    }
    Err(NotFound { local, system })
}

/// Reads and checks a config file, without the checks that need the machine.
///
/// # Errors
/// [`ConfigErrors`] when it cannot be read, is no text, is larger than 1 MiB, or has faults.
pub fn read_file(path: &Path) -> Result<Loaded, ConfigErrors> {
    read(&read_config(path, LARGEST_CONFIG, "--config")?, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::Mode;
    use std::fs::File;

    fn error(path: &Path) -> String {
        let shown = read_file(path).unwrap_err().to_string();
        shown.replace(path.to_str().unwrap(), "FILE")
    }

    #[test]
    fn the_config_named_first_is_used() {
        let dir = tempfile::tempdir().unwrap();
        let (cwd, system) = (dir.path().join("cwd"), dir.path().join("system.toml"));
        std::fs::create_dir(&cwd).unwrap();
        let find = |explicit: Option<&str>, env: Option<&str>| {
            find_in(explicit.map(Path::new), env.map(OsStr::new), &cwd, &system)
        };
        assert_eq!(
            find(None, None).unwrap_err().to_string(),
            format!(
                "find a config: `--config` is not given, `$CC_CI_CONFIG` is not set, and there is no \
                 `{}` and no `{}`; write one of them, or see everything work with `supervisor demo`",
                cwd.join("supervisor.toml").display(),
                system.display()
            )
        );
        std::fs::write(&system, "").unwrap();
        assert_eq!(find(None, Some("")), Ok(system.clone()));
        std::os::unix::fs::symlink("nowhere", cwd.join("supervisor.toml")).unwrap();
        assert_eq!(find(None, None), Ok(cwd.join("supervisor.toml")), "a dangling symlink was skipped");
        assert_eq!(find(None, Some("e.toml")), Ok(cwd.join("e.toml")));
        assert_eq!(find(Some("/x.toml"), Some("e.toml")), Ok("/x.toml".into()));
    }

    #[test]
    fn what_is_no_config_file_is_said_and_never_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        assert_eq!(error(&path), "read the config `FILE`: it is not there; name another with `--config FILE`");
        assert_eq!(error(dir.path()), "read the config `FILE`: it is a folder; name a TOML file with `--config FILE`");
        std::os::unix::fs::symlink(&path, &path).unwrap();
        assert_eq!(
            error(&path),
            "read the config `FILE`: it is a symlink that leads back to itself; name a TOML file with `--config FILE`"
        );
        std::fs::remove_file(&path).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, Mode::RWXU).unwrap();
        assert_eq!(
            error(&path),
            "read the config `FILE`: it is no regular file; name a TOML file with `--config FILE`"
        );
        std::fs::remove_file(&path).unwrap();
        File::create(&path).unwrap().set_len(100 << 20).unwrap();
        assert_eq!(
            error(&path),
            "read the config `FILE`: it has 104857600 bytes, of at most 1048576; name a TOML file with `--config FILE`"
        );
        std::fs::write(&path, b"a = 1\nb = \"\xff\"\n").unwrap();
        assert_eq!(
            error(&path),
            "error: the file is not UTF-8 text\n --> FILE:2:6\n  |\n2 | b = \"\u{fffd}\"\n  |      ^\n  \
             = help: save it as UTF-8\n\ncheck the config `FILE`: 1 error"
        );
        std::fs::write(&path, b"a = 1\n\0\n").unwrap();
        assert_eq!(
            error(&path),
            "error: the file holds a NUL byte, so it is no text\n --> FILE:2:1\n  |\n2 | \u{fffd}\n  | ^\n  \
             = help: write it anew as UTF-8 text\n\ncheck the config `FILE`: 1 error"
        );
    }

    #[test]
    fn a_device_is_not_read() {
        assert!(matches!(read_text(Path::new("/dev/zero"), 10), Err(Unread::NoFile)));
    }
}

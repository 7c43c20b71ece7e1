//! What must be true of the machine, whatever the loops are.

use super::super::tool;
use super::Finding;
use crate::supervisor::config::Config;
use crate::support::units::short_size;
use rustix::fs::{Access, AtFlags, CWD, accessat, statfs};
use rustix::process::{Resource, getrlimit};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Logs are at most 128 MB a loop, and a journal and records besides.
const LEAST_DISK: u64 = 200 << 20;
/// 128 clients, and for each of a few hundred loops a pidfd and what its commands need.
const LEAST_FILES: u64 = 1024;
/// The `f_type` of a tmpfs and of a ramfs (statfs(2)).
const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];
/// The first tmux that says by which signal a pane died (`pane_dead_signal`).
const TMUX: (u32, u32) = (3, 3);

/// The programs that are needed.
pub fn programs() -> Vec<Finding> {
    let mut found = vec![tmux(), git()];
    if rustix::process::geteuid().is_root() {
        let mend = "run it as the user whose agents these are; as root an agent can do anything";
        found.push(Finding::note("this runs as root", mend));
    }
    found
}

fn version(program: &str, option: &str) -> Result<String, String> {
    let mut command = Command::new(program);
    command.arg(option);
    tool::said(tool::run(command, Duration::from_secs(5)))
}

fn tmux() -> Finding {
    match version("tmux", "-V") {
        Err(why) => Finding::wrong(format!("tmux: {why}"), "install tmux 3.3a or later and have it in PATH"),
        Ok(text) => match major_minor(&text) {
            Some(version) if version >= TMUX => Finding::ok(text),
            Some(_) => {
                let text = format!("{text} is too old: it does not tell by which signal an agent died");
                Finding::wrong(text, "install tmux 3.3a or later")
            }
            None => Finding::note(format!("{text} is a version that is not known"), "3.3a or later is needed"),
        },
    }
}

/// `tmux 3.3a`, `tmux next-3.6`.
fn major_minor(text: &str) -> Option<(u32, u32)> {
    let number = text.trim_start_matches(|c: char| !c.is_ascii_digit());
    let (major, rest) = number.split_once('.')?;
    let minor: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn git() -> Finding {
    match version("git", "--version") {
        Ok(text) => Finding::ok(text),
        Err(why) => Finding::wrong(format!("git: {why}"), "install git and have it in PATH"),
    }
}

/// The folders of the supervisor.
pub fn folders(config: &Config) -> Vec<Finding> {
    let mut found = vec![folder("state_dir", &config.state_dir), folder("runtime_dir", &config.runtime_dir)];
    // A folder that is not there was found above.
    if let Ok(kind) = statfs(&config.runtime_dir) {
        if !u64::try_from(kind.f_type).is_ok_and(|kind| IN_MEMORY.contains(&kind)) {
            let text = format!("runtime_dir `{}` is on a disk", config.runtime_dir.display());
            found.push(Finding::note(text, "below /run it needs no cleaning after a power cut"));
        }
    }
    found
}

fn folder(key: &str, path: &Path) -> Finding {
    let shown = format!("{key} `{}`", path.display());
    let kind = match fs::metadata(path) {
        Ok(kind) => kind,
        Err(e) if e.kind() == ErrorKind::NotFound => {
            return Finding::note(format!("{shown} is not there yet"), "`supervisor run` makes it");
        }
        Err(e) => return Finding::wrong(format!("{shown}: {e}"), "let this user enter it"),
    };
    let uid = rustix::process::geteuid().as_raw();
    let mode = kind.mode() & 0o7777;
    if !kind.is_dir() {
        Finding::wrong(format!("{shown} is no folder"), format!("name another folder as `{key}`"))
    } else if kind.uid() != uid && uid != 0 {
        let text = format!("{shown} belongs to uid {}, and this is uid {uid}", kind.uid());
        Finding::wrong(text, "run this as its owner, or `chown` it")
    } else if mode & 0o007 != 0 {
        let text = format!("{shown} has mode {mode:04o}: everyone can look into it");
        let mend = format!("`chmod 0750 {}`", path.display());
        if mode & 0o002 != 0 { Finding::wrong(text, mend) } else { Finding::note(text, mend) }
    } else if accessat(CWD, path, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS).is_err() {
        Finding::wrong(format!("{shown} cannot be written to"), "mend its mode, or its read-only file system")
    } else {
        Finding::ok(format!("{shown} is there and can be written to"))
    }
}

/// What can run out.
pub fn resources(config: &Config) -> Vec<Finding> {
    let mut found = Vec::new();
    // The nearest folder that is there is on the disk that it will be on.
    let disk = config.state_dir.ancestors().find_map(|folder| statfs(folder).ok());
    if let Some(disk) = disk {
        let free = disk.f_bavail.saturating_mul(u64::try_from(disk.f_bsize).unwrap_or(0));
        let text = format!("{} free on the disk of `{}`", short_size(free), config.state_dir.display());
        found.push(if free >= LEAST_DISK {
            Finding::ok(text)
        } else {
            Finding::wrong(text, format!("free at least {}", short_size(LEAST_DISK)))
        });
    }
    found.push(memory(config));
    let files = getrlimit(Resource::Nofile).current;
    found.push(match files {
        Some(most) if most < LEAST_FILES => {
            let text = format!("only {most} open files are allowed (RLIMIT_NOFILE)");
            Finding::wrong(text, format!("`ulimit -n {LEAST_FILES}`, or `LimitNOFILE=` in the unit"))
        }
        Some(most) => Finding::ok(format!("{most} open files are allowed")),
        None => Finding::ok("any number of open files is allowed"),
    });
    found
}

fn memory(config: &Config) -> Finding {
    let least = config.min_free_memory;
    match procfs::Current::current() {
        Err(e) => Finding::wrong(format!("reading /proc/meminfo: {e}"), "mount /proc; no `ProcSubset=pid` in the unit"),
        Ok(procfs::Meminfo { mem_available, swap_free, .. }) => {
            let free = mem_available.unwrap_or(0) + swap_free / 2;
            let text = format!("{} of memory free, min_free_memory is {}", short_size(free), short_size(least));
            if free >= least {
                Finding::ok(text)
            } else {
                Finding::wrong(text, "no agent is started until something else ends; or lower min_free_memory")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn versions_of_tmux_are_read() {
        assert_eq!(major_minor("tmux 3.3a"), Some((3, 3)));
        assert_eq!(major_minor("tmux next-3.6"), Some((3, 6)));
        assert_eq!(major_minor("tmux 3.10"), Some((3, 10)));
        assert_eq!(major_minor("tmux master"), None);
    }

    #[test]
    fn a_folder_open_to_all_is_wrong_when_writable_and_noted_when_readable() {
        let dir = tempfile::tempdir().unwrap();
        let judge = |mode| {
            fs::set_permissions(dir.path(), Permissions::from_mode(mode)).unwrap();
            folder("state_dir", dir.path()).level
        };
        use super::super::Level;
        assert_eq!((judge(0o750), judge(0o755), judge(0o777)), (Level::Ok, Level::Note, Level::Wrong));
        assert_eq!(folder("state_dir", &dir.path().join("no")).level, Level::Note);
    }
}

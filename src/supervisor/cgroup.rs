//! The cgroup that systemd delegated to the unit of one session: `UNIT/tmux` has the tmux server, `UNIT/agent` all that
//! its agent started, wherever that has forked to. Owns joining, killing, freezing and measuring the latter. Where there
//! is no such cgroup (direct mode, cgroup v1) there is no [`Unit`], and `leftovers` does what it can.

use crate::support::process::ProcId;
use procfs::process::Process;
use rustix::fs::{Access, AtFlags, CWD, accessat};
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// What `DelegateSubgroup=` in `cc-ci-session@.service` says: where systemd starts the tmux server.
pub const SERVER: &str = "tmux";
/// The agent's own, beside it.
pub const AGENT: &str = "agent";

/// What the unit's memory limit leaves for the tmux server and the log's pipe: at the limit the agent is throttled or
/// killed, not they.
const FOR_THE_SERVER: u64 = 32 << 20;

/// A unit's cgroup, delegated to this user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// As `/proc/PID/cgroup` has it.
    path: String,
    dir: PathBuf,
}

/// The cgroup of one epoch's agent. It may be gone at any time: systemd removes it with its unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    dir: PathBuf,
}

/// What one round of killing found.
#[derive(Debug)]
pub enum Killed {
    /// Nobody is in it, and it is gone.
    Nothing,
    /// These were told to die. `events` has POLLPRI when that changed something.
    Some {
        /// Who was seen; what was forked meanwhile dies too.
        found: BTreeSet<ProcId>,
        /// `cgroup.events`.
        events: File,
    },
}

impl Unit {
    /// The unit that the tmux server `pid` runs in; `None` where it is in no delegated cgroup v2.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn of_server(pid: i32) -> io::Result<Option<Self>> {
        let (Some(root), Some(path)) = (mount(), path_of(pid)?) else { return Ok(None) };
        let Some(path) = path.strip_suffix(SERVER).and_then(|path| path.strip_suffix('/')) else { return Ok(None) };
        if path.is_empty() {
            return Ok(None);
        }
        Ok(Self::at(root, path))
    }

    fn at(root: &Path, path: &str) -> Option<Self> {
        let dir = root.join(path.trim_start_matches('/'));
        // Delegation is ownership, and a unit with ProtectControlGroups sees it read-only.
        accessat(CWD, &dir, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS).ok()?;
        Some(Self { path: path.to_owned(), dir })
    }

    /// Whether it is below a user's manager, which ends with the last login unless the user lingers.
    pub fn is_of_a_user(&self) -> bool {
        self.path.starts_with("/user.slice/")
    }

    /// Its agent's cgroup, there or not.
    pub fn agent(&self) -> Group {
        Group { dir: self.dir.join(AGENT) }
    }

    /// Whether a process is in the unit; one that is gone is not.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn has(&self, pid: i32) -> io::Result<bool> {
        Ok(path_of(pid)?.is_some_and(|path| is_below(&path, &self.path)))
    }

    /// Whether a process is in the agent's cgroup; one that is gone is not.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn has_in_agent(&self, pid: i32) -> io::Result<bool> {
        Ok(path_of(pid)?.is_some_and(|path| is_below(&path, &format!("{}/{AGENT}", self.path))))
    }

    /// `memory.events`, which has POLLPRI when the kernel killed for memory anywhere in the unit; `None` without a memory
    /// controller. Read it once to be told of the next.
    ///
    /// # Errors
    /// Any other than that.
    pub fn memory_events(&self) -> io::Result<Option<File>> {
        let path = self.dir.join("memory.events");
        match File::open(&path) {
            Ok(mut file) => {
                reread(&mut file)?;
                Ok(Some(file))
            }
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(at(&path, &e)),
        }
    }

    /// Puts the caller into a new cgroup for its agent, with the unit's limits less what the tmux server needs. What is
    /// returned could not be done and is no reason not to start.
    ///
    /// # Errors
    /// When an earlier agent's cgroup is not empty, or the kernel refuses.
    pub fn join(&self) -> io::Result<Vec<io::Error>> {
        let mut missed = Vec::new();
        if let Err(e) = self.enable_memory() {
            missed.push(e);
        }
        let group = self.agent();
        group.remove()?;
        std::fs::create_dir(&group.dir).map_err(|e| at(&group.dir, &e))?;
        for file in ["memory.max", "memory.high"] {
            if let Err(e) = self.hand_down(&group, file) {
                missed.push(e);
            }
        }
        // 0 is the writer.
        put(&group.dir.join("cgroup.procs"), "0")?;
        Ok(missed)
    }

    fn enable_memory(&self) -> io::Result<()> {
        let has = |file: &str| -> io::Result<bool> {
            let text = get(&self.dir.join(file))?.unwrap_or_default();
            Ok(text.split_ascii_whitespace().any(|controller| controller == "memory"))
        };
        if !has("cgroup.controllers")? || has("cgroup.subtree_control")? {
            return Ok(());
        }
        put(&self.dir.join("cgroup.subtree_control"), "+memory")
    }

    fn hand_down(&self, group: &Group, file: &str) -> io::Result<()> {
        let Some(limit) = get(&self.dir.join(file))?.and_then(|text| number(&text)) else { return Ok(()) };
        put(&group.dir.join(file), &less(limit).to_string())
    }
}

/// At least half of it: a limit this small is for a test.
fn less(limit: u64) -> u64 {
    limit.saturating_sub(FOR_THE_SERVER).max(limit / 2)
}

impl Group {
    /// One round of killing all that is in it. Repeat when `events` or a deadline says so, until there is nothing.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn kill_round(&self) -> io::Result<Killed> {
        let path = self.dir.join("cgroup.events");
        let mut events = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Killed::Nothing),
            Err(e) => return Err(at(&path, &e)),
        };
        // Read before the kill: what changes from here on is told.
        let Some(text) = reread(&mut events)? else { return Ok(Killed::Nothing) };
        if field(&text, "populated") == Some(0) {
            self.remove()?;
            return Ok(Killed::Nothing);
        }
        let mut found = BTreeSet::new();
        members(&self.dir, &mut found)?;
        match put(&self.dir.join("cgroup.kill"), "1") {
            Ok(()) => Ok(Killed::Some { found, events }),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(Killed::Nothing),
            Err(e) => Err(e),
        }
    }

    /// Removes it, and those that its processes made in it.
    ///
    /// # Errors
    /// When somebody is in it.
    pub fn remove(&self) -> io::Result<()> {
        for dir in below(&self.dir)?.into_iter().rev() {
            match std::fs::remove_dir(&dir) {
                Ok(()) => {}
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) => return Err(at(&dir, &e)),
            }
        }
        Ok(())
    }

    /// Has all that is in it stopped where it is, or go on; whether there is such a cgroup.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn freeze(&self, freeze: Freeze) -> io::Result<Present> {
        let text = match freeze {
            Freeze::Stop => "1",
            Freeze::GoOn => "0",
        };
        match put(&self.dir.join("cgroup.freeze"), text) {
            Ok(()) => Ok(Present::Yes),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(Present::No),
            Err(e) => Err(e),
        }
    }

    /// Whether all of it has stopped, which it does a moment after it was told to.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn is_frozen(&self) -> io::Result<bool> {
        Ok(get(&self.dir.join("cgroup.events"))?.is_some_and(|text| field(&text, "frozen") == Some(1)))
    }

    /// Memory in use, in bytes, less what is only a cache of files and would be given up; `None` without a memory
    /// controller.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn memory(&self) -> io::Result<Option<u64>> {
        let Some(all) = get(&self.dir.join("memory.current"))?.and_then(|text| number(&text)) else { return Ok(None) };
        let stat = get(&self.dir.join("memory.stat"))?.unwrap_or_default();
        Ok(Some(all.saturating_sub(field(&stat, "inactive_file").unwrap_or(0))))
    }

    /// The most memory that was in use at once, in bytes; `None` before Linux 5.19.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn peak(&self) -> io::Result<Option<u64>> {
        Ok(get(&self.dir.join("memory.peak"))?.and_then(|text| number(&text)))
    }

    /// Its `memory.max`, in bytes; `None` without one.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn limit(&self) -> io::Result<Option<u64>> {
        Ok(get(&self.dir.join("memory.max"))?.and_then(|text| number(&text)))
    }

    /// How many of it the kernel has killed for memory; 0 without a memory controller.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn oom_kills(&self) -> io::Result<u64> {
        let text = get(&self.dir.join("memory.events"))?;
        Ok(text.and_then(|text| field(&text, "oom_kill")).unwrap_or(0))
    }
}

/// What a cgroup is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freeze {
    /// Stop where you are.
    Stop,
    /// Go on.
    GoOn,
}

/// Whether there is such a cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Present {
    /// There is.
    Yes,
    /// There is none.
    No,
}

/// Reads a cgroup's file anew, which makes the next change of it POLLPRI; `None` when its cgroup is gone.
///
/// # Errors
/// Any other than that.
pub fn reread(file: &mut File) -> io::Result<Option<String>> {
    let mut text = String::new();
    match file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_string(&mut text)) {
        Ok(_) => Ok(Some(text)),
        Err(e) if is_gone(&e) => Ok(None),
        Err(e) => Err(e),
    }
}

/// A folder and all below it, each before what is in it; empty when there is none.
fn below(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(dir) = todo.pop() {
        let entries = match std::fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == ErrorKind::NotFound => continue,
            Err(e) => return Err(at(&dir, &e)),
        };
        for entry in entries {
            let entry = entry.map_err(|e| at(&dir, &e))?;
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                todo.push(entry.path());
            }
        }
        found.push(dir);
    }
    Ok(found)
}

fn members(dir: &Path, found: &mut BTreeSet<ProcId>) -> io::Result<()> {
    for dir in below(dir)? {
        let text = get(&dir.join("cgroup.procs"))?.unwrap_or_default();
        for pid in text.lines().filter_map(|line| line.parse().ok()) {
            found.extend(ProcId::of(pid)?);
        }
    }
    Ok(())
}

/// The path of a process's cgroup v2; `None` when it is gone, or its cgroup is.
fn path_of(pid: i32) -> io::Result<Option<String>> {
    let file = format!("/proc/{pid}/cgroup");
    match std::fs::read_to_string(&file) {
        Ok(text) => Ok(v2_path(&text).map(str::to_owned)),
        Err(e) if is_gone(&e) => Ok(None),
        Err(e) => Err(at(Path::new(&file), &e)),
    }
}

fn v2_path(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("0::")).filter(|path| !path.ends_with(" (deleted)"))
}

fn is_below(path: &str, root: &str) -> bool {
    path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Where cgroup v2 is mounted whole: `/sys/fs/cgroup`, or a folder in it beside v1.
fn mount() -> Option<&'static Path> {
    static MOUNT: OnceLock<Option<PathBuf>> = OnceLock::new();
    let find = || {
        // What cannot be read is as good as none: then everything goes as without cgroups.
        let mounts = Process::myself().and_then(|me| me.mountinfo()).ok()?;
        mounts.into_iter().find(|m| m.fs_type == "cgroup2" && m.root == "/").map(|m| m.mount_point)
    };
    MOUNT.get_or_init(find).as_deref()
}

fn get(path: &Path) -> io::Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if is_gone(&e) => Ok(None),
        Err(e) => Err(at(path, &e)),
    }
}

/// Into a file that is there: the kernel's are, and nothing else is to be made.
fn put(path: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|e| at(path, &e))
}

/// A cgroup that goes away while one of its files is used makes that fail with ENODEV.
fn is_gone(e: &io::Error) -> bool {
    e.kind() == ErrorKind::NotFound
        || [rustix::io::Errno::NODEV, rustix::io::Errno::SRCH]
            .iter()
            .any(|no| e.raw_os_error() == Some(no.raw_os_error()))
}

fn at(path: &Path, e: &io::Error) -> io::Error {
    let kind = if is_gone(e) { ErrorKind::NotFound } else { e.kind() };
    io::Error::new(kind, format!("cgroup `{}`: {e}", path.display()))
}

/// `max` is none.
fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

fn field(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')).and_then(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with files as a kernel with a memory controller has them.
    fn fake(files: &[(&str, &str)]) -> (tempfile::TempDir, Unit) {
        let dir = tempfile::tempdir().unwrap();
        let unit = Unit { path: "/x.service".into(), dir: dir.path().to_owned() };
        std::fs::create_dir(unit.agent().dir).unwrap();
        for (file, text) in files {
            std::fs::write(dir.path().join(file), text).unwrap();
        }
        (dir, unit)
    }

    #[test]
    fn only_a_process_in_a_folder_named_tmux_is_in_a_units_cgroup() {
        let hybrid = "4:memory:/x\n0::/system.slice/cc-ci-session@builder.service/tmux\n";
        assert_eq!(v2_path(hybrid), Some("/system.slice/cc-ci-session@builder.service/tmux"));
        assert_eq!(v2_path("4:memory:/x\n"), None);
        assert_eq!(v2_path("0::/a/tmux (deleted)\n"), None);
        assert_eq!(Unit::of_server(std::process::id().try_into().unwrap()).unwrap(), None, "this test runs in none");
    }

    #[test]
    fn a_unit_with_a_longer_name_is_another_one() {
        assert!(is_below("/s/a.service/agent/x", "/s/a.service") && is_below("/s/a.service", "/s/a.service"));
        assert!(!is_below("/s/a.service2", "/s/a.service") && !is_below("/s", "/s/a.service"));
    }

    #[test]
    fn memory_is_what_is_used_less_what_is_only_cached() {
        let (_dir, unit) = fake(&[
            ("agent/memory.current", "3000000\n"),
            ("agent/memory.stat", "anon 1500000\nfile 1500000\ninactive_file 1000000\nactive_file 500000\n"),
            ("agent/memory.peak", "4000000\n"),
            ("agent/memory.max", "5000000\n"),
        ]);
        let group = unit.agent();
        assert_eq!(group.memory().unwrap(), Some(2_000_000));
        assert_eq!((group.peak().unwrap(), group.limit().unwrap()), (Some(4_000_000), Some(5_000_000)));
    }

    #[test]
    fn kills_for_memory_are_counted_and_other_events_are_not() {
        let (dir, unit) =
            fake(&[("agent/memory.events", "low 0\nhigh 3\nmax 7\noom 2\noom_kill 1\noom_group_kill 9\n")]);
        assert_eq!(unit.agent().oom_kills().unwrap(), 1);
        std::fs::write(dir.path().join("agent/memory.max"), "max\n").unwrap();
        assert_eq!(unit.agent().limit().unwrap(), None);
    }

    #[test]
    fn without_a_memory_controller_nothing_is_known_and_nothing_is_wrong() {
        let (_dir, unit) = fake(&[]);
        let group = unit.agent();
        assert_eq!((group.memory().unwrap(), group.limit().unwrap(), group.oom_kills().unwrap()), (None, None, 0));
        assert!(unit.memory_events().unwrap().is_none());
    }

    #[test]
    fn the_agents_limits_leave_room_for_the_tmux_server() {
        let (dir, unit) = fake(&[
            ("memory.max", "1073741824\n"),
            ("memory.high", "max\n"),
            ("agent/memory.max", ""),
            ("agent/memory.high", ""),
        ]);
        unit.hand_down(&unit.agent(), "memory.max").unwrap();
        unit.hand_down(&unit.agent(), "memory.high").unwrap();
        let read = |file: &str| std::fs::read_to_string(dir.path().join(file)).unwrap();
        assert_eq!(read("agent/memory.max"), (1_073_741_824_u64 - (32 << 20)).to_string());
        assert_eq!(read("agent/memory.high"), "");
        assert_eq!(less(40 << 20), 20 << 20);
    }

    #[test]
    fn memory_is_enabled_below_a_unit_that_has_it_and_only_there() {
        for (controllers, enabled, want) in
            [("cpu memory pids\n", "pids\n", "+memory"), ("cpu memory\n", "memory\n", "memory\n"), ("cpu\n", "", "")]
        {
            let (dir, unit) = fake(&[("cgroup.controllers", controllers), ("cgroup.subtree_control", enabled)]);
            unit.enable_memory().unwrap();
            let after = std::fs::read_to_string(dir.path().join("cgroup.subtree_control")).unwrap();
            assert!(after.starts_with(want), "{controllers:?} {enabled:?}: {after:?}");
        }
    }
}

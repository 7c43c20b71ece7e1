//! Finds processes: by descent, and by the marker that every agent's environment carries.

use super::{ProcId, Stat, State, about, is_gone, own_pid, read_unless_gone};
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::OnceLock;

/// The variable that names an agent's loop.
pub const LOOP_VAR: &str = "CC_CI_LOOP";
/// The variable that holds the control socket of an agent's supervisor.
pub const SOCKET_VAR: &str = "CC_CI_SOCKET";

/// How often a walk through the `children` files is repeated while processes come and go, before a scan decides.
/// One repeat settles the ordinary case (one process that ends); more is a process tree in uproar.
const WALKS: usize = 4;

/// The parent's pid; `None` when there is no such process.
///
/// # Errors
/// When its `/proc` entry is there but cannot be read.
pub fn parent(pid: i32) -> io::Result<Option<i32>> {
    Ok(Stat::read(pid)?.map(|s| s.parent))
}

/// Its parent, the parent of that and so on, up to but without init; empty for a process that is gone.
///
/// # Errors
/// As [`parent`].
pub fn ancestors(pid: i32) -> io::Result<Vec<i32>> {
    let mut found = Vec::new();
    for _ in 0..WALKS {
        found.clear();
        let mut at = pid;
        loop {
            match parent(at)? {
                // A pid that is used again while this walks could close a circle.
                Some(up) if up > 1 && up != pid && !found.contains(&up) => {
                    found.push(up);
                    at = up;
                }
                // It ended since its child named it, which has another parent now.
                None if at != pid => break,
                Some(_) | None => return Ok(found),
            }
        }
    }
    Ok(found)
}

/// Every living process below `root`, without it, in the order of their pids. What is born or moved while this looks
/// can be missed: whoever must get all repeats until a round finds none.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn descendants(root: i32) -> io::Result<Vec<ProcId>> {
    if !has_children_files() {
        return by_scan(root);
    }
    let mut last = None;
    for _ in 0..WALKS {
        let walk = by_children_files(root)?;
        // The kernel may skip a sibling when a process is reaped while the file is read, and children of a process
        // that ends move up, behind the walk. So a walk that met a dead one counts only when the next says the same.
        if walk.gone.is_empty() || last.as_ref() == Some(&walk) {
            return Ok(walk.alive.into_iter().collect());
        }
        last = Some(walk);
    }
    by_scan(root)
}

/// The living direct children of `pid`.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn children(pid: i32) -> io::Result<Vec<ProcId>> {
    let mut found = Vec::new();
    for id in descendants(pid)? {
        if parent(id.pid)? == Some(pid) {
            found.push(id);
        }
    }
    Ok(found)
}

/// The processes of this user that carry the marker of one supervisor's loops, as one look at all of `/proc` found them.
#[derive(Debug, Default)]
pub struct Marked {
    by_loop: HashMap<Vec<u8>, Vec<ProcId>>,
}

impl Marked {
    /// Every living process of this user whose environment has `CC_CI_SOCKET=<socket>`, but the caller. The socket keeps
    /// two supervisors on one machine apart. A program that made itself undumpable (some ssh-agents) hides its environment
    /// and is not found.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn find(control_socket: &Path) -> io::Result<Self> {
        let uid = rustix::process::geteuid().as_raw();
        let me = own_pid();
        let by_socket = [SOCKET_VAR.as_bytes(), b"=", control_socket.as_os_str().as_bytes()].concat();
        let by_loop = [LOOP_VAR.as_bytes(), b"="].concat();
        let mut found = Self::default();
        for pid in all_pids()? {
            if pid == me || !owned_by(pid, uid)? {
                continue;
            }
            let Some(environ) = environ(pid)? else { continue };
            let vars = || environ.split(|b| *b == 0);
            if !vars().any(|var| var == by_socket) {
                continue;
            }
            let Some(id) = ProcId::of(pid)? else { continue };
            // A variable that is there twice counts as both.
            for name in vars().filter_map(|var| var.strip_prefix(by_loop.as_slice())) {
                found.by_loop.entry(name.to_owned()).or_default().push(id);
            }
        }
        Ok(found)
    }

    /// Those with `CC_CI_LOOP=<loop_name>` too.
    pub fn of(&self, loop_name: &str) -> &[ProcId] {
        self.by_loop.get(loop_name.as_bytes()).map_or(&[], Vec::as_slice)
    }
}

/// What [`Marked`] finds for one loop.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn marked(loop_name: &str, control_socket: &Path) -> io::Result<Vec<ProcId>> {
    Ok(Marked::find(control_socket)?.of(loop_name).to_vec())
}

/// The environment that a process was started with, as `KEY=value` parts that each end in NUL; `None` when the process
/// is gone or hides it.
///
/// # Errors
/// Any other than those two.
pub fn environ(pid: i32) -> io::Result<Option<Vec<u8>>> {
    let path = format!("/proc/{pid}/environ");
    match read_unless_gone(&path) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Ok(None),
        other => other,
    }
}

/// The command line that a process runs, as arguments that each end in NUL; empty for a zombie or when it is gone.
///
/// # Errors
/// When it is there but cannot be read.
pub fn cmdline(pid: i32) -> io::Result<Vec<u8>> {
    Ok(read_unless_gone(&format!("/proc/{pid}/cmdline"))?.unwrap_or_default())
}

fn owned_by(pid: i32, uid: u32) -> io::Result<bool> {
    let path = format!("/proc/{pid}");
    match std::fs::metadata(&path) {
        Ok(meta) => Ok(meta.uid() == uid),
        Err(e) if is_gone(&e) => Ok(false),
        Err(e) => Err(about(&path, &e)),
    }
}

fn all_pids() -> io::Result<Vec<i32>> {
    let mut pids = Vec::new();
    for entry in std::fs::read_dir("/proc").map_err(|e| about("/proc", &e))? {
        let name = entry.map_err(|e| about("/proc", &e))?.file_name();
        // Everything that is not a number is no process.
        pids.extend(name.to_str().and_then(|n| n.parse::<i32>().ok()));
    }
    Ok(pids)
}

/// The kernel has these files only with CONFIG_PROC_CHILDREN.
fn has_children_files() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    // Unreadable for whatever reason: the scan is slower but as right.
    *HAS.get_or_init(|| std::fs::read("/proc/thread-self/children").is_ok())
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Walk {
    alive: BTreeSet<ProcId>,
    gone: BTreeSet<i32>,
}

fn by_children_files(root: i32) -> io::Result<Walk> {
    let mut walk = Walk::default();
    let mut todo = vec![root];
    while let Some(at) = todo.pop() {
        for child in children_of(at)? {
            match Stat::read(child)?.filter(|s| s.state != State::Gone) {
                Some(stat) => {
                    if walk.alive.insert(stat.id) {
                        todo.push(child);
                    }
                }
                None => {
                    walk.gone.insert(child);
                }
            }
        }
    }
    Ok(walk)
}

/// Each thread has its own children.
fn children_of(pid: i32) -> io::Result<Vec<i32>> {
    let tasks = format!("/proc/{pid}/task");
    let threads = match std::fs::read_dir(&tasks) {
        Ok(threads) => threads,
        Err(e) if is_gone(&e) => return Ok(Vec::new()),
        Err(e) => return Err(about(&tasks, &e)),
    };
    let mut found = Vec::new();
    for thread in threads {
        let thread = match thread {
            Ok(thread) => thread,
            Err(e) if is_gone(&e) => continue,
            Err(e) => return Err(about(&tasks, &e)),
        };
        let path = format!("{tasks}/{}/children", thread.file_name().to_string_lossy());
        let Some(bytes) = read_unless_gone(&path)? else { continue };
        found.extend(String::from_utf8_lossy(&bytes).split_ascii_whitespace().filter_map(|p| p.parse::<i32>().ok()));
    }
    Ok(found)
}

fn by_scan(root: i32) -> io::Result<Vec<ProcId>> {
    let mut below: HashMap<i32, Vec<Stat>> = HashMap::new();
    for pid in all_pids()? {
        if let Some(stat) = Stat::read(pid)? {
            below.entry(stat.parent).or_default().push(stat);
        }
    }
    let mut found = BTreeSet::new();
    let mut todo = vec![root];
    while let Some(at) = todo.pop() {
        for stat in below.remove(&at).unwrap_or_default() {
            todo.push(stat.id.pid);
            if stat.state != State::Gone {
                found.insert(stat.id);
            }
        }
    }
    Ok(found.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::super::pid_of;
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    /// A shell with two sleeping children; the line that it prints says that they are there.
    fn family() -> Child {
        let mut child = Command::new("sh")
            .args(["-c", "sleep 1000 & sleep 1000 & echo ready; wait"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        child
    }

    fn end(mut child: Child) {
        for id in descendants(pid_of(&child)).unwrap() {
            super::super::send(id, rustix::process::Signal::KILL).unwrap();
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn the_fast_and_the_slow_way_find_the_same_descendants() {
        let child = family();
        let root = pid_of(&child);
        let fast: Vec<ProcId> = by_children_files(root).unwrap().alive.into_iter().collect();
        assert_eq!(fast.len(), 2);
        assert_eq!(fast, by_scan(root).unwrap());
        assert_eq!(fast, descendants(root).unwrap());
        assert_eq!(fast, children(root).unwrap());
        let above = ancestors(fast[0].pid).unwrap();
        assert!(above.contains(&root) && above.contains(&own_pid()), "{above:?}");
        assert!(!above.contains(&fast[0].pid) && !ancestors(root).unwrap().contains(&root));
        end(child);
    }

    #[test]
    fn only_the_loop_and_the_supervisor_that_are_asked_for_are_found_by_marker() {
        let socket = format!("/run/test-{}/control.sock", std::process::id());
        let spawn = |name: &str, socket: &str| {
            let child = Command::new("sleep").arg("1000").env(LOOP_VAR, name).env(SOCKET_VAR, socket).spawn().unwrap();
            // In the middle of its exec it has none yet.
            let environ = format!("/proc/{}/environ", child.id());
            let end = Instant::now() + Duration::from_secs(60);
            while std::fs::read(&environ).unwrap().is_empty() {
                assert!(Instant::now() < end, "`{environ}` stays empty");
                std::thread::sleep(Duration::from_millis(1));
            }
            child
        };
        let mine = spawn("builder", &socket);
        let prefix = spawn("builder2", &socket);
        let foreign = spawn("builder", &format!("{socket}.other"));
        let found = marked("builder", Path::new(&socket)).unwrap();
        assert_eq!(found.iter().map(|i| i.pid).collect::<Vec<_>>(), [pid_of(&mine)]);
        for mut child in [mine, prefix, foreign] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert_eq!(marked("builder", Path::new(&socket)).unwrap(), []);
    }

    #[test]
    fn a_process_without_children_has_no_descendants() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        assert_eq!(descendants(pid_of(&child)).unwrap(), []);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(descendants(pid_of(&child)).unwrap(), [], "no such process");
    }
}

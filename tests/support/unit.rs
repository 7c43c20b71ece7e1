//! systemd's part, played by a test: a session's tmux server in a delegated cgroup, as `cc-ci-session@NAME.service` has it.

use super::reaper;
use cc_ci::support::process::{ProcId, pid_of};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A cgroup v2 with `tmux` in it; removed at the end with all that is in it.
pub struct Unit {
    dir: PathBuf,
    child: Option<Child>,
}

impl Unit {
    /// `None`, and a line that says why, where none can be made.
    pub fn new() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let Some(root) = mount() else {
            eprintln!("skipped: cgroup v2 is not mounted");
            return None;
        };
        let name = format!("cc-ci-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let unit = Self { dir: root.join(name), child: None };
        if let Err(e) = fs::create_dir_all(unit.dir.join("tmux")) {
            eprintln!("skipped: no cgroup can be made here: {e}");
            return None;
        }
        if !unit.dir.join("cgroup.kill").exists() {
            eprintln!("skipped: cgroup.kill needs Linux 5.14");
            return None;
        }
        Some(unit)
    }

    pub fn agent(&self) -> PathBuf {
        self.dir.join("agent")
    }

    pub fn server(&self) -> PathBuf {
        self.dir.join("tmux")
    }

    /// Starts the loop's tmux server, as the unit does. Not `--host systemd`: tests may be run by root.
    pub fn start(&mut self, config: &Path, name: &str) -> ProcId {
        let script = "echo $$ >\"$1/cgroup.procs\" && shift && exec \"$@\"";
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script, "sh"]).arg(self.server()).arg(env!("CARGO_BIN_EXE_supervisor"));
        command.args(["session", name, "--host", "direct", "--config"]).arg(config);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().unwrap();
        let id = ProcId::of(pid_of(&child)).unwrap().unwrap();
        self.child = Some(child);
        id
    }

    /// SIGKILL to the server alone.
    pub fn kill_server(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Waits for the server's end.
    pub fn server_ended(&mut self) {
        self.child.take().unwrap().wait().unwrap();
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        // Nothing may outlive a test; what is gone already is fine.
        let _ = fs::write(self.dir.join("cgroup.kill"), "1");
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        for dir in [self.agent(), self.server(), self.dir.clone()] {
            reaper::until_removed(&dir);
        }
    }
}

/// Every process in a cgroup.
pub fn procs(dir: &Path) -> Vec<i32> {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// The cgroup of a process ends with this.
pub fn is_in(pid: i32, end: &str) -> bool {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    text.lines().any(|line| line.starts_with("0::") && line.ends_with(end))
}

fn mount() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let found = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>()).find(|fields| fields[2] == "cgroup2");
    found.map(|fields| fields[1].into())
}

//! `supervisor demo`: runs the real supervisor in a temporary folder, does to it what reboots and accidents do, and
//! prints what was seen to happen. Only the order of events is here; see [`rig`] and [`workspace`].

mod rig;
mod step;
mod workspace;

use super::fault::Fault;
use super::out::{Style, Tone, print};
use crate::supervisor::core::view::{DaemonState, LoopView};
use crate::supervisor::journal::Entry;
use crate::support::process::{ProcId, send};
use anyhow::Context as _;
use rig::Rig;
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use step::{Broken, Interrupt};
use workspace::{CLONES, Length, Workspace};

/// How much of the supervisor's log is shown when a step did not happen.
const LOG_LINES: usize = 25;

/// Options of `demo`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Takes about ten seconds, needs tmux and git, and removes everything that it made.")]
pub struct Args {
    /// Leave it running at the end, and say how to look at it and how to remove it
    #[arg(long)]
    pub keep: bool,
}

/// Shows everything at work.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    for (program, version) in [("tmux", "-V"), ("git", "--version")] {
        there(program, version)?;
    }
    let interrupt = Interrupt::catch().context("demo: catching signals")?;
    let supervisor = std::env::current_exe().context("demo: finding the path of this program")?;
    let length = if args.keep { Length::Keep } else { Length::Show };
    let dir = folder().context("demo: making a temporary folder")?;
    // What the agents and the supervisor say of their folder has its links resolved.
    let root = dir.path().canonicalize().context("demo: finding the temporary folder")?;
    let workspace = Workspace::fill(&root, &supervisor, length)
        .map_err(|e| Fault::Failed(format!("demo: step `make the workspace`: {e}")))?;
    let mut show =
        Show { rig: Rig::new(supervisor, workspace, interrupt), step: "begin", style: Style::of_stdout(), proved: 0 };
    let start = Instant::now();

    let mut told = show.tell(length);
    if length == Length::Keep {
        told = told.and_then(|()| show.leave());
        if told.is_ok() {
            let _: PathBuf = dir.keep();
            return Ok(ExitCode::SUCCESS);
        }
    }
    let log = last_lines(&show.rig.workspace.log());
    let step = show.step;
    let removed = show.remove().and_then(|()| {
        dir.close().map_err(|e| Broken::new(format!("removing the temporary folder `{}`: {e}", root.display())))
    });
    if let Err(cause) = told {
        if cause.is::<Fault>() {
            // A reader that went away (`supervisor demo | head`) has seen enough.
            return Err(cause);
        }
        let more = removed.err().map(|e| format!("\ndemo: and then: {e}")).unwrap_or_default();
        let message = format!("demo: step `{step}`: {cause:#}\nthe end of the supervisor's log:\n{log}{more}");
        return Err(Fault::Failed(message).into());
    }
    removed.map_err(|e| Fault::Failed(format!("demo: step `remove everything`: {e}")))?;
    show.proof("nothing of it runs any more, and its folder is gone")?;
    print(&format!("\nAll {} shown in {}.\n", show.proved, seconds(start.elapsed())))?;
    Ok(ExitCode::SUCCESS)
}

/// Whether a program can be run here.
fn there(program: &str, version: &str) -> anyhow::Result<()> {
    let run = Command::new(program).arg(version).stdin(Stdio::null()).stdout(Stdio::null()).status();
    match run {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Fault::Failed(format!("demo: running `{program} {version}`: {status}; mend it")).into()),
        Err(e) if e.kind() == ErrorKind::NotFound => {
            let how = "with `apt-get install tmux git`, or `nix shell nixpkgs#tmux nixpkgs#git`";
            Err(Fault::Failed(format!("demo: running `{program}`: it is not in PATH; install it {how}")).into())
        }
        Err(e) => Err(Fault::Failed(format!("demo: running `{program}`: {e}; mend it")).into()),
    }
}

/// A folder for this user alone. Where $TMPDIR is so deep that sockets in it have no room, /tmp is taken.
fn folder() -> std::io::Result<tempfile::TempDir> {
    const ROOM: usize = 40;
    let mut builder = tempfile::Builder::new();
    builder.prefix("cc-ci-demo.");
    let dir = std::env::temp_dir();
    if dir.as_os_str().len() > ROOM { builder.tempdir_in("/tmp") } else { builder.tempdir_in(dir) }
}

fn last_lines(file: &Path) -> String {
    match std::fs::read(file) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(LOG_LINES)..].iter().map(|line| format!("  {line}\n")).collect()
        }
        Err(e) if e.kind() == ErrorKind::NotFound => "  it was not started yet\n".to_owned(),
        Err(e) => format!("  `{}`: {e}\n", file.display()),
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

/// The pids of the loops by name, as they were seen.
fn pids(loops: &[LoopView]) -> BTreeMap<String, i32> {
    loops.iter().filter_map(|l| Some((l.name.to_string(), l.pid?))).collect()
}

fn listed(pids: &BTreeMap<String, i32>) -> String {
    pids.iter().map(|(name, pid)| format!("{name} {pid}")).collect::<Vec<_>>().join(", ")
}

struct Show {
    rig: Rig,
    /// What is being shown, for the message if it does not happen.
    step: &'static str,
    style: Style,
    proved: usize,
}

impl Show {
    fn tell(&mut self, length: Length) -> anyhow::Result<()> {
        let root = self.rig.workspace.root.display().to_string();
        print(&format!("Three loops (shell scripts as agents), a bare git repository and two clones in {root}\n\n"))?;
        let mut agents = self.start()?;
        self.kill_agent(&mut agents)?;
        let daemon = self.kill_supervisor(&agents)?;
        self.adopt(daemon, &agents)?;
        self.gates()?;
        self.drain()?;
        if length == Length::Show {
            self.stop()?;
        }
        Ok(())
    }

    fn proof(&mut self, what: &str) -> anyhow::Result<()> {
        self.proved += 1;
        print(&format!("{} {what}\n", self.style.paint(Tone::Good, "✓")))
    }

    /// The status as a person sees it.
    fn table(&mut self) -> anyhow::Result<()> {
        let table = self.rig.ask(&["status"])?;
        print(&table.lines().map(|line| format!("    {line}").trim_end().to_owned() + "\n").collect::<String>())
    }

    fn start(&mut self) -> anyhow::Result<BTreeMap<String, i32>> {
        self.step = "three loops come up";
        self.rig.run()?;
        let (loops, took) = self.rig.wait_up("three loops to be up", |_| true)?;
        let agents = pids(&loops);
        self.proof(&format!("three loops up {} after `supervisor run`: {}", seconds(took), listed(&agents)))?;
        self.table()?;
        Ok(agents)
    }

    fn kill_agent(&mut self, agents: &mut BTreeMap<String, i32>) -> anyhow::Result<()> {
        self.step = "a killed agent comes back";
        let old = agents.get("builder").copied().ok_or_else(|| Broken::new("there is no builder"))?;
        let id = self.rig.process(old)?;
        send(id, Signal::KILL).map_err(|e| Broken::new(format!("killing the builder, pid {old}: {e}")))?;
        let other = |loops: &[LoopView]| pids(loops).get("builder").is_some_and(|pid| *pid != old);
        let (loops, took) = self.rig.wait_up("the builder to be up with another pid", other)?;
        let now = pids(&loops);
        for (name, pid) in agents.iter().filter(|(name, _)| *name != "builder") {
            if now.get(name) != Some(pid) {
                return Err(Broken::new(format!("{name} was not touched, but its pid {pid} is now {now:?}")).into());
            }
        }
        let new = now.get("builder").copied().unwrap_or_default();
        self.proof(&format!("builder killed (SIGKILL to pid {old}), back as {new} after {}", seconds(took)))?;
        *agents = now;
        Ok(())
    }

    /// Kills the supervisor alone; its pid.
    fn kill_supervisor(&mut self, agents: &BTreeMap<String, i32>) -> anyhow::Result<Vec<ProcId>> {
        self.step = "agents outlive a killed supervisor";
        let mut living = Vec::new();
        for pid in agents.values() {
            living.push(self.rig.process(*pid)?);
        }
        let old = self.rig.kill_daemon()?;
        // What would die with it does so within this; a supervisor that comes back at once would hide it.
        let watched = Duration::from_millis(300);
        let end = Instant::now() + watched;
        while Instant::now() < end {
            self.rig.interrupt.check()?;
            for id in &living {
                if !id.is_alive()? {
                    return Err(Broken::new(format!("agent {id} died with the supervisor")).into());
                }
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let down = self.rig.status()?.daemon;
        if down != DaemonState::Down {
            return Err(
                Broken::new(format!("`supervisor status` says {down:?} of a supervisor that was killed")).into()
            );
        }
        self.proof(&format!(
            "supervisor killed (SIGKILL to pid {old}): the three agents run on, and `supervisor status` still works"
        ))?;
        Ok(living)
    }

    fn adopt(&mut self, living: Vec<ProcId>, agents: &BTreeMap<String, i32>) -> anyhow::Result<()> {
        self.step = "a new supervisor adopts the agents";
        let daemon = self.rig.run()?;
        let (loops, took) = self.rig.wait_up("the new supervisor to have all three loops up", |_| true)?;
        let now = pids(&loops);
        if now != *agents {
            let (was, is) = (listed(agents), listed(&now));
            return Err(
                Broken::new(format!("the agents were {was} and are {is} after the supervisor's restart")).into()
            );
        }
        for id in living {
            if !id.is_alive()? {
                return Err(Broken::new(format!("agent {id} was replaced")).into());
            }
        }
        self.proof(&format!(
            "started again as {daemon}: all three adopted after {}, with the pids they had: {}",
            seconds(took),
            listed(&now)
        ))
    }

    fn gates(&mut self) -> anyhow::Result<()> {
        self.step = "a gate fails, is mended, passes and advances the phase";
        let index = self.rig.workspace.root.join(".cc-ci-logs/.phase-idx");
        let interrupt = self.rig.interrupt.clone();
        let within = Duration::from_secs(40);
        interrupt.wait("the phase index to say 1", within, || match std::fs::read_to_string(&index) {
            Ok(text) => Ok((text == "1\n").then_some(())),
            Err(e) => Err(Broken::new(format!("reading `{}`: {e}", index.display()))),
        })?;
        let history = self.rig.history()?;
        let of = |decision: &str| history.iter().filter(move |e| e.decision == decision).collect::<Vec<_>>();
        let (claims, fails, passes) = (of("gate-claim"), of("gate-fail"), of("gate-pass"));
        let first = commit(claims.first())?;
        let failed = commit(fails.first())?;
        let again = commit(claims.get(fails.len()))?;
        let passed = commit(passes.first())?;
        if first != failed || again != passed || first == again {
            let seen = format!("claimed {first} and {again}, failed {failed}, passed {passed}");
            return Err(Broken::new(format!("the commits of the gate do not belong together: {seen}")).into());
        }
        let reason = fails.first().and_then(|e| e.evidence.get("reason")?.as_str()).unwrap_or("no reason");
        let short = |hash: &str| hash.chars().take(9).collect::<String>();
        self.proof(&format!("builder claimed phase 0 at {}, adversary failed it: {reason}", short(&first)))?;
        self.proof(&format!("builder mended it and claimed {}, adversary fetched, ran and passed it", short(&again)))?;
        self.proof(&format!("the gate moved the phase: {}", self.rig.ask(&["phase", "show"])?.trim()))
    }

    fn drain(&mut self) -> anyhow::Result<()> {
        self.step = "all loops come to a safe point";
        let start = Instant::now();
        self.rig.order(&["drain", "--timeout", "20s"])?;
        let took = start.elapsed();
        self.proof(&format!("drained in {} (exit 0): every turn ended, all three are held", seconds(took)))?;
        let mut clones = Vec::new();
        for clone in CLONES {
            let git = |args: &[&str]| self.rig.workspace.git(clone.folder, args);
            let changes = git(&["status", "--porcelain"])?;
            let (here, there) = (git(&["rev-parse", "HEAD"])?, git(&["ls-remote", "origin", clone.branch])?);
            if !changes.is_empty() || !there.starts_with(&here) {
                let seen = format!("changes {changes:?}, HEAD {here}, pushed {there}");
                return Err(Broken::new(format!("the clone {} is not safe: {seen}", clone.folder)).into());
            }
            let commits = git(&["rev-list", "--count", "HEAD"])?;
            clones.push(format!("{} ({commits} commits on {})", clone.folder, clone.branch));
        }
        let gate = self.rig.ask(&["gate", "show"])?;
        if gate.contains("claimed by") {
            return Err(Broken::new(format!("a claim is open after the drain: {}", gate.trim())).into());
        }
        self.proof(&format!("{} are clean and pushed; the gate of {}", clones.join(" and "), gate.trim()))?;
        self.table()
    }

    fn stop(&mut self) -> anyhow::Result<()> {
        self.step = "the supervisor ends with all it started";
        let start = Instant::now();
        let status = self.rig.stop_daemon()?;
        if !status.success() {
            return Err(Broken::new(format!("`supervisor run` ended with {status} after SIGTERM")).into());
        }
        let left = self.rig.remaining()?;
        if !left.is_empty() {
            let list: Vec<String> = left.iter().map(ToString::to_string).collect();
            return Err(Broken::new(format!("after its end these still run: {}", list.join(", "))).into());
        }
        self.proof(&format!("SIGTERM ended the supervisor and its tmux servers in {}", seconds(start.elapsed())))
    }

    fn remove(&mut self) -> Result<(), Broken> {
        self.rig.remove_all()
    }

    /// Lets the agents go on, slower, and says what can be done with them.
    fn leave(&mut self) -> anyhow::Result<()> {
        self.step = "leave it running";
        self.rig.workspace.pace("2")?;
        self.rig.ask(&["start", "--all"])?;
        let daemon = self.rig.leave().unwrap_or_default();
        let root = self.rig.workspace.root.display();
        let say = format!("{} --config {}", self.rig.supervisor.display(), self.rig.workspace.config().display());
        let key = crate::supervisor::tmux::DETACH_KEY.replace("C-", "Ctrl-");
        print(&format!(
            "\nIt runs on. Look at it:\n  {say} status --watch\n  {say} attach builder      ({key} detaches)\n  \
             {say} explain adversary\n  {say} history\nEnd and remove it:\n  kill {daemon}; sleep 3; rm -r {root}\n"
        ))
    }
}

impl Drop for Show {
    fn drop(&mut self) {
        // After a panic or an early return; normally nothing is left, or it is meant to stay.
        if self.rig.runs() {
            let _ = self.rig.remove_all();
        }
    }
}

fn commit(entry: Option<&&Entry>) -> Result<String, Broken> {
    let found = entry.and_then(|e| e.evidence.get("commit")?.as_str());
    found.map(str::to_owned).ok_or_else(|| Broken::new("the journal lacks a claim, a fail or a pass with its commit"))
}

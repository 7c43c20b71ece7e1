//! The checks of a config that need the machine: folders, files, programs, memory. Reads only; changes nothing.

use super::file::{Unread, read_text};
use super::loops::placeholder_faults;
use super::programs;
use super::report::{Diagnostic, Fault, Source, quoted};
use super::{Config, HostKind, LoopConfig, NeedConfig};
use crate::supervisor::names::LoopName;
use crate::support::units::short_size;
use procfs::Current;
use rustix::fs::{Access, AtFlags, CWD, accessat};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A prompt is handed over as one argument, and Linux takes at most 128 KiB for one, its NUL included (execve(2)).
pub const LARGEST_PROMPT: u64 = 128 * 1024 - 1;
/// A plan is read by the agent, which would choke on more.
const LARGEST_PLAN: u64 = 4 << 20;
const LARGEST_ENV_FILE: u64 = 1 << 20;

/// What the checks need to know of the machine beyond its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Where programs are looked for.
    pub path: Option<OsString>,
    /// Who runs as process 1.
    pub init: Init,
    /// MemTotal + SwapTotal / 2 in bytes, the most that `min_free_memory` can ask for; `None` when not known.
    pub memory: Option<u64>,
}

/// Who runs as process 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Init {
    /// systemd, so units are there.
    Systemd,
    /// Anything else.
    Other,
}

impl Machine {
    /// This one.
    pub fn here() -> Self {
        // sd_booted(3): the folder is there exactly when systemd is the init; not reachable is as good as not there.
        let init = if Path::new("/run/systemd/system").is_dir() { Init::Systemd } else { Init::Other };
        // Without /proc nothing can be said about memory, and the check leaves it out.
        let memory = procfs::Meminfo::current().ok().map(|m| m.mem_total + m.swap_total / 2);
        Self { path: std::env::var_os("PATH"), init, memory }
    }
}

/// Everything on this machine that does not fit the config, in the order of its text; faults in prompts follow.
pub fn machine(config: &Config, source: &Source, machine: &Machine) -> Vec<Diagnostic> {
    let mut check = Check { config, source, machine, faults: Vec::new(), prompts: BTreeMap::new() };
    check.folders();
    check.host();
    for (name, l) in &config.loops {
        check.one_loop(name, l);
    }
    check.phases();
    check.programs();
    let Check { faults, prompts, .. } = check;
    let (mut all, _) = source.diagnostics(faults);
    for (source, faults) in prompts.into_values() {
        all.extend(source.diagnostics(faults).0);
    }
    all
}

struct Check<'a> {
    config: &'a Config,
    source: &'a Source,
    machine: &'a Machine,
    faults: Vec<Fault>,
    /// By path, since several loops can share one.
    prompts: BTreeMap<&'a Path, (Source, Vec<Fault>)>,
}

impl<'a> Check<'a> {
    fn error(&mut self, key: &str, message: impl Into<String>, help: impl Into<String>) {
        self.faults.push(Fault::error(self.source.value(key), message, help));
    }

    fn warn(&mut self, key: &str, message: impl Into<String>, help: impl Into<String>) {
        self.faults.push(Fault::warning(self.source.value(key), message, help));
    }

    fn folders(&mut self) {
        self.folder("workspace", "workspace", &self.config.workspace);
        self.own_folder("state_dir", &self.config.state_dir);
        self.own_folder("runtime_dir", &self.config.runtime_dir);
        self.open_to_all("runtime_dir", &self.config.runtime_dir);
    }

    /// A folder that must be there.
    fn folder(&mut self, key: &str, what: &str, path: &Path) {
        let shown = quoted(&path.to_string_lossy());
        match path.metadata().map_err(Unread::from) {
            Ok(kind) if !kind.is_dir() => {
                self.error(key, format!("the {what} {shown} is no folder"), "name a folder");
            }
            Ok(_) => {
                if accessat(CWD, path, Access::READ_OK | Access::EXEC_OK, AtFlags::EACCESS).is_err() {
                    let message = format!("the {what} {shown} cannot be entered: permission denied");
                    self.error(key, message, as_the_user());
                }
            }
            Err(Unread::Missing) => {
                let help = format!("make it, or clone into it: `mkdir -p {}`", path.display());
                self.error(key, format!("the {what} {shown} is not there"), help);
            }
            Err(e) => self.error(key, format!("the {what} {shown} cannot be used: {e}"), as_the_user()),
        }
    }

    /// A folder that the supervisor makes if need be.
    fn own_folder(&mut self, key: &str, path: &Path) {
        let shown = quoted(&path.to_string_lossy());
        let written = if self.source.has(key) { "" } else { " (the default)" };
        for (existing, kind) in path.ancestors().map(|p| (p, p.metadata())) {
            match kind {
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => {
                    let message = format!("`{key}` {shown}{written} cannot be used: {}", Unread::from(e));
                    self.error(key, message, "name a folder that this user can write to");
                }
                Ok(kind) if !kind.is_dir() => {
                    let what = if existing == path { "it".into() } else { quoted(&existing.to_string_lossy()) };
                    let message = format!("`{key}` {shown}{written} cannot be used: {what} is no folder");
                    self.error(key, message, "name another folder");
                }
                Ok(_) => {
                    if accessat(CWD, existing, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS).is_err() {
                        let verb = if existing == path { "written to" } else { "made" };
                        let message = format!("`{key}` {shown}{written} cannot be {verb}: permission denied");
                        self.error(key, message, as_the_user());
                    }
                }
            }
            return;
        }
    }

    /// In a folder where everyone may rename everything, anyone can put a socket of his own in the place of ours.
    fn open_to_all(&mut self, key: &str, path: &Path) {
        for folder in path.ancestors() {
            // What cannot be looked at is reported by `own_folder`.
            let Ok(kind) = folder.metadata() else { continue };
            let sticky = kind.mode() & 0o1000 != 0;
            if kind.mode() & 0o002 != 0 && (!sticky || folder == path) {
                let shown = quoted(&folder.to_string_lossy());
                let message = format!("`{key}` is not safe: everyone can write to {shown}");
                self.error(key, message, format!("close it: `chmod o-w {}`, or use another folder", folder.display()));
                return;
            }
        }
    }

    fn host(&mut self) {
        if self.machine.init == Init::Other {
            let help = "use `host = \"direct\"`, or run it under systemd";
            if self.config.host == HostKind::Systemd {
                self.error("host", "`host` is `systemd`, but systemd does not run this machine", help);
            }
            for (name, need) in &self.config.needs {
                if let NeedConfig::Unit(unit) = need {
                    let message =
                        format!("the unit {} is never active: systemd does not run this machine", quoted(unit));
                    self.warn(&format!("needs.{name}.unit"), message, "use `command`, `tcp` or `file` instead");
                }
            }
        }
        let wanted = self.config.min_free_memory;
        if let Some(most) = self.machine.memory.filter(|most| wanted > *most) {
            let (wanted, most) = (short_size(wanted), short_size(most));
            let message =
                format!("`min_free_memory` is {wanted}, but the machine can never have more than {most} free");
            self.error("min_free_memory", message, "make it smaller; with this no agent is ever started");
        }
    }

    fn one_loop(&mut self, name: &LoopName, l: &'a LoopConfig) {
        self.folder(&format!("loops.{name}.workdir"), "workdir", &l.workdir);
        for (key, prompt) in [("kickoff", &l.kickoff), ("handoff", &l.handoff)] {
            if let Some(prompt) = prompt {
                self.prompt(name, l, key, prompt);
            }
        }
        for (index, path) in l.env_files.iter().enumerate() {
            self.env_file(&format!("loops.{name}.env_files[{index}]"), name, l, path);
        }
        if let (false, Some(program)) = (l.capabilities.own_program, l.command.first()) {
            // Which program it is depends on the phase, so it is known only at the start.
            if super::placeholders::scan(program).is_empty() {
                let key = format!("loops.{name}.command[0]");
                self.program(&key, program, &l.workdir, &format!("relative to the workdir of `{name}`"));
            }
        }
    }

    fn prompt(&mut self, name: &LoopName, l: &LoopConfig, key: &str, path: &'a Path) {
        let at = format!("loops.{name}.{key}");
        let shown = quoted(&path.to_string_lossy());
        let text = match read_text(path, LARGEST_PROMPT) {
            Ok(text) => text,
            Err(e) => {
                let help = match e {
                    Unread::Missing => format!("write it, or name another file for `{key}`"),
                    Unread::Denied => as_the_user(),
                    Unread::TooLarge { .. } => {
                        "shorten it: a prompt is one argument, and Linux takes 128 KiB".to_owned()
                    }
                    _ => format!("name a text file for `{key}`"),
                };
                self.error(&at, format!("the prompt {shown} cannot be read: {e}"), help);
                return;
            }
        };
        if text.trim().is_empty() {
            self.error(&at, format!("the prompt {shown} is empty"), "write what the agent is to do");
        }
        let (source, faults) = self.prompts.entry(path).or_insert_with(|| (Source::new(path, &text), Vec::new()));
        let mut found = placeholder_faults(&text, self.config.phases.is_some(), l.follows_phases);
        if text.contains('\0') {
            found.push((
                "\0".into(),
                "the prompt holds a NUL byte".into(),
                "take it out: no argument can hold it".into(),
            ));
        }
        for (word, message, help) in found {
            let part = if word == "\0" { word } else { format!("{{{word}}}") };
            let fault =
                Fault::error(source.part_of(0..text.len(), &part), message, format!("{help} (prompt of `{name}`)"));
            // Two loops with one prompt, or kickoff and handoff in one, have the same fault once.
            if !faults.iter().any(|f| f.at == fault.at && f.message == fault.message) {
                faults.push(fault);
            }
        }
    }

    fn env_file(&mut self, key: &str, name: &LoopName, l: &LoopConfig, path: &Path) {
        let shown = quoted(&path.to_string_lossy());
        match read_text(path, LARGEST_ENV_FILE) {
            // Whatever the loop needs may be what puts the file there; a start still fails loudly without it.
            Err(Unread::Missing) if !l.needs.is_empty() => {}
            Err(Unread::Missing) => {
                let message =
                    format!("the env file {shown} is not there, and `{name}` waits for nothing that brings it");
                let help = "put it there, or let the loop wait: `needs = [\"secrets\"]` with `[needs.secrets]`";
                self.warn(key, message, help);
            }
            Err(Unread::Denied) => self.error(key, format!("the env file {shown}: permission denied"), as_the_user()),
            Err(e) => self.error(key, format!("the env file {shown} cannot be read: {e}"), "name a text file"),
            Ok(_) => {
                // It was read a moment ago; if it is gone now the next check says so.
                let mode = path.metadata().map_or(0, |m| m.mode());
                if mode & 0o004 != 0 {
                    let message = format!("everyone can read the env file {shown}");
                    self.warn(key, message, format!("close it: `chmod o-r {}`", path.display()));
                }
            }
        }
    }

    fn phases(&mut self) {
        let Some(phases) = &self.config.phases else { return };
        for (index, path) in phases.plans.iter().enumerate() {
            if let Err(e) = read_text(path, LARGEST_PLAN) {
                let help = match e {
                    Unread::Denied => as_the_user(),
                    _ => "write it, or name another file in `plans`".to_owned(),
                };
                let message = format!("the plan {} cannot be read: {e}", quoted(&path.to_string_lossy()));
                self.error(&format!("phases.plans[{index}]"), message, help);
            }
        }
        let index = &phases.index_file;
        let shown = quoted(&index.to_string_lossy());
        match index.symlink_metadata() {
            Ok(kind) if kind.is_dir() => {
                self.error("phases.index_file", format!("`index_file` {shown} is a folder"), "name a file");
            }
            Ok(kind) if !kind.is_file() => {
                let help = "put a file there: it is replaced by a rename, which would cut the link";
                self.error("phases.index_file", format!("`index_file` {shown} is no regular file"), help);
            }
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => {
                let message = format!("`index_file` {shown} cannot be used: {}", Unread::from(e));
                self.error("phases.index_file", message, "name a file that this user can write to");
            }
        }
    }

    fn programs(&mut self) {
        let workspace = &self.config.workspace;
        if let Some(program) = self.config.notify.first() {
            self.program("notify[0]", program, workspace, "relative to the workspace");
        }
        for (name, need) in &self.config.needs {
            if let NeedConfig::Command(argv) = need {
                if let Some(program) = argv.first() {
                    self.program(&format!("needs.{name}.command[0]"), program, workspace, "relative to the workspace");
                }
            }
        }
    }

    fn program(&mut self, key: &str, program: &str, base: &Path, relative: &str) {
        if let Err(fault) = programs::find(program, base, self.machine.path.as_deref()) {
            let (message, help) = fault.explain(program, relative);
            self.error(key, message, help);
        }
    }
}

fn as_the_user() -> String {
    let uid = rustix::process::geteuid().as_raw();
    format!("this check runs as uid {uid}: run it as the supervisor's user, or give that user access")
}

//! What must hold between loops, phases, needs and folders. Pure.

use super::read::NOWHERE;
use super::report::{Fault, Severity, quoted};
use super::walk::Walk;
use super::{AdvanceOn, Config, NeedConfig, Role};
use crate::supervisor::names::LoopName;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

/// `sockaddr_un.sun_path` has 108 bytes, the last of which is a NUL (unix(7)).
const LONGEST_SOCKET: usize = 107;

/// Adds the faults of a config as a whole.
pub fn check(config: &Config, walk: &mut Walk) {
    folders(config, walk);
    socket_length(config, walk);
    phases(config, walk);
    roles(config, walk);
    workdirs(config, walk);
    duplicates(config, walk);
    waits(config, walk);
}

fn folders(config: &Config, walk: &mut Walk) {
    let Config { state_dir, runtime_dir, .. } = config;
    // Points at one that the operator wrote.
    let written = |first, second| walk.source.value(if walk.source.has(first) { first } else { second });
    if state_dir == runtime_dir {
        let help = "give each a folder of its own: `runtime_dir` is emptied by a reboot, `state_dir` must survive it";
        walk.error(written("runtime_dir", "state_dir"), "`state_dir` and `runtime_dir` are the same folder", help);
    } else if state_dir.starts_with(runtime_dir) {
        let help = "keep it on a disk: `/var/lib/cc-ci-orchestrator`";
        walk.error(
            written("state_dir", "runtime_dir"),
            "`state_dir` is inside `runtime_dir`, which a reboot empties",
            help,
        );
    } else if ["/run", "/dev/shm"].iter().any(|tmpfs| state_dir.starts_with(tmpfs)) {
        let help = "keep it on a disk: `/var/lib/cc-ci-orchestrator`";
        let message = "`state_dir` is in memory: after a reboot no loop knows where it was";
        walk.faults.push(Fault::warning(walk.source.value("state_dir"), message, help));
    }
    for (key, path) in [("state_dir", state_dir), ("runtime_dir", runtime_dir)] {
        if path.components().any(|c| c == Component::ParentDir) {
            walk.error(walk.source.value(key), format!("`{key}` has `..` in it"), "write the path without `..`");
        }
    }
}

fn socket_length(config: &Config, walk: &mut Walk) {
    let Some(longest) = config.loops.keys().max_by_key(|n| n.as_str().len()) else { return };
    let socket = config.runtime_dir.join("session").join(longest.as_str()).join("tmux.sock");
    let length = socket.as_os_str().len();
    if length > LONGEST_SOCKET {
        let message =
            format!("the socket path of the loop `{longest}` is too long: {length} bytes, of at most {LONGEST_SOCKET}");
        let over = length - LONGEST_SOCKET;
        let help = format!("make `runtime_dir` or the loop's name at least {over} bytes shorter");
        walk.error(walk.source.value("runtime_dir"), message, help);
    }
}

fn phases(config: &Config, walk: &mut Walk) {
    let Some(phases) = &config.phases else { return };
    let at = walk.source.value("phases.index_file");
    let mut taken: Vec<(&Path, String)> = phases.plans.iter().map(|p| (p.as_path(), "a plan".to_owned())).collect();
    for (name, l) in &config.loops {
        let prompts = l.kickoff.iter().map(|p| (p, "kickoff")).chain(l.handoff.iter().map(|p| (p, "handoff")));
        let files = prompts.chain(l.env_files.iter().map(|p| (p, "env file")));
        taken.extend(files.map(|(p, what)| (p.as_path(), format!("the {what} of `{name}`"))));
        taken.push((&l.workdir, format!("the workdir of `{name}`")));
    }
    if let Some((_, what)) = taken.iter().find(|(path, _)| *path == phases.index_file) {
        let help = "give it a file of its own: the supervisor writes it";
        let path = quoted(&phases.index_file.to_string_lossy());
        walk.error(at, format!("`index_file` {path} is also {what}"), help);
    } else if phases.index_file.starts_with(&config.runtime_dir) {
        let help = "keep it in the workspace: `.cc-ci-logs/.phase-idx`";
        walk.error(at, "`index_file` is inside `runtime_dir`, which a reboot empties", help);
    }
    if !config.loops.is_empty() && config.loops.values().all(|l| !l.follows_phases) {
        let message = "no loop follows `[phases]`";
        let help = "take `follows_phases = false` out of a loop, or take `[phases]` out";
        walk.faults.push(Fault::warning(walk.source.key("phases"), message, help));
    }
}

fn roles(config: &Config, walk: &mut Walk) {
    let with = |role| config.loops.iter().filter(move |(_, l)| l.role == Some(role)).map(|(n, _)| n);
    // By place in the text, so that the first one written is the one that stays.
    let mut missing = Vec::new();
    for (role, word) in [(Role::Claims, "claims"), (Role::Verifies, "verifies")] {
        let mut names: Vec<&LoopName> = with(role).collect();
        names.sort_by_key(|n| walk.source.key(&format!("loops.{n}")).start);
        match names.split_first() {
            None => missing.push(word),
            Some((first, others)) => {
                for name in others {
                    let at = walk.source.value(&format!("loops.{name}.role"));
                    let message = format!("two loops have the role `{word}`: `{first}` and `{name}`");
                    walk.error(at, message, "a gate has one of each; take the role out of one of them");
                }
            }
        }
    }
    let gated = config.phases.as_ref().is_some_and(|p| p.advance_on == AdvanceOn::GatePass);
    // A loop that could not be read may be the one that has the role.
    let failed = walk.faults.iter().any(|f| f.severity == Severity::Error);
    if gated && !missing.is_empty() && !failed {
        let roles: Vec<_> = missing.iter().map(|word| format!("`role = \"{word}\"`")).collect();
        let message = format!("phases advance by passed gates, but no loop has {}", roles.join(" or "));
        let help = "give a loop the role, or write `advance_on = \"manual\"`; else only the operator moves the phase";
        walk.faults.push(Fault::warning(walk.source.key("phases"), message, help));
    }
}

fn workdirs(config: &Config, walk: &mut Walk) {
    let mut seen: BTreeMap<&Path, &LoopName> = BTreeMap::new();
    let mut names: Vec<_> = config.loops.keys().collect();
    names.sort_by_key(|n| walk.source.key(&format!("loops.{n}")).start);
    for name in names {
        let Some(l) = config.loops.get(name) else { continue };
        if l.workdir.starts_with(NOWHERE) {
            continue;
        }
        let at = walk.source.value(&format!("loops.{name}.workdir"));
        for (key, dir) in [("state_dir", &config.state_dir), ("runtime_dir", &config.runtime_dir)] {
            if l.workdir.starts_with(dir) {
                let message = format!("the workdir of `{name}` is inside `{key}`");
                walk.error(at.clone(), message, "keep agents out of the supervisor's own files: use another folder");
            }
        }
        if let Some(first) = seen.get(l.workdir.as_path()) {
            let message = format!("`{name}` and `{first}` have the same workdir, so they edit the same files");
            walk.faults.push(Fault::warning(at, message, "give each its own clone"));
        } else {
            seen.insert(&l.workdir, name);
        }
    }
}

fn duplicates(config: &Config, walk: &mut Walk) {
    let mut lists: Vec<(String, &[PathBuf], &str)> =
        config.loops.iter().map(|(n, l)| (format!("loops.{n}.env_files"), &*l.env_files, "env file")).collect();
    lists.extend(config.phases.iter().map(|p| ("phases.plans".to_owned(), &*p.plans, "plan")));
    for (key, paths, what) in lists {
        let mut seen = BTreeSet::new();
        for (index, path) in paths.iter().enumerate() {
            if !seen.insert(path) {
                // Elements that are no path left the list, and then the index is only near.
                let at = walk.source.value(&format!("{key}[{index}]"));
                let message = format!("the {what} {} is there twice", quoted(&path.to_string_lossy()));
                walk.error(at, message, "keep one of the two");
            }
        }
    }
}

/// Loops that wait for files which only appear when they, or loops that wait for them, run.
fn waits(config: &Config, walk: &mut Walk) {
    let sessions = config.runtime_dir.join("session");
    let maker = |path: &Path| -> Option<LoopName> {
        let name = path.strip_prefix(&sessions).ok()?.components().next()?;
        name.as_os_str().to_str()?.parse().ok()
    };
    let mut waits_for: BTreeMap<&LoopName, BTreeSet<LoopName>> = BTreeMap::new();
    for (name, l) in &config.loops {
        let files = l.needs.iter().filter_map(|n| match config.needs.get(n) {
            Some(NeedConfig::File(path)) => maker(path),
            _ => None,
        });
        waits_for.insert(name, files.collect());
    }
    for name in config.loops.keys() {
        // Breadth first, so that the chain told is the shortest.
        let mut from: BTreeMap<LoopName, LoopName> = BTreeMap::new();
        let mut queue = std::collections::VecDeque::from([name.clone()]);
        while let Some(at) = queue.pop_front() {
            for next in waits_for.get(&at).into_iter().flatten() {
                if !from.contains_key(next) {
                    from.insert(next.clone(), at.clone());
                    queue.push_back(next.clone());
                }
            }
        }
        if !from.contains_key(name) {
            continue;
        }
        let mut chain = vec![name.clone()];
        while let Some(previous) = chain.last().and_then(|last| from.get(last)) {
            chain.push(previous.clone());
            if previous == name {
                break;
            }
        }
        let shown: Vec<_> = chain.iter().rev().map(|n| format!("`{n}`")).collect();
        let message = format!("loops wait for each other for ever: {}", shown.join(" waits for "));
        let help = "a need must not be a file in the session folder of a loop that waits for it; use another file";
        walk.error(walk.source.value(&format!("loops.{name}.needs")), message, help);
    }
}

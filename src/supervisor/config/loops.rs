//! `[loops.NAME]`: one loop's keys, and what can be said of it without looking at the others.

use super::keys::{CRASH_LOOP, ON_IDLE};
use super::placeholders::{self, PHASE_NAMES};
use super::read::{NOWHERE, SHORTEST, WAIT, name_of};
use super::report::{Fault, listed, meant, quoted};
use super::walk::{Open, Walk, join};
use super::{Config, CrashLoop, LoopConfig, OnChange, OnIdle, OnPhase, Role, hash};
use crate::supervisor::agents::Adapter;
use crate::supervisor::names::{AccountName, NeedName};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

/// Reads one loop. What is wrong is in `walk`; the result is then of use for finding more, and for nothing else.
/// `declared` are the names under `[needs]`; those that this loop uses are added to `used`.
pub fn read(
    walk: &mut Walk,
    open: &Open<'_>,
    config: &Config,
    declared: &BTreeSet<String>,
    adapters: &[&'static dyn Adapter],
    used: &mut BTreeSet<String>,
) -> Option<LoopConfig> {
    let workspace = config.workspace.as_path();
    let known = adapter(walk, open, adapters);
    walk.require(open, "workdir");
    let workdir = walk.path(open, "workdir", Some(workspace));
    let follows_phases = walk.flag(open, "follows_phases").unwrap_or(config.phases.is_some());
    // With an unknown agent any adapter will do: the config is thrown away.
    let adapter = known.or_else(|| adapters.first().copied())?;
    let mut read = LoopConfig {
        adapter,
        capabilities: adapter.capabilities(),
        command: walk.argv(open, "command").unwrap_or_default(),
        args: walk.argv(open, "args").unwrap_or_default(),
        workdir: workdir.unwrap_or_else(|| PathBuf::from(NOWHERE).join(&open.path)),
        kickoff: walk.path(open, "kickoff", Some(workspace)),
        handoff: walk.path(open, "handoff", Some(workspace)),
        env_files: walk.paths(open, "env_files", workspace).unwrap_or_default(),
        needs: needs(walk, open, declared, used),
        account: account(walk, open)?,
        role: walk.choice(open, "role", &[("claims", Role::Claims), ("verifies", Role::Verifies)]),
        follows_phases,
        on_phase: walk
            .choice(open, "on_phase", &[("nudge", OnPhase::Nudge), ("restart", OnPhase::Restart)])
            .unwrap_or(OnPhase::Nudge),
        stall_after: walk.duration(open, "stall_after", WAIT),
        stable_after: walk.duration(open, "stable_after", WAIT).unwrap_or(10 * MINUTE),
        attention_after: walk.duration(open, "attention_after", WAIT).unwrap_or(5 * MINUTE),
        crash_loop: crash_loop(walk, open),
        stop_timeout: walk.duration(open, "stop_timeout", SHORTEST..=10 * MINUTE).unwrap_or(Duration::from_secs(10)),
        restart_above: walk.size(open, "restart_above"),
        on_change: walk
            .choice(
                open,
                "on_change",
                &[("next-start", OnChange::NextStart), ("turn-end", OnChange::TurnEnd), ("now", OnChange::Now)],
            )
            .unwrap_or(OnChange::NextStart),
        on_idle: on_idle(walk, open),
        hash: String::new(),
    };
    if known.is_some() {
        program(walk, open, &read);
    }
    texts(walk, open, &read, config.phases.is_some());
    policy(walk, open, &read, config.phases.is_some());
    read.hash = hash::definition(workspace, &read);
    Some(read)
}

fn adapter(walk: &mut Walk, open: &Open<'_>, adapters: &[&'static dyn Adapter]) -> Option<&'static dyn Adapter> {
    walk.require(open, "agent");
    let (name, at) = walk.text(open, "agent")?;
    let found = adapters.iter().copied().find(|a| a.name() == name);
    if found.is_none() {
        let names = || adapters.iter().map(|a| a.name());
        let all = format!("the agents are {}", listed(names()));
        let help = meant(name, names()).map_or(all.clone(), |name| format!("did you mean `{name}`? {all}"));
        walk.error(at, format!("unknown agent {}", quoted(name)), help);
    }
    found
}

fn account(walk: &mut Walk, open: &Open<'_>) -> Option<AccountName> {
    let given = walk.text(open, "account").and_then(|(name, at)| name_of(walk, name, at));
    given.or_else(|| "default".parse().ok())
}

fn needs(walk: &mut Walk, open: &Open<'_>, declared: &BTreeSet<String>, used: &mut BTreeSet<String>) -> Vec<NeedName> {
    let mut needs: Vec<NeedName> = Vec::new();
    for (word, at) in walk.strings(open, "needs").unwrap_or_default() {
        if !declared.contains(word) {
            let names = || declared.iter().map(String::as_str);
            let help = match walk.meant(word, names()) {
                Some(name) => {
                    // That nobody needs it would be a second report of the same slip.
                    used.insert(name.to_owned());
                    format!("did you mean `{name}`? the declared needs are {}", listed(names()))
                }
                None => format!("declare it: `[needs.NAME]` with NAME {}, or take it out", quoted(word)),
            };
            walk.error(at, format!("the need {} is not declared", quoted(word)), help);
        } else if !used.insert(word.to_owned()) && needs.iter().any(|n| n.as_str() == word) {
            walk.error(at, format!("the need {} is there twice", quoted(word)), "keep one of the two");
        } else {
            // A bad name under `[needs]` is reported there.
            needs.extend(word.parse::<NeedName>().ok());
        }
    }
    needs
}

fn crash_loop(walk: &mut Walk, open: &Open<'_>) -> CrashLoop {
    let default = CrashLoop { deaths: 5, within: 15 * MINUTE };
    let Some(open) = walk.table(open, "crash_loop", &CRASH_LOOP, &format!("{}.crash_loop", open.path)) else {
        return default;
    };
    let deaths =
        if walk.get(&open, "deaths").is_some() { walk.count(&open, "deaths", 1..=1000) } else { Some(default.deaths) };
    let within =
        if walk.get(&open, "within").is_some() { walk.duration(&open, "within", WAIT) } else { Some(default.within) };
    // With one of them wrong, nothing is to be said about the two together.
    match (deaths, within) {
        (Some(deaths), Some(within)) => CrashLoop { deaths, within },
        _ => default,
    }
}

fn on_idle(walk: &mut Walk, open: &Open<'_>) -> Option<OnIdle> {
    let open = walk.table(open, "on_idle", &ON_IDLE, &format!("{}.on_idle", open.path))?;
    walk.require(&open, "nudge");
    walk.require(&open, "after");
    let nudge = walk.text(&open, "nudge");
    if let Some((_, at)) = nudge.clone().filter(|(text, _)| text.trim().is_empty()) {
        walk.error(at, "`nudge` is empty", "write what the agent is to be told, or take `on_idle` out");
    }
    // A wrong `after` must not hide what is wrong with the nudge.
    let after = walk.duration(&open, "after", WAIT).unwrap_or(SHORTEST);
    Some(OnIdle { nudge: nudge?.0.to_owned(), after })
}

/// `command` goes with some agents and not with others.
fn program(walk: &mut Walk, open: &Open<'_>, l: &LoopConfig) {
    let agent = l.adapter.name();
    let given = walk.get(open, "command");
    let whole = walk.source.value(&join(&open.path, "command"));
    match (l.capabilities.own_program, given) {
        (true, None) => {}
        (true, Some(_)) => {
            let at = walk.source.key(&join(&open.path, "command"));
            let help = "take `command` out; more arguments for it go into `args`";
            walk.error(at, format!("the agent `{agent}` brings its own program"), help);
        }
        (false, None) => {
            let help = "add the program and its arguments: `command = [\"./watch.sh\"]`";
            let message =
                format!("missing key `command` in `{}`: the agent `{agent}` has no program of its own", open.header);
            walk.error(open.at.clone(), message, help);
        }
        (false, Some(value)) if value.get_ref().as_array().is_some_and(|a| a.is_empty()) => {
            walk.error(whole, "`command` is empty", "name a program: `command = [\"./watch.sh\"]`");
        }
        (false, Some(_)) if l.command.first().is_some_and(|p| p.trim().is_empty()) => {
            let at = walk.source.value(&format!("{}.command[0]", open.path));
            walk.error(at, "`command` has an empty program", "name a program: `command = [\"./watch.sh\"]`");
        }
        (false, Some(_)) => {}
    }
    for key in ["kickoff", "handoff"] {
        let path = join(&open.path, key);
        if walk.source.has(&path) && !l.capabilities.takes_prompt {
            let message = format!("the agent `{agent}` takes no prompt, so `{key}` is not used");
            walk.faults.push(Fault::warning(walk.source.key(&path), message, format!("take `{key}` out")));
        }
    }
}

/// The placeholders in everything that is filled in.
fn texts(walk: &mut Walk, open: &Open<'_>, l: &LoopConfig, phases: bool) {
    let list = |key: &str, texts: &[String]| -> Vec<(String, String)> {
        texts.iter().enumerate().map(|(i, t)| (format!("{}.{key}[{i}]", open.path), t.clone())).collect()
    };
    let mut all = list("command", &l.command);
    all.extend(list("args", &l.args));
    all.extend(l.on_idle.iter().map(|o| (format!("{}.on_idle.nudge", open.path), o.nudge.clone())));
    for (path, text) in all {
        for (name, message, help) in placeholder_faults(&text, phases, l.follows_phases) {
            let at = walk.source.part_of(walk.source.value(&path), &format!("{{{name}}}"));
            walk.error(at, message, help);
        }
    }
}

/// Every placeholder of a text that cannot be filled in, once each: its name, what is wrong, what to do.
pub fn placeholder_faults(text: &str, phases: bool, follows: bool) -> Vec<(String, String, String)> {
    let mut faults = BTreeMap::new();
    for p in placeholders::scan(text) {
        // Each costs a search for its place, and text with so many was never meant to have any.
        if faults.len() >= 20 {
            break;
        }
        let name = p.name;
        if faults.contains_key(name) {
            continue;
        }
        let fault = if !placeholders::NAMES.contains(&name) {
            let known = placeholders::known();
            let literal = format!("for the text itself write `{{{{{name}}}}}`");
            let help = match meant(name, placeholders::NAMES.iter().copied()) {
                Some(meant) => format!("did you mean `{{{meant}}}`? {literal}"),
                None => format!("use one of {known}; {literal}"),
            };
            (format!("unknown placeholder {}", quoted(&text[p.at])), help)
        } else if PHASE_NAMES.contains(&name) && !phases {
            (format!("`{{{name}}}` has no value: there is no `[phases]`"), "add `[phases]`, or take it out".to_owned())
        } else if PHASE_NAMES.contains(&name) && !follows {
            let message = format!("`{{{name}}}` has no value: the loop does not follow phases");
            (message, "take `follows_phases = false` out, or the placeholder".to_owned())
        } else {
            continue;
        };
        faults.insert(name.to_owned(), fault);
    }
    faults.into_iter().map(|(name, (message, help))| (name, message, help)).collect()
}

/// Values that are right each by itself and wrong together.
fn policy(walk: &mut Walk, open: &Open<'_>, l: &LoopConfig, phases: bool) {
    let value = |walk: &Walk, key: &str| -> Range<usize> { walk.source.value(&join(&open.path, key)) };
    let has = |walk: &Walk, key: &str| walk.source.has(&join(&open.path, key));
    if l.restart_above == Some(0) {
        let help = "leave it out for never, or write it like `\"1500M\"`";
        walk.error(value(walk, "restart_above"), "`restart_above` cannot be zero", help);
    }
    if l.follows_phases && !phases {
        let help = "add `[phases]` with its `plans`, or take this out";
        walk.error(value(walk, "follows_phases"), "there is no `[phases]` to follow", help);
    }
    if has(walk, "on_phase") && !l.follows_phases {
        let at = walk.source.key(&join(&open.path, "on_phase"));
        let message = "`on_phase` does nothing: the loop does not follow phases";
        walk.faults.push(Fault::warning(at, message, "take it out"));
    }
    if l.role.is_some() && !phases {
        let at = walk.source.key(&join(&open.path, "role"));
        walk.faults.push(Fault::warning(
            at,
            "`role` does nothing: there is no `[phases]`",
            "take it out, or add `[phases]`",
        ));
    }
    if let (Some(idle), Some(stall)) = (&l.on_idle, l.stall_after) {
        if idle.after >= stall {
            let message = "`on_idle.after` is not below `stall_after`: the loop counts as stalled first";
            let at = value(walk, "on_idle.after");
            walk.faults.push(Fault::warning(at, message, "make `after` shorter or `stall_after` longer"));
        }
    }
    let least = shortest_for(l.crash_loop.deaths);
    if l.crash_loop.within < least {
        let (deaths, least) = (l.crash_loop.deaths, crate::support::units::short_duration(least));
        let message =
            format!("{deaths} deaths never come within this time: the waits between the restarts alone take {least}");
        let help = "make `within` longer or `deaths` fewer; without it a crash loop is never noticed";
        walk.faults.push(Fault::warning(value(walk, "crash_loop.within"), message, help));
    }
}

/// The time that so many deaths take at least: the first restart is at once, then the waits double from 1 s to 10 min.
fn shortest_for(deaths: u32) -> Duration {
    let waits = (0..deaths.saturating_sub(2)).map(|n| Duration::from_secs(1 << n.min(10)).min(10 * MINUTE));
    waits.sum()
}

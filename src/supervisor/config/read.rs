//! TOML text to a [`Config`] with every default filled in, or all faults at once. Pure: needs no machine.

use super::keys::{NEED, PHASES, TOP};
use super::report::{Diagnostic, Fault, Source, quoted};
use super::walk::{Dialect, Open, Walk, join};
use super::{AdvanceOn, Config, HostKind, NeedConfig, PhasesConfig};
use super::{cross, loops};
use crate::supervisor::agents::{ADAPTERS, Adapter};
use crate::supervisor::names::{LoopName, NeedName};
pub use crate::support::config::parse::ConfigErrors;
use crate::support::config::parse::{Parsed, parse};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Range, RangeInclusive};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use toml::de::DeTable;

/// Anything that waits longer than this waits for a slip of the pen.
pub const LONGEST: Duration = Duration::from_secs(30 * 86400);
/// More than zero.
pub const SHORTEST: Duration = Duration::from_millis(1);
/// What any wait may be.
pub const WAIT: RangeInclusive<Duration> = SHORTEST..=LONGEST;

/// A usable config, and what is needed to say more about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// What the operator wrote, with every default.
    pub config: Config,
    /// Where each key is, for the checks that need the machine.
    pub source: Source,
    /// What will hardly do what was meant, in the order of the text.
    pub warnings: Vec<Diagnostic>,
}

/// Reads a config. `file` is only for the places in the faults and for [`Config::file`].
///
/// # Errors
/// [`ConfigErrors::Faults`] with everything that is wrong. Of TOML syntax errors, these only: what a broken text means
/// is a guess, and faults found in a guess mislead.
pub fn read(text: &str, file: &Path) -> Result<Loaded, ConfigErrors> {
    read_with(text, file, ADAPTERS)
}

/// [`read`] with other kinds of agents than the package's own, for tests.
///
/// # Errors
/// As [`read`].
pub fn read_with(text: &str, file: &Path, adapters: &[&'static dyn Adapter]) -> Result<Loaded, ConfigErrors> {
    let Parsed { value: config, source, warnings } =
        parse(text, file, &DIALECT, |walk, root| top(walk, root, file, adapters))?;
    Ok(Loaded { config, source, warnings })
}

/// What a supervisor's config can say.
static DIALECT: Dialect = Dialect { tables: super::keys::TABLES, filled_in: super::placeholders::any };

/// Stands where a required path is missing, so that all else can still be judged. Nothing can be in it, and the config
/// is thrown away.
pub const NOWHERE: &str = "/proc/nowhere";

/// Each is a tmux server and an agent; with more than this the machine is what fails, or the file is hostile.
const MOST_LOOPS: usize = 200;

fn top(walk: &mut Walk, root: &DeTable<'_>, file: &Path, adapters: &[&'static dyn Adapter]) -> Config {
    let open = walk.open(root, &TOP, String::new(), String::new(), 0..0);
    walk.require(&open, "workspace");
    let workspace = walk.path(&open, "workspace", None).unwrap_or_else(|| NOWHERE.into());
    let phases = phases(walk, &open, &workspace);
    let (needs, need_words) = needs(walk, &open, &workspace);
    let mut config = Config {
        file: file.to_owned(),
        state_dir: walk.path(&open, "state_dir", None).unwrap_or_else(|| "/var/lib/cc-ci-orchestrator".into()),
        runtime_dir: walk.path(&open, "runtime_dir", None).unwrap_or_else(|| "/run/cc-ci-orchestrator".into()),
        host: walk
            .choice(&open, "host", &[("systemd", HostKind::Systemd), ("direct", HostKind::Direct)])
            .unwrap_or(HostKind::Direct),
        notify: outside_program(walk, &open, "notify", &workspace).unwrap_or_default(),
        min_free_memory: walk.size(&open, "min_free_memory").unwrap_or(0),
        start_stagger: walk
            .duration(&open, "start_stagger", Duration::ZERO..=Duration::from_secs(600))
            .unwrap_or(Duration::from_secs(5)),
        phases,
        loops: BTreeMap::new(),
        needs,
        workspace,
    };
    walk.require(&open, "loops");
    let found = walk.named(&open, "loops", &super::keys::LOOP);
    if walk.get(&open, "loops").and_then(|v| v.get_ref().as_table()).is_some_and(|t| t.is_empty()) {
        let help = "add one: `[loops.NAME]` with its `agent` and `workdir`";
        walk.error(walk.source.key("loops"), "there is no loop in `[loops]`", help);
    }
    if found.len() > MOST_LOOPS {
        let message = format!("there are {} loops, of at most {MOST_LOOPS}", found.len());
        walk.error(walk.source.key("loops"), message, "run a second supervisor with a config of its own");
        return config;
    }
    let mut used = BTreeSet::new();
    for (name, at, open) in found {
        let read = loops::read(walk, &open, &config, &need_words, adapters, &mut used);
        if let (Some(name), Some(read)) = (name_of::<LoopName>(walk, name, at), read) {
            config.loops.insert(name, Arc::new(read));
        }
    }
    for word in need_words.difference(&used) {
        let message = format!("no loop needs {}", quoted(word));
        let help = format!("add it to a loop's `needs`, or take `[needs.{word}]` out");
        walk.faults.push(Fault::warning(walk.source.key(&join("needs", word)), message, help));
    }
    cross::check(&config, walk);
    config
}

/// A name of that kind, or the fault that it is none.
pub fn name_of<N>(walk: &mut Walk, name: &str, at: Range<usize>) -> Option<N>
where
    N: FromStr<Err = crate::supervisor::names::BadName>,
{
    // A name that is far too long is judged by its beginning, which is too long as well.
    let short: String = name.chars().take(40).collect();
    match short.parse() {
        Ok(name) => Some(name),
        Err(e) => {
            let text = e.to_string();
            let (message, help) = text.rsplit_once("; ").unwrap_or((&text, "use another name"));
            walk.error(at, message, help);
            None
        }
    }
}

fn phases(walk: &mut Walk, open: &Open<'_>, workspace: &Path) -> Option<PhasesConfig> {
    let open = walk.table(open, "phases", &PHASES, "[phases]")?;
    walk.require(&open, "plans");
    let plans = walk.paths(&open, "plans", workspace).unwrap_or_default();
    if walk.get(&open, "plans").and_then(|v| v.get_ref().as_array()).is_some_and(|a| a.is_empty()) {
        let help = "name the plans in their order, or take `[phases]` out";
        walk.error(walk.source.value("phases.plans"), "`plans` is empty", help);
    }
    let advance = [("gate-pass", AdvanceOn::GatePass), ("manual", AdvanceOn::Manual)];
    Some(PhasesConfig {
        index_file: walk
            .path(&open, "index_file", Some(workspace))
            .unwrap_or_else(|| workspace.join(".cc-ci-logs/.phase-idx")),
        plans,
        advance_on: walk.choice(&open, "advance_on", &advance).unwrap_or(AdvanceOn::GatePass),
        gate_patience: walk.duration(&open, "gate_patience", WAIT).unwrap_or(Duration::from_secs(3600)),
    })
}

/// The needs, and every name under `[needs]` whether or not its table is right.
fn needs(walk: &mut Walk, open: &Open<'_>, workspace: &Path) -> (BTreeMap<NeedName, NeedConfig>, BTreeSet<String>) {
    let (mut needs, mut words) = (BTreeMap::new(), BTreeSet::new());
    for (word, at, open) in walk.named(open, "needs", &NEED) {
        words.insert(word.to_owned());
        let name = name_of::<NeedName>(walk, word, at);
        if let (Some(name), Some(need)) = (name, need(walk, &open, workspace)) {
            needs.insert(name, need);
        }
    }
    (needs, words)
}

fn need(walk: &mut Walk, open: &Open<'_>, workspace: &Path) -> Option<NeedConfig> {
    let ways: Vec<_> = NEED.names().filter(|key| walk.get(open, key).is_some()).collect();
    let place = &open.header;
    match ways.as_slice() {
        [] => {
            let help = "add one of `command = [\"…\"]`, `unit = \"….service\"`, `tcp = \"host:port\"`, `file = \"…\"`";
            walk.error(open.at.clone(), format!("`{place}` has no way to find out whether it is there"), help);
        }
        [_] => {}
        [first, second, ..] => {
            let at = walk.source.key(&join(&open.path, second));
            walk.error(at, format!("`{place}` has both `{first}` and `{second}`"), "keep one of the two");
        }
    }
    match *ways.first()? {
        "command" => {
            let argv = outside_program(walk, open, "command", workspace)?;
            if argv.is_empty() {
                walk.error(walk.source.value(&join(&open.path, "command")), "`command` is empty", "name a program");
            }
            Some(NeedConfig::Command(argv))
        }
        "unit" => unit(walk, open).map(NeedConfig::Unit),
        "tcp" => tcp(walk, open).map(NeedConfig::Tcp),
        _ => walk.path(open, "file", Some(workspace)).map(NeedConfig::File),
    }
}

const UNIT_KINDS: &[&str] = &["service", "socket", "target", "mount", "automount", "path", "timer", "device", "scope"];

fn unit(walk: &mut Walk, open: &Open<'_>) -> Option<String> {
    let (text, at) = walk.text(open, "unit")?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    match text.rsplit_once('.') {
        Some((name, kind)) if UNIT_KINDS.contains(&kind) && !name.is_empty() && text.chars().all(allowed) => {
            return Some(text.to_owned());
        }
        _ if !text.is_empty() && text.chars().all(allowed) => {
            let help = format!("write the whole name: `{text}.service`");
            walk.error(at, format!("{} has no unit type at its end", quoted(text)), help);
        }
        _ => {
            let help = "write it like `cc-ci-secrets.service`";
            walk.error(at, format!("{} is not the name of a systemd unit", quoted(text)), help);
        }
    }
    None
}

fn tcp(walk: &mut Walk, open: &Open<'_>) -> Option<String> {
    let (text, at) = walk.text(open, "tcp")?;
    let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
    let bracketed = host.starts_with('[') && host.ends_with(']') && host.len() > 2;
    let good_host = !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/');
    if good_host && (bracketed || !host.contains([':', '[', ']'])) && port.parse::<u16>().is_ok_and(|p| p > 0) {
        return Some(text.to_owned());
    }
    let help = "write it like `127.0.0.1:1055`, an IPv6 address like `[::1]:1055`; ports are 1 to 65535";
    walk.error(at, format!("{} is not `host:port`", quoted(text)), help);
    None
}

/// An argv that the daemon itself runs. It has no loop, so nothing is filled in; a program with a relative path is
/// taken from the workspace, since the daemon's own folder is nobody's choice.
fn outside_program(walk: &mut Walk, open: &Open<'_>, key: &str, workspace: &Path) -> Option<Vec<String>> {
    let mut argv = walk.argv(open, key)?;
    let path = join(&open.path, key);
    for (index, text) in argv.iter().enumerate() {
        let known = super::placeholders::scan(text);
        if let Some(p) = known.iter().find(|p| super::placeholders::NAMES.contains(&p.name)) {
            let name = p.name;
            let at = walk.source.part_of(walk.source.value(&format!("{path}[{index}]")), &format!("{{{name}}}"));
            let help = "write the text itself: this program runs for no one loop";
            walk.error(at, format!("`{{{name}}}` is not filled in in `{key}`"), help);
        }
    }
    if let Some(program) = argv.first_mut() {
        if program.is_empty() {
            let at = walk.source.value(&format!("{path}[0]"));
            walk.error(at, format!("`{key}` has an empty program"), "name a program");
        } else if program.contains('/') && !program.starts_with('/') {
            // Both parts come out of a `str`, so nothing is lost.
            *program = super::walk::tidy(&workspace.join(&*program)).to_string_lossy().into_owned();
        }
    }
    Some(argv)
}

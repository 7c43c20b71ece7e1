//! TOML text to a [`Config`] with every default filled in, or all faults at once. Pure: needs no machine.

use super::keys::{NEED, PHASES, TOP};
use super::report::{Diagnostic, Fault, Severity, Source, quoted};
use super::walk::{Open, Walk, join};
use super::{AdvanceOn, Config, HostKind, NeedConfig, PhasesConfig};
use super::{cross, loops};
use crate::supervisor::agents::{ADAPTERS, Adapter};
use crate::supervisor::names::{LoopName, NeedName};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::str::FromStr;
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

/// Why there is no usable config. Displays over several lines.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigErrors {
    /// There is no text to find faults in.
    #[error("read the config `{file}`: {cause}; {remedy}", file = file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        cause: String,
        /// What to do.
        remedy: String,
    },
    /// The text has faults; at least one is an error.
    #[error("{}", Rendered(diagnostics, *more, file))]
    Faults {
        /// The file.
        file: PathBuf,
        /// At most fifty, in the order of the text.
        diagnostics: Vec<Diagnostic>,
        /// How many more there are.
        more: usize,
    },
}

/// Diagnostics with an empty line between them, and how many they are.
struct Rendered<'a>(&'a [Diagnostic], usize, &'a Path);

impl fmt::Display for Rendered<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(diagnostics, more, file) = self;
        for diagnostic in *diagnostics {
            writeln!(f, "{diagnostic}\n")?;
        }
        let count = |wanted| diagnostics.iter().filter(|d| d.severity == wanted).count();
        let plural = |n, word| if n == 1 { format!("1 {word}") } else { format!("{n} {word}s") };
        write!(f, "check the config `{}`: {}", file.display(), plural(count(Severity::Error), "error"))?;
        if count(Severity::Warning) > 0 {
            write!(f, ", {}", plural(count(Severity::Warning), "warning"))?;
        }
        if *more > 0 {
            write!(f, ", and {more} more not shown")?;
        }
        Ok(())
    }
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
    let mut walk = Walk { source: Source::new(file, text), faults: Vec::new() };
    let nul = text.find('\0');
    let (root, syntax) = DeTable::parse_recoverable(if nul.is_some() { "" } else { text });
    let only_duplicates = syntax.iter().all(|e| e.message() == DUPLICATE);
    match nul {
        Some(at) => {
            walk.error(at..at + 1, "the file holds a NUL byte, so it is no text", "write it anew as UTF-8 text")
        }
        None => walk.faults.extend(syntax_faults(text, &syntax)),
    }
    let config = (nul.is_none() && (syntax.is_empty() || only_duplicates))
        .then(|| top(&mut walk, root.get_ref(), file, adapters));
    let Walk { source, faults } = walk;
    let failed = faults.iter().any(|f| f.severity == Severity::Error);
    let (diagnostics, more) = source.diagnostics(faults);
    match config {
        Some(config) if !failed => Ok(Loaded { config, source, warnings: diagnostics }),
        _ => Err(ConfigErrors::Faults { file: file.to_owned(), diagnostics, more }),
    }
}

/// What toml says of a key or table that is there twice; the text is whole, so the rest of it can be read.
const DUPLICATE: &str = "duplicate key";

/// One fault a line: the parser goes on after a fault, and what it finds on the same line follows from the first.
fn syntax_faults(text: &str, errors: &[toml::de::Error]) -> Vec<Fault> {
    let mut faults: BTreeMap<usize, Fault> = BTreeMap::new();
    // A file that is no TOML at all has one a few bytes, and each costs a search for its line.
    for error in errors.iter().take(1000) {
        let at = error.span().unwrap_or(0..0);
        let start = at.start.min(text.len());
        let line = text.as_bytes()[..start].iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
        let rest = text.get(start..).and_then(|t| t.lines().next()).unwrap_or_default().trim();
        let (message, help) = match error.message() {
            DUPLICATE => {
                let key = text.get(at.clone()).unwrap_or_default();
                (format!("{} is there twice", quoted(key)), "keep one of the two")
            }
            "string values must be quoted, expected literal string" if rest.is_empty() => {
                ("a key has no value".to_owned(), "write one after the `=`")
            }
            m if m.contains("must be quoted") || m.starts_with("invalid boolean") => {
                ("a value is neither a string in quotes nor a number nor `true` or `false`".to_owned(), QUOTE)
            }
            m if m.contains("recursion") || m.contains("recurse") => {
                ("the text is nested too deeply".to_owned(), "a config needs three levels at most")
            }
            m if m.starts_with("unexpected key or value") => {
                (format!("not valid TOML: {m}"), "put each key on a line of its own")
            }
            m if m.starts_with("unclosed")
                || (m.starts_with("invalid") && m.ends_with(['"', '\'', '`']) && rest.is_empty()) =>
            {
                (format!("not valid TOML: {m}"), "close it; what follows could not be judged")
            }
            m => (format!("not valid TOML: {m}"), "mend this place; what follows it could not be judged"),
        };
        let first = faults.entry(line).or_insert_with(|| Fault::error(at.clone(), message.clone(), help));
        if at.start < first.at.start {
            *first = Fault::error(at, message, help);
        }
    }
    faults.into_values().collect()
}

const QUOTE: &str = "put text, durations and sizes in quotes: `\"30m\"`";

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
            config.loops.insert(name, read);
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

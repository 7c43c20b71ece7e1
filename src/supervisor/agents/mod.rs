//! What the supervisor must know of a kind of agent, and the list of the kinds. One file and one line a kind.

mod claude;
mod codex;
mod command;

use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;

/// Every kind of agent, by the name that `agent = "…"` takes.
pub const ADAPTERS: &[&dyn Adapter] = &[&claude::Claude, &codex::Codex, &command::Command];

/// The adapter of that name.
pub fn by_name(name: &str) -> Option<&'static dyn Adapter> {
    ADAPTERS.iter().copied().find(|a| a.name() == name)
}

/// A kind of agent: how it is started, and how what it tells is read. Pure; the daemon does the rest.
pub trait Adapter: Sync {
    /// The name in `agent = "…"`.
    fn name(&self) -> &'static str;
    /// What the deciding code may count on.
    fn capabilities(&self) -> Capabilities;
    /// The program, its arguments and its own environment for one start.
    fn launch(&self, request: &LaunchRequest) -> Launch;
    /// What one JSON object from `supervisor event` says; empty when it says nothing of interest. An unknown event is
    /// still a sign of life, so it is `[Signal::Alive]`, never an error: a hook must not fail a turn.
    /// `now`, in milliseconds since the Unix epoch, is for texts that name a time of day.
    fn read_event(&self, event: &serde_json::Value, now: i64) -> Vec<Signal>;
    /// The keys, in tmux's words, that clear what may be in the way of a text that was typed in vain: a dialog that can
    /// be left, a text that was typed and not sent. Empty when nothing helps.
    fn clearing_keys(&self) -> &'static [&'static str] {
        &[]
    }
    /// What the last records of the session's file, oldest first, say of a turn that was refused: for the refusals
    /// that no event tells, or whose event was lost. Only records of after `since` count: older ones are of an earlier
    /// turn. Empty where nothing was refused, or a later turn has begun. Both in milliseconds since the Unix epoch.
    fn read_records(&self, records: &[serde_json::Value], since: i64, now: i64) -> Vec<Signal> {
        let _ = (records, since, now);
        Vec::new()
    }
    /// Whether the session's file shows that this text, typed at `since` (milliseconds since the Unix epoch), reached
    /// the agent within a turn, between two tools, where it does not say so by [`Signal::PromptAccepted`].
    fn took_within_turn(&self, records: &[serde_json::Value], text: &str, since: i64) -> bool {
        let _ = (records, text, since);
        false
    }
    /// What the screen says of a turn that was refused: the last resort, looked at when nothing else tells anything.
    fn read_screen(&self, screen: &str, now: i64) -> Vec<Signal> {
        let _ = (screen, now);
        Vec::new()
    }
    /// What `supervisor doctor` looks at besides what a start would write. `launch` is what would be started.
    fn checks(&self, launch: &Launch) -> Vec<Check> {
        let _ = launch;
        Vec::new()
    }
}

impl fmt::Debug for dyn Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl PartialEq for dyn Adapter {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

/// What a kind of agent can do, as far as decisions depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// A session can be resumed by its uuid after a death.
    pub resumes: bool,
    /// Chooses the uuid of a fresh session itself and says it ([`Signal::Session`]); before its first prompt arrived there
    /// is nothing to resume.
    pub names_session: bool,
    /// Brings its own program, so `command` must be absent; else `command` is required.
    pub own_program: bool,
    /// Takes the prompt of a fresh session (kickoff, hand-off).
    pub takes_prompt: bool,
    /// Says [`Signal::Ready`] when it came up; one that does not within a while waits in a dialog, or hangs.
    pub says_ready: bool,
    /// Says [`Signal::PromptAccepted`] for each text that reached it; without one a nudge was not delivered.
    pub acknowledges: bool,
    /// Where a refusal can be seen that no event told.
    pub evidence: Evidence,
}

/// Where a refusal can be seen that no event told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Evidence {
    /// Nowhere.
    #[default]
    None,
    /// In the file that the session is written to ([`Adapter::read_records`]).
    Records,
    /// There, and on the screen ([`Adapter::read_screen`]).
    RecordsAndScreen,
}

/// What an adapter gets to build one start from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchRequest {
    /// `command` of the loop, placeholders filled in.
    pub command: Vec<String>,
    /// `args` of the loop, placeholders filled in.
    pub args: Vec<String>,
    /// The session to start or resume.
    pub session: Session,
    /// The rendered prompt of a fresh session.
    pub prompt: Option<String>,
    /// A folder of this loop's own for files that the agent is pointed to.
    pub runtime_dir: PathBuf,
    /// The `supervisor` binary, for hooks: by a path that outlives an upgrade.
    pub supervisor: PathBuf,
    /// Where the agent runs, all links followed where that is possible.
    pub workdir: PathBuf,
}

/// A program to start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Launch {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Variables beyond the allow-list; no secrets, those come from env files.
    pub env: Vec<(String, String)>,
    /// Files to write before the start (path, content), readable by the user only.
    pub files: Vec<(PathBuf, String)>,
    /// Values of the user's own files that must be there; written only where nothing is.
    pub seeds: Vec<Seed>,
}

/// A value in a JSON file of the user's that spares an agent a dialog which nobody would answer. Written before the
/// start where there is none yet, never over one that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seed {
    /// Where the file may be: a variable of the agent's environment that names a folder, and the file below it. The
    /// first variable that is set counts.
    pub file: Vec<(String, PathBuf)>,
    /// The keys that lead to the value.
    pub keys: Vec<String>,
    /// The value.
    pub value: serde_json::Value,
}

/// Something that `supervisor doctor` looks at, in the agent's environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// Running this succeeds; its first line of output is shown.
    Runs {
        /// What it tells, for a sentence: `login`.
        what: &'static str,
        /// The program and its arguments.
        argv: Vec<String>,
        /// What to do when it fails.
        mend: String,
    },
    /// A line given to a shell as a hook, with an event that says nothing on its stdin, reaches the daemon.
    HookReaches {
        /// The line.
        command: String,
    },
    /// A folder can be written to, or be made: see [`Seed::file`].
    Folder {
        /// What is kept there.
        what: &'static str,
        /// Where it may be.
        folder: Vec<(String, PathBuf)>,
    },
}

/// How an agent's session begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "start")]
pub enum Session {
    /// A session that did not exist before, with this uuid, given this prompt.
    Fresh {
        /// Its own.
        uuid: String,
        /// Which prompt it is given.
        prompt: Prompt,
    },
    /// A session that existed.
    Resume {
        /// Its own.
        uuid: String,
    },
}

/// Which prompt a fresh session is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Prompt {
    /// The first of its loop, or of a new phase.
    Kickoff,
    /// Takes over from a session that was full or could not be resumed.
    Handoff,
}

/// What an agent tells of itself, whatever its kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "signal")]
pub enum Signal {
    /// It came up and can take prompts.
    Ready,
    /// It does something.
    Alive,
    /// A prompt or nudge reached it: the turn begins.
    PromptAccepted,
    /// Its turn ended well.
    TurnEnded,
    /// A tool is in flight.
    ToolStarted,
    /// The tool in flight is done.
    ToolEnded,
    /// It waits for a person.
    NeedsPerson {
        /// For what.
        what: String,
    },
    /// Its account's usage limit is reached.
    UsageLimit {
        /// When it resets, in milliseconds since the Unix epoch, if known.
        resets_at: Option<i64>,
        /// The text or field that says so.
        evidence: String,
    },
    /// Its account is not logged in.
    LoggedOut {
        /// The text or field that says so.
        evidence: String,
    },
    /// The server has no room for it now; not a limit of the account.
    Overloaded,
    /// Its context is full or nearly so.
    ContextFull,
    /// It has nothing to do and waits for a prompt.
    Waiting,
    /// A window of its account is used up; not a refusal yet. More exact than what a refusal's text says.
    WindowFull {
        /// When it resets, in milliseconds since the Unix epoch.
        resets_at: i64,
    },
    /// It goes on under another session uuid, or writes its session there.
    Session {
        /// The uuid.
        uuid: String,
        /// The file that grows with each turn, if there is one.
        transcript: Option<PathBuf>,
    },
    /// It means to end.
    Ending,
}

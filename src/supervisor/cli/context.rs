//! What nearly every verb needs: the config, the daemon's socket, and an answer from it.

use super::fault::Fault;
use crate::supervisor::config::{self, Config, Loaded};
use crate::supervisor::control::client::{self, ClientError};
use crate::supervisor::control::protocol::{Call, Request, Response};
use crate::supervisor::control::socket_path;
use crate::supervisor::names::LoopName;
use anyhow::{Context as _, anyhow};
use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the daemon answers from memory.
pub const QUICK: Duration = Duration::from_secs(10);
/// What the daemon answers when agents have come or gone: `stop_timeout` and what it adds to it stay below this.
pub const PATIENT: Duration = Duration::from_secs(15 * 60);

/// The default of `runtime_dir`.
const RUNTIME_DIR: &str = "/run/cc-ci-orchestrator";

/// Where a verb runs.
#[derive(Debug, Clone)]
pub struct Context {
    /// `--config`.
    explicit: Option<PathBuf>,
}

impl Context {
    /// With what `--config` said.
    pub fn new(explicit: Option<PathBuf>) -> Self {
        Self { explicit }
    }

    /// The config file, as the command line, the environment and the usual places say.
    pub fn config_file(&self) -> anyhow::Result<PathBuf> {
        let cwd = env::current_dir().context("finding the current folder")?;
        Ok(config::find(self.explicit.as_deref(), env::var_os("CC_CI_CONFIG").as_deref(), &cwd)?)
    }

    /// The config with where its keys are.
    pub fn load(&self) -> anyhow::Result<Loaded> {
        Ok(config::read_file(&self.config_file()?)?)
    }

    /// The config.
    pub fn config(&self) -> anyhow::Result<Config> {
        Ok(self.load()?.config)
    }

    /// The daemon's socket: from inside a loop that loop's own, unless `--config` names another daemon.
    ///
    /// A config that has become faulty must not keep the operator from the daemon that still runs with the one before,
    /// so then only `runtime_dir` is read out of it.
    pub fn socket(&self) -> anyhow::Result<PathBuf> {
        if let (None, Some(socket)) = (&self.explicit, inherited_socket()) {
            return Ok(socket);
        }
        let file = self.config_file()?;
        match config::read_file(&file) {
            Ok(loaded) => Ok(socket_path(&loaded.config.runtime_dir)),
            Err(errors) => match lenient_runtime_dir(&file).map(|dir| socket_path(&dir)) {
                Some(socket) if socket.exists() => {
                    eprintln!("supervisor: the config `{}` has faults, see `supervisor check`", file.display());
                    Ok(socket)
                }
                _ => Err(errors.into()),
            },
        }
    }

    /// Asks the daemon; a refusal is an error with its exit code.
    pub fn ask(&self, request: Request, within: Duration) -> anyhow::Result<Response> {
        self.ask_as(None, request, within)
    }

    /// The same on behalf of a loop, named or of CC_CI_LOOP.
    pub fn ask_as(&self, named: Option<LoopName>, request: Request, within: Duration) -> anyhow::Result<Response> {
        let socket = self.socket()?;
        answered(client::call(&socket, &call(named, request)?, within)?)
    }

    /// Asks the daemon; `None` when none runs.
    pub fn ask_if_running(&self, request: Request) -> anyhow::Result<Option<Response>> {
        let socket = self.socket()?;
        match client::call(&socket, &call(None, request)?, QUICK) {
            Err(ClientError::NotRunning(_)) => Ok(None),
            answer => answered(answer?).map(Some),
        }
    }
}

fn answered(response: Response) -> anyhow::Result<Response> {
    match response {
        Response::Refused { kind, message } => Err(Fault::from((kind, message)).into()),
        response => Ok(response),
    }
}

/// A request from this process: who it is on behalf of is `--loop`, else what the environment says.
fn call(named: Option<LoopName>, request: Request) -> anyhow::Result<Call> {
    let from = match named {
        Some(name) => Some(name),
        None => match env::var("CC_CI_LOOP") {
            Ok(name) => Some(name.parse().map_err(|e| Fault::Usage(format!("reading $CC_CI_LOOP: {e}")))?),
            Err(_) => None,
        },
    };
    // Not a number: then the daemon goes by the loop alone.
    let epoch = env::var("CC_CI_EPOCH").ok().and_then(|epoch| epoch.parse().ok());
    Ok(Call { from, epoch, request })
}

/// The socket that an agent's environment names.
pub fn inherited_socket() -> Option<PathBuf> {
    env::var_os("CC_CI_SOCKET").filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// `runtime_dir` of a config with faults elsewhere.
fn lenient_runtime_dir(file: &Path) -> Option<PathBuf> {
    let text = std::fs::read_to_string(file).ok()?;
    let (table, _) = toml::de::DeTable::parse_recoverable(&text);
    match table.get_ref().get("runtime_dir") {
        Some(value) => value.get_ref().as_str().map(PathBuf::from).filter(|dir| dir.is_absolute()),
        None => Some(PathBuf::from(RUNTIME_DIR)),
    }
}

/// What is said when the daemon answers something that does not belong to the request.
pub fn odd(response: &Response) -> anyhow::Error {
    anyhow!(
        "reading the answer of the supervisor: it does not fit the request ({response:?}); is it of another version?"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_faulty_config_the_runtime_dir_is_still_known() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("c.toml");
        let found = |text: &str| {
            std::fs::write(&file, text).unwrap();
            assert!(config::read_file(&file).is_err(), "{text}");
            lenient_runtime_dir(&file)
        };
        assert_eq!(found("runtime_dir = \"/run/x\"\nbogus = 1"), Some("/run/x".into()));
        assert_eq!(found("runtime_dir = \"/run/x\"\n[loops.a\n"), Some("/run/x".into()));
        assert_eq!(found("runtime_dir = \"x\""), None);
        assert_eq!(found("bogus = 1"), Some(RUNTIME_DIR.into()));
    }

    #[test]
    fn the_default_runtime_dir_is_the_configs() {
        let text = "workspace = \"/\"\n[loops.a]\nagent = \"command\"\ncommand = [\"true\"]\nworkdir = \".\"\n";
        let config = config::read(text, Path::new("/c.toml")).unwrap().config;
        assert_eq!(config.runtime_dir, Path::new(RUNTIME_DIR));
    }
}

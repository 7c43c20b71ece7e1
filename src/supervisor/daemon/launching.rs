//! Starting an agent: its launch spec from its definition and the current phase, then one tmux call.

use super::Daemon;
use super::looks::is_missing;
use super::tasks::Purpose;
use crate::supervisor::agents::{LaunchRequest, Prompt, Session};
use crate::supervisor::config::placeholders::{Values, render};
use crate::supervisor::config::{LARGEST_PROMPT, read_text};
use crate::supervisor::control;
use crate::supervisor::core::action::Start;
use crate::supervisor::core::event::{Event, NotStarted};
use crate::supervisor::core::stage::{Respawn, Stage};
use crate::supervisor::core::world::{Loop, Pipe};
use crate::supervisor::launch::LaunchSpec;
use crate::supervisor::session;
use crate::supervisor::tmux;
use crate::support::private_file;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Starts that tmux carries out at once. Each is half a dozen processes; a hundred at once keep each other from ending
/// before their deadline.
const AT_ONCE: usize = 16;

impl Daemon {
    /// Carries out the starts that were decided and that there is room for, until the moment given; the rest comes after a
    /// look at what has happened meanwhile.
    pub(super) fn start_waiting(&mut self, until: Instant) {
        while self.can_start() {
            let Some(start) = self.to_start.pop_front() else { return };
            self.start(start);
            if Instant::now() >= until {
                return;
            }
        }
    }

    /// Whether a start waits that there is room for.
    pub(super) fn can_start(&self) -> bool {
        let under_way = self.tasks.iter().filter(|t| matches!(t.purpose, Purpose::Respawn { .. })).count();
        !self.to_start.is_empty() && under_way < AT_ONCE
    }

    fn start(&mut self, start: Start) {
        let wanted = |l: &Arc<Loop>| {
            matches!(l.stage, Stage::Starting { respawn: Respawn::Sent, .. }) && l.live_epoch() == Some(start.epoch)
        };
        if !self.world.loops.get(&start.name).is_some_and(wanted) {
            // It was given up while it waited for its turn; nothing was told to tmux.
            return;
        }
        self.drop_texts(&start.name, "its agent was started anew");
        // The intent must be durable before there can be an agent.
        let begun = match self.save_loop(&start.name) {
            Ok(()) => self.respawn(&start).map_err(|e| format!("{e:#}")),
            Err(error) => Err(error),
        };
        if let Err(error) = begun {
            let why = NotStarted::Error(error);
            self.queue.push_back(Event::StartFailed { name: start.name, epoch: start.epoch, why });
        }
    }

    fn respawn(&mut self, start: &Start) -> Result<()> {
        let spec = self.launch_spec(start)?;
        let dir = session::session_dir(&self.config.runtime_dir, &start.name);
        let path = spec.write(&dir)?;
        let argv = spec.command(&self.options.supervisor, &path);
        let log = self.store.layout().log(&start.name);
        let pipe = match start.pipe {
            // A log that was rotated or removed while nothing ran: the pipe writes to the old file.
            Pipe::Open if !is_missing(&log) => None,
            Pipe::Open | Pipe::Closed { .. } => Some((&start.name, log.as_path())),
        };
        let call = tmux::respawn(start.epoch, &spec.workdir, &argv, pipe);
        let purpose = Purpose::Respawn { name: start.name.clone(), epoch: start.epoch };
        self.tmux(&start.name, &call, purpose).map_err(anyhow::Error::msg)
    }

    fn launch_spec(&self, start: &Start) -> Result<LaunchSpec> {
        let config = self.config.loops.get(&start.name).context("the config has no such loop")?;
        if !config.workdir.is_dir() {
            let workdir = config.workdir.display();
            bail!("entering the workdir `{workdir}`: it is no folder; clone it there, or change `workdir`");
        }
        let values = self.world.values(&start.name, start.phase);
        let fill = |texts: &[String]| -> Result<Vec<String>> {
            texts.iter().map(|text| render(text, &values).with_context(|| format!("filling in `{text}`"))).collect()
        };
        let prompt = match &start.session {
            Session::Fresh { prompt, .. } if config.capabilities.takes_prompt => {
                let file = match prompt {
                    Prompt::Kickoff => config.kickoff.as_ref(),
                    Prompt::Handoff => config.handoff.as_ref().or(config.kickoff.as_ref()),
                };
                file.map(|file| read_prompt(file, &values)).transpose()?
            }
            Session::Fresh { .. } | Session::Resume { .. } => None,
        };
        let launch = config.adapter.launch(&LaunchRequest {
            command: fill(&config.command)?,
            args: fill(&config.args)?,
            session: start.session.clone(),
            prompt,
            runtime_dir: session::session_dir(&self.config.runtime_dir, &start.name),
            supervisor: self.options.supervisor.clone(),
            workdir: real(&config.workdir),
        });
        for (path, content) in &launch.files {
            private_file::write(path, content.as_bytes()).with_context(|| format!("writing `{}`", path.display()))?;
        }
        Ok(LaunchSpec {
            name: start.name.clone(),
            epoch: start.epoch,
            argv: launch.argv,
            workdir: config.workdir.clone(),
            env: launch.env,
            env_files: config.env_files.clone(),
            seeds: launch.seeds,
            socket: control::socket_path(&self.config.runtime_dir),
            config: self.config.file.clone(),
        })
    }
}

/// Agents know a folder by its real path. One that cannot be followed is said by the start that fails for it.
fn real(workdir: &Path) -> PathBuf {
    workdir.canonicalize().unwrap_or_else(|_| workdir.to_owned())
}

fn read_prompt(file: &std::path::Path, values: &Values) -> Result<String> {
    // Never a pipe, which would hold the event loop up, and nothing that does not fit an argument.
    let text = read_text(file, LARGEST_PROMPT)
        .with_context(|| format!("reading the prompt `{}`; put it there, or change the loop", file.display()))?;
    render(&text, values).with_context(|| format!("filling in the prompt `{}`", file.display()))
}

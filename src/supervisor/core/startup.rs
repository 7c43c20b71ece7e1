//! How an agent comes up, and whether its session is written down: for agents that say so.

use super::Draft;
use super::action::Action;
use super::stage::{Stage, StopWhy};
use super::world::{Startup, Transcript, Turn};
use crate::supervisor::agents::{Prompt, Session};
use crate::supervisor::names::LoopName;
use serde_json::json;
use std::path::PathBuf;
use std::time::Duration;

/// An agent that says when it is ready does so within seconds; after this a person should look.
pub(super) const READY_WITHIN: Duration = Duration::from_secs(60);
/// For this long a resumed agent that has not said that it is ready is not told to end: a signal in that time can leave
/// a session that cannot be resumed.
const START_GRACE: Duration = Duration::from_secs(10);
/// The transcript is written a moment after the turn's end is told.
const TRANSCRIPT_AFTER: Duration = Duration::from_secs(5);

impl Draft<'_> {
    /// It said that it can take prompts.
    pub(super) fn ready(&mut self, name: &LoopName) {
        let now = self.now;
        let tried = self.on_trial(name);
        let Some(config) = self.config(name) else { return };
        let Some(l) = self.get_mut(name) else { return };
        let prompted = match l.record.agent.as_ref().map(|agent| &agent.session) {
            Some(Session::Fresh { prompt: Prompt::Kickoff, .. }) => config.kickoff.is_some(),
            Some(Session::Fresh { prompt: Prompt::Handoff, .. }) => {
                config.handoff.is_some() || config.kickoff.is_some()
            }
            Some(Session::Resume { .. }) | None => false,
        };
        if prompted && config.capabilities.acknowledges && l.life.startup != Startup::Ready {
            // Its own prompt is on the way, and a text that is typed before it can take its place (tried).
            l.life.turn = Turn::Busy { since: now };
            return;
        }
        l.life.startup = Startup::Ready;
        if matches!(l.life.turn, Turn::Unknown) {
            l.life.turn = Turn::Idle { since: now };
        }
        let resumed = l.record.agent.as_ref().is_some_and(|a| matches!(a.session, Session::Resume { .. }));
        if resumed && tried && l.record.go_on.is_none() {
            // A trial is decided by a turn, so there must be one.
            l.record.go_on = Some("Go on where you were.".to_owned());
        }
        l.life.ready_at = Some(now.boot).filter(|_| resumed);
    }

    /// Says that an agent does not come up. True while an end must wait for it.
    pub(super) fn settle_startup(&mut self, name: &LoopName) {
        let Some((l, config)) = self.w.get(name) else { return };
        let Stage::Up { since } = l.stage else { return };
        if let Some(why) = l.life.end_when_ready {
            if !self.in_start_grace(name) {
                self.end(name, why);
            }
            return;
        }
        let mute = config.capabilities.says_ready && l.life.startup == Startup::Coming;
        if !mute || self.w.global.frozen.is_some() || !self.due(since.plus(READY_WITHIN).boot) {
            return;
        }
        if let Some(l) = self.get_mut(name) {
            l.life.startup = Startup::Overdue;
        }
        let why = "it runs and has not said that it is up: a dialog may wait for a person";
        let mend = format!("supervisor attach {name}");
        self.journal(Some(name), "not-ready", why, json!({}), Some(format!("nothing is typed; {mend}")));
        self.read_screen(name);
        self.notify("attention", Some(name), format!("{name}: {why}"), mend);
    }

    /// Whether it is too early to tell a resumed agent to end; if so, when that is over is noted.
    pub(super) fn in_start_grace(&mut self, name: &LoopName) -> bool {
        let Some((l, config)) = self.w.get(name) else { return false };
        let Stage::Up { since } = l.stage else { return false };
        let resumed = l.record.agent.as_ref().is_some_and(|a| matches!(a.session, Session::Resume { .. }));
        resumed
            && config.capabilities.says_ready
            && l.life.startup == Startup::Coming
            && !self.due(since.plus(START_GRACE).boot)
    }

    /// Keeps an end for after the grace.
    pub(super) fn end_when_ready(&mut self, name: &LoopName, why: StopWhy) {
        let Some(l) = self.get_mut(name) else { return };
        if l.life.end_when_ready.replace(why).is_none() {
            let text = format!(
                "to be ended because {}; it is being resumed, and a signal now could lose its session",
                why.text()
            );
            self.journal(Some(name), "end-later", &text, json!({}), Some("ended when it is up".to_owned()));
        }
    }

    // ---- the session on disk ----

    pub(super) fn session_told(&mut self, name: &LoopName, uuid: String, transcript: Option<PathBuf>) {
        let Some(l) = self.get_mut(name) else { return };
        let Some(agent) = &mut l.record.agent else { return };
        match &mut agent.session {
            Session::Fresh { uuid: own, .. } | Session::Resume { uuid: own } => *own = uuid,
        }
        let epoch = agent.epoch;
        let Some(path) = transcript else { return };
        agent.transcript = Some(path.clone());
        l.life.transcript = Transcript::Asked { path: path.clone(), before: None };
        self.push(Action::LookAtTranscript { name: name.clone(), epoch, path });
    }

    /// A turn ended: the session must have grown.
    pub(super) fn transcript_due(&mut self, name: &LoopName) {
        let at = self.now.plus(TRANSCRIPT_AFTER).boot;
        let Some(l) = self.get_mut(name) else { return };
        if let Transcript::Known { path, size } = &l.life.transcript {
            l.life.transcript = Transcript::Due { path: path.clone(), size: *size, at };
        }
    }

    pub(super) fn settle_transcript(&mut self, name: &LoopName) {
        let Some(l) = self.w.loops.get(name) else { return };
        let Transcript::Due { path, size, at } = l.life.transcript.clone() else { return };
        let Some(epoch) = l.live_epoch() else { return };
        if !self.due(at) {
            return;
        }
        if let Some(l) = self.get_mut(name) {
            l.life.transcript = Transcript::Asked { path: path.clone(), before: Some(size) };
        }
        self.push(Action::LookAtTranscript { name: name.clone(), epoch, path });
    }

    pub(super) fn transcript_seen(&mut self, name: &LoopName, epoch: u64, size: Option<u64>) {
        let Some(l) = self.get_mut(name) else { return };
        let Transcript::Asked { path, before } = l.life.transcript.clone() else { return };
        if l.live_epoch() != Some(epoch) {
            return;
        }
        let Some(before) = before else {
            l.life.transcript = Transcript::Known { path, size: size.unwrap_or(0) };
            return;
        };
        l.life.transcript = Transcript::Judged;
        if size.is_some_and(|size| size > before) {
            return;
        }
        let shown = path.display();
        let why = match size {
            None => format!("its turn ended and there is no transcript `{shown}`: this session cannot be resumed"),
            Some(_) => {
                format!("its turn ended and the transcript `{shown}` did not grow: this session cannot be resumed")
            }
        };
        let evidence = json!({ "transcript": path, "size": size, "before": before });
        let mend =
            "is the disk full, or a variable in its env files against it? The next death starts it afresh".to_owned();
        self.journal(Some(name), "transcript", &why, evidence, Some(mend.clone()));
        self.notify("transcript", Some(name), format!("{name}: {why}"), mend);
    }
}

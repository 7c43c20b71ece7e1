//! An agent that runs: stalls, waiting for a person, idleness, planned restarts.

use super::Draft;
use super::action::Action;
use super::stage::{Stage, StopWhy};
use super::world::{HostStatus, Mode, Said, Stall, Startup, Turn, Wish};
use crate::supervisor::config::placeholders::render;
use crate::supervisor::config::{LoopConfig, OnChange, OnPhase};
use crate::supervisor::names::LoopName;
use crate::support::clock::millis;
use crate::support::units::{short_duration, short_size};
use serde_json::json;
use std::time::Duration;

/// The second sample of a stall comes after this share of `stall_after` …
const CONFIRM_SHARE: u32 = 10;
/// … but at most this much later.
const CONFIRM_MAX: Duration = Duration::from_secs(60);
/// A nudged agent has this share of `stall_after` …
const NUDGED_SHARE: u32 = 6;
/// … but at most this long to show life.
const NUDGED_MAX: Duration = Duration::from_secs(300);
/// Output within this after a nudge was typed is the terminal's echo of it …
const ECHO: Duration = Duration::from_secs(1);
/// … but at most this share of the time that it has to answer, so that an answer is seen.
const ECHO_SHARE: u32 = 2;
/// A tool in flight (a build, a test suite) is busy, not hung: it may be silent this many times as long.
const TOOL_FACTOR: u32 = 4;
/// Idle nudges that nobody answers double their distance up to this.
const IDLE_MAX: Duration = Duration::from_secs(3600);
/// How often memory is looked at while `restart_above` is set: a leak takes minutes.
const MEMORY_EVERY: Duration = Duration::from_secs(60);

impl Draft<'_> {
    pub(super) fn settle_up(&mut self, name: &LoopName) {
        let unwanted = match &self.w.loops.get(name).map(|l| &l.record) {
            _ if self.w.mode == Mode::StoppingLoops => Some(StopWhy::Shutdown),
            Some(record) if matches!(record.wish, Wish::Stop { .. }) => Some(StopWhy::Operator),
            Some(record) if record.drained.is_some() => Some(StopWhy::Drain),
            _ => None,
        };
        if let Some(why) = unwanted {
            return self.end(name, why);
        }
        self.settle_startup(name);
        // Everything below is about time, and while frozen all of it stands still.
        if self.w.global.frozen.is_some() {
            return;
        }
        let Some(config) = self.config(name) else { return };
        // Without its server nothing can be said to it or learned of it; what becomes of it is on its way.
        if self.w.loops.get(name).is_none_or(|l| !matches!(l.host.status, HostStatus::Ready { .. })) {
            return;
        }
        self.settle_pipe(name);
        self.settle_stable(name, &config);
        if self.settle_planned(name, &config) {
            return;
        }
        self.settle_memory(name, &config);
        self.settle_attention(name, &config);
        self.settle_dialog(name);
        self.settle_evidence(name, &config);
        if self.account_shut(name) {
            return;
        }
        self.settle_transcript(name);
        self.settle_phase(name, &config);
        self.settle_gate_word(name, &config);
        self.settle_overload(name);
        self.settle_idle(name, &config);
        self.settle_stall(name, &config);
        // After everything that may type something: what it types is waited for.
        self.settle_talk(name);
    }

    fn settle_stable(&mut self, name: &LoopName, config: &LoopConfig) {
        let Some(l) = self.w.loops.get(name) else { return };
        // Since its start, not since this supervisor found it.
        let (Stage::Up { .. }, Some(agent)) = (&l.stage, &l.record.agent) else { return };
        let since = agent.started;
        if l.record.budget.is_clean() || !self.due(since.plus(config.stable_after).boot) {
            return;
        }
        let Some(l) = self.get_mut(name) else { return };
        let recovered = l.record.budget.reset();
        let why = format!("it has run for {}: backoff and deaths start anew", short_duration(config.stable_after));
        self.journal(Some(name), "stable", &why, json!({ "ended_crash_loop": recovered.is_some() }), None);
        if recovered.is_some() {
            self.notify("recovered", Some(name), format!("{name}: the crash loop is over"), why);
        }
    }

    /// Ends that wait for a turn's end. Says whether one began.
    fn settle_planned(&mut self, name: &LoopName, config: &LoopConfig) -> bool {
        let Some(l) = self.w.loops.get(name) else { return false };
        let Some(agent) = &l.record.agent else { return false };
        // What waits in its queue begins the next turn at once.
        let over = l.life.turn.is_over() && !self.text_waits(name);
        let changed = agent.hash != config.hash;
        let phase_moved = config.follows_phases && agent.phase.is_some() && agent.phase != self.w.phase;
        let why = match l.life.end_after_turn {
            Some(why) if over => Some(why),
            _ if changed && config.on_change == OnChange::Now => Some(StopWhy::Change),
            _ if changed && config.on_change == OnChange::TurnEnd && over => Some(StopWhy::Change),
            _ if config.follows_phases && self.w.complete() && over => Some(StopWhy::PlanComplete),
            _ if phase_moved && config.on_phase == OnPhase::Restart && over => Some(StopWhy::Phase),
            _ => None,
        };
        if let Some(why) = why {
            self.end(name, why);
        }
        why.is_some()
    }

    fn settle_memory(&mut self, name: &LoopName, config: &LoopConfig) {
        if config.restart_above.is_none() {
            return;
        }
        let Some(l) = self.w.loops.get(name) else { return };
        let Stage::Up { since } = &l.stage else { return };
        let last = l.life.memory.map_or(since.boot, |(_, at)| at.boot);
        if self.due(last.saturating_add(millis(MEMORY_EVERY))) {
            self.sample(name);
        }
    }

    fn settle_attention(&mut self, name: &LoopName, config: &LoopConfig) {
        let Some(l) = self.w.loops.get(name) else { return };
        let Turn::Person { since, what } = &l.life.turn else { return };
        let (since, what) = (*since, what.clone());
        if l.life.attention == Said::Yes || !self.due(since.plus(config.attention_after).boot) {
            return;
        }
        if let Some(l) = self.get_mut(name) {
            l.life.attention = Said::Yes;
        }
        let summary = format!("{name} waits for a person: {what}");
        let mend = format!("supervisor attach {name}");
        self.journal(
            Some(name),
            "attention",
            &summary,
            json!({ "waits_for": what }),
            Some("it is never killed for that".into()),
        );
        self.notify("attention", Some(name), summary, mend);
    }

    fn settle_overload(&mut self, name: &LoopName) {
        let Some(l) = self.w.loops.get(name) else { return };
        let Turn::Overloaded { since, tries, until } = l.life.turn else { return };
        if !self.due(until) {
            return;
        }
        // Asked again after the longest wait if it says nothing at all.
        let later = self.now.plus(Duration::from_secs(600)).boot;
        if let Some(l) = self.get_mut(name) {
            l.life.turn = Turn::Overloaded { since, tries, until: later };
        }
        self.due(later);
        self.say(name, super::signals::OVERLOAD_OVER);
    }

    fn settle_idle(&mut self, name: &LoopName, config: &LoopConfig) {
        let Some(on_idle) = &config.on_idle else { return };
        let Some(l) = self.w.loops.get(name) else { return };
        let since = match l.life.turn {
            Turn::Idle { since } => since,
            // Found running by a new supervisor, and silent since: the end of its turn was told to the one before. If it
            // works after all, it takes the text when its turn has ended.
            _ if config.capabilities.acknowledges && l.life.startup == Startup::Found => {
                l.life.last_sign.unwrap_or(self.now)
            }
            _ => return,
        };
        if self.w.global.drain.is_some() {
            return;
        }
        // One text at a time.
        if l.life.typed.is_some() || l.life.kept.is_some() {
            return;
        }
        let nudges = l.life.idle_nudges;
        let wait = |nudges: u32| on_idle.after.saturating_mul(1 << nudges.min(10)).min(IDLE_MAX.max(on_idle.after));
        // From the last thing that happened, a thaw or a release included: else every nudge that a freeze or a usage
        // limit kept back would be typed at once when it ends.
        let from = [Some(since), l.life.idle_nudged, l.life.last_sign].into_iter().flatten().map(|at| at.boot).max();
        if !self.due(from.unwrap_or(since.boot).saturating_add(millis(wait(nudges)))) {
            return;
        }
        // A phase that is over has no plan: the text is typed as it is then, and says so by itself.
        let values = self.w.values(name, self.w.phase.filter(|_| config.follows_phases));
        let text = render(&on_idle.nudge, &values).unwrap_or_else(|_| on_idle.nudge.clone());
        let now = self.now;
        if let Some(l) = self.get_mut(name) {
            l.life.idle_nudges = nudges.saturating_add(1);
            l.life.idle_nudged = Some(now);
        }
        self.due(now.plus(wait(nudges.saturating_add(1))).boot);
        self.journal(
            Some(name),
            "nudge",
            &format!("its turn ended {} ago and nothing came since", short_duration(self.now.since(since))),
            json!({ "text": text, "unanswered": nudges }),
            None,
        );
        self.say(name, &text);
    }

    /// The ladder: a look, a second look, a nudge, a restart.
    fn settle_stall(&mut self, name: &LoopName, config: &LoopConfig) {
        let Some(stall_after) = config.stall_after else { return };
        let Some(l) = self.w.loops.get(name) else { return };
        let Stage::Up { since } = &l.stage else { return };
        let last = l.life.last_sign.unwrap_or(*since);
        let patience = match l.life.turn {
            Turn::Unknown | Turn::Busy { .. } => stall_after,
            Turn::Tool { .. } => stall_after.saturating_mul(TOOL_FACTOR),
            // These wait for something, and say for what.
            Turn::Idle { .. } | Turn::Person { .. } | Turn::Overloaded { .. } => return,
        };
        let at = match l.life.stall {
            Stall::None => last.plus(patience).boot,
            Stall::Suspected { at } => at.saturating_add(millis((patience / CONFIRM_SHARE).min(CONFIRM_MAX))),
            Stall::Nudged { at } => at.saturating_add(millis((patience / NUDGED_SHARE).min(NUDGED_MAX))),
        };
        if self.due(at) {
            // Output is no event: it is looked for when it matters. `sampled` takes the next step.
            self.sample(name);
        }
    }

    /// Looks at a loop; asked once however many things want to know. With the epoch of the agent that runs, which is
    /// below the record's when a start was refused because an earlier one had gone through.
    pub(super) fn sample(&mut self, name: &LoopName) {
        let Some(epoch) = self.w.loops.get(name).and_then(|l| l.live_epoch()) else { return };
        let action = Action::Sample(name.clone(), epoch);
        if !self.actions.contains(&action) {
            self.push(action);
        }
    }

    pub(super) fn sampled(
        &mut self,
        name: &LoopName,
        epoch: u64,
        output_at: Option<u64>,
        memory: Option<u64>,
        children_oom_killed: u64,
    ) {
        let now = self.now;
        let Some(config) = self.config(name) else { return };
        let Some(l) = self.get_mut(name) else { return };
        if l.live_epoch() != Some(epoch) || !matches!(l.stage, Stage::Up { .. }) {
            return;
        }
        if let Some(memory) = memory {
            l.life.memory = Some((memory, now));
        } else {
            // Asked for and not to be had: the clock of the next look starts anew all the same.
            l.life.memory = Some((0, now)).filter(|_| config.restart_above.is_some());
        }
        // The terminal echoes a nudge: what comes out right after one shows nothing.
        let echoed = match l.life.stall {
            Stall::Nudged { at } => {
                let answers_within = config.stall_after.map_or(NUDGED_MAX, |d| (d / NUDGED_SHARE).min(NUDGED_MAX));
                at.saturating_add(millis(ECHO.min(answers_within / ECHO_SHARE)))
            }
            Stall::None | Stall::Suspected { .. } => 0,
        };
        let newer = |at: &u64| *at > echoed && l.life.last_sign.is_none_or(|sign| *at > sign.boot);
        if let Some(at) = output_at.filter(newer) {
            let ago = now.boot.saturating_sub(at);
            let wall = now.wall.saturating_sub(i64::try_from(ago).unwrap_or(0));
            l.life.last_sign = Some(crate::support::clock::Now { wall, boot: at.min(now.boot) });
            "output".clone_into(&mut l.life.sign);
            l.life.stall = Stall::None;
        }
        if children_oom_killed > 0 {
            if let Some(agent) = &mut l.record.agent {
                // Saved with it: the next supervisor must not take these for the agent's own death.
                agent.children_oom_killed = agent.children_oom_killed.saturating_add(children_oom_killed);
            }
            let summary = format!("{name}: the kernel killed {children_oom_killed} of its children for memory");
            self.journal(Some(name), "child-oom", &summary, json!({ "children": children_oom_killed }), None);
            self.notify("oom", Some(name), summary, "the agent lives and is left alone".to_owned());
        }
        if let (Some(memory), Some(limit)) = (memory, config.restart_above) {
            self.memory_step(name, memory, limit);
        }
        self.stall_step(name, &config);
    }

    fn memory_step(&mut self, name: &LoopName, memory: u64, limit: u64) {
        let Some(l) = self.get_mut(name) else { return };
        if memory <= limit || l.life.end_after_turn.is_some() {
            return;
        }
        l.life.end_after_turn = Some(StopWhy::Memory);
        self.journal(
            Some(name),
            "planned-restart",
            &format!("it uses {}, restart_above is {}", short_size(memory), short_size(limit)),
            json!({ "memory": memory, "restart_above": limit }),
            Some("restarted when its turn has ended".to_owned()),
        );
    }

    fn stall_step(&mut self, name: &LoopName, config: &LoopConfig) {
        let now = self.now;
        let shut = self.account_shut(name) || self.w.global.frozen.is_some();
        let Some(stall_after) = config.stall_after.filter(|_| !shut) else { return };
        let Some(l) = self.get_mut(name) else { return };
        let (Stage::Up { since }, HostStatus::Ready { .. }) = (&l.stage, &l.host.status) else { return };
        let last = l.life.last_sign.unwrap_or(*since);
        let patience = match l.life.turn {
            Turn::Unknown | Turn::Busy { .. } => stall_after,
            Turn::Tool { .. } => stall_after.saturating_mul(TOOL_FACTOR),
            Turn::Idle { .. } | Turn::Person { .. } | Turn::Overloaded { .. } => return,
        };
        let silent = now.since(last);
        if silent < patience {
            return;
        }
        let evidence = json!({
            "silent": short_duration(silent), "stall_after": short_duration(patience),
            "last_sign": l.life.sign.clone(),
        });
        let confirm = (patience / CONFIRM_SHARE).min(CONFIRM_MAX);
        let nudged = (patience / NUDGED_SHARE).min(NUDGED_MAX);
        match l.life.stall {
            Stall::None => {
                l.life.stall = Stall::Suspected { at: now.boot };
                let next = Some(format!("looked at again after {}", short_duration(confirm)));
                self.journal(Some(name), "stall-suspected", "no sign of life", evidence, next);
                self.read_screen(name);
            }
            Stall::Suspected { at } if now.boot >= at.saturating_add(millis(confirm)) => {
                l.life.stall = Stall::Nudged { at: now.boot };
                let next = Some(format!("restarted if there is none after {}", short_duration(nudged)));
                let why = "still no sign of life at the second look: it is nudged";
                self.journal(Some(name), "nudge", why, evidence, next);
                self.say(name, "Are you still there? Go on, or say what you wait for.");
            }
            Stall::Nudged { at } if now.boot >= at.saturating_add(millis(nudged)) => {
                let summary = format!("{name}: no sign of life for {}, restarted", short_duration(silent));
                self.journal(Some(name), "stall-restart", "no sign of life after a nudge either", evidence, None);
                self.notify("stall", Some(name), summary, format!("see `supervisor logs {name}`"));
                self.end(name, StopWhy::Stall);
            }
            Stall::Suspected { .. } | Stall::Nudged { .. } => {}
        }
    }
}

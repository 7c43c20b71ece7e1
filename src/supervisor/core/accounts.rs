//! Usage limits and login, which all loops of an account share: hold all, try one, then the rest.

use super::Draft;
use super::stage::{Stage, StageKind, StopWhy};
use super::world::{Turn, Wish};
use crate::supervisor::names::{AccountName, LoopName};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeSet;
use std::time::Duration;

/// Nothing believes in a reset further away than the longest window there is (seven days, and some slack for zones).
const LIMIT_MAX: Duration = Duration::from_secs(8 * 24 * 3600);
/// The first probe of a limit whose reset nobody told, and of a lost login.
const PROBE_MIN: Duration = Duration::from_secs(300);
/// Probes double up to this.
const PROBE_MAX: Duration = Duration::from_secs(3600);
/// Loops that wait for one reset come back spread over this, so that they do not meet the server in step.
const RELEASE_JITTER: Duration = Duration::from_secs(30);
/// A loop that is tried has this long to show a good turn.
const TRIAL_PATIENCE: Duration = Duration::from_secs(300);

/// A living agent may go on by itself at the reset: for this long it is left alone before it is told to.
const BY_ITSELF: Duration = Duration::from_secs(10);
/// What an agent is told after a limit.
pub(super) const LIMIT_OVER: &str = "The usage limit has reset. Go on where you were.";

/// What is known of an account that is not simply open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// What is wrong with it.
    pub fault: Fault,
    /// Since when, in milliseconds since the Unix epoch.
    since: i64,
    /// What told, as it told.
    pub evidence: String,
    /// Which loop told.
    pub told_by: LoopName,
    /// The next try, in milliseconds since the Unix epoch.
    pub release_at: i64,
    /// Tries that failed in a row.
    pub tries: u32,
    /// The loop that is being tried.
    #[serde(default)]
    pub trial: Option<Trial>,
    /// The reset as the used-up window told it, in milliseconds since the Unix epoch.
    #[serde(default)]
    pub exact: Option<i64>,
    /// The loops that were tried well since the release.
    #[serde(default)]
    pub released: BTreeSet<LoopName>,
}

/// What is wrong with an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// Its usage limit is reached.
    Limit,
    /// It is not logged in.
    Login,
}

/// A loop that is being tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// Which.
    pub candidate: LoopName,
    /// Given up then, in milliseconds since the Unix epoch.
    pub until: i64,
}

/// What an account means for one of its loops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gatekeeping {
    /// Nothing.
    Free,
    /// Held until then.
    Limit {
        /// Milliseconds since the Unix epoch.
        until: i64,
    },
    /// Held; tried then.
    Login {
        /// Milliseconds since the Unix epoch.
        retry: i64,
    },
    /// Held while another one is tried.
    Trial {
        /// Which.
        candidate: LoopName,
    },
}

impl Account {
    /// What it means for this loop.
    pub fn holds(&self, name: &LoopName) -> Gatekeeping {
        match &self.trial {
            _ if self.released.contains(name) => Gatekeeping::Free,
            Some(trial) if trial.candidate == *name => Gatekeeping::Free,
            Some(trial) => Gatekeeping::Trial { candidate: trial.candidate.clone() },
            None => match self.fault {
                Fault::Limit => Gatekeeping::Limit { until: self.release_at },
                Fault::Login => Gatekeeping::Login { retry: self.release_at },
            },
        }
    }

    /// Since when it is not open, in milliseconds since the Unix epoch.
    pub fn since(&self) -> i64 {
        self.since
    }
}

fn after_reset(at: i64) -> i64 {
    at.saturating_add(i64::try_from(crate::support::clock::millis(BY_ITSELF)).unwrap_or(0))
}

impl Draft<'_> {
    /// A window of a limited account tells its reset itself: better than what the refusal's text said.
    pub(super) fn account_reset_known(&mut self, name: &LoopName, resets_at: i64) {
        let now = self.now;
        let Some(account) = self.config(name).map(|c| c.account.clone()) else { return };
        let mut rng = self.rng(account.as_str());
        let jitter = i64::try_from(rng.u64(0..=crate::support::clock::millis(RELEASE_JITTER))).unwrap_or(0);
        let Some(state) = self.w.global.accounts.get_mut(&account) else { return };
        let believed = resets_at > now.wall && resets_at <= now.plus(LIMIT_MAX).wall;
        // Of several windows the latest counts.
        let newer = state.exact.is_none_or(|known| resets_at > known);
        if state.fault != Fault::Limit || state.trial.is_some() || !believed || !newer {
            return;
        }
        state.exact = Some(resets_at);
        state.release_at = after_reset(resets_at).saturating_add(jitter);
        let next = format!("one loop is tried at {}", crate::support::clock::format_time(state.release_at));
        let what = format!("the window of account {account} that is used up tells its reset");
        self.journal(Some(name), "hold", &what, json!({ "resets_at": resets_at }), Some(next));
    }

    /// A loop met its account's fault.
    pub(super) fn account_fault(&mut self, name: &LoopName, fault: Fault, resets_at: Option<i64>, evidence: &str) {
        let now = self.now;
        let Some(account) = self.config(name).map(|c| c.account.clone()) else { return };
        let mut rng = self.rng(account.as_str());
        let before = self.w.global.accounts.get(&account);
        let known = before.filter(|a| a.fault == fault);
        // Several windows may be rejected at once: the latest reset counts, unless a trial has just proved it wrong.
        let again = known.is_some_and(|a| a.trial.is_none());
        let tries = match known {
            Some(a) if again => a.tries,
            Some(a) => a.tries.saturating_add(1),
            None => 0,
        };
        let probe = PROBE_MAX.min(PROBE_MIN.saturating_mul(1 << tries.min(8)));
        let jitter = i64::try_from(rng.u64(0..=crate::support::clock::millis(RELEASE_JITTER))).unwrap_or(0);
        let latest = now.plus(LIMIT_MAX).wall;
        let release_at = match resets_at.filter(|at| *at > now.wall && *at <= latest) {
            Some(at) => after_reset(at).saturating_add(jitter),
            None => now.plus(probe).wall,
        };
        let release_at = known.filter(|_| again).map_or(release_at, |a| release_at.max(a.release_at));
        let since = known.map_or(now.wall, |a| a.since);
        let exact = known.filter(|_| again).and_then(|a| a.exact);
        let first = known.is_none();
        if known.is_some_and(|a| again && a.release_at == release_at) {
            return;
        }
        self.w.global.accounts.insert(
            account.clone(),
            Account {
                fault,
                since,
                evidence: evidence.to_owned(),
                told_by: name.clone(),
                release_at,
                tries,
                exact,
                trial: None,
                released: BTreeSet::new(),
            },
        );
        let (decision, what) = match fault {
            Fault::Limit => ("hold", format!("usage limit of account {account}: every loop of it is held")),
            Fault::Login => ("hold", format!("account {account} is not logged in: every loop of it is held")),
        };
        let next = format!("one loop is tried at {}", crate::support::clock::format_time(release_at));
        let evidence = json!({ "evidence": evidence, "resets_at": resets_at, "release_at": release_at });
        self.journal(Some(name), decision, &what, evidence, Some(next.clone()));
        if first {
            match fault {
                Fault::Limit => self.notify("usage-limit", Some(name), what, next),
                Fault::Login => {
                    let mend = format!(
                        "log in (`supervisor attach {name}`, or put a new token into its env file), then \
                         `supervisor start --all`; else {next}"
                    );
                    self.notify("login", Some(name), what, mend);
                }
            }
        }
    }

    /// The server answered a loop: its account works.
    pub(super) fn account_good(&mut self, name: &LoopName) {
        let Some(account) = self.config(name).map(|c| c.account.clone()) else { return };
        let Some(state) = self.w.global.accounts.get_mut(&account) else { return };
        let tried = state.trial.as_ref().is_some_and(|trial| trial.candidate == *name);
        if !tried && state.trial.is_some() {
            state.released.insert(name.clone());
            return;
        }
        // The loop that met the fault went on by itself: it is over. Another one's turn may be older than the fault, or
        // use another login or model: believed, its every tool call would set the refused loop going again.
        if !tried && state.told_by != *name {
            return;
        }
        state.released.insert(name.clone());
        state.trial = None;
        let fault = state.fault;
        if fault == Fault::Login || self.next_candidate(&account).is_none() {
            self.open_account(&account, "a good turn");
        } else {
            self.journal(
                Some(name),
                "account-trial",
                &format!("account {account} answered {name}: the next loop is released"),
                json!({}),
                None,
            );
            self.try_next(&account);
        }
    }

    fn open_account(&mut self, account: &AccountName, why: &str) {
        let Some(state) = self.w.global.accounts.remove(account) else { return };
        self.journal(
            None,
            "account-open",
            &format!("account {account} can be used again ({why}): its loops are released"),
            json!({ "account": account }),
            None,
        );
        self.notify("account-open", None, format!("account {account} can be used again"), why.to_owned());
        for name in self.loops_of(account) {
            if state.released.contains(&name) {
                continue;
            }
            match state.fault {
                // These still have the old token in their environment.
                Fault::Login => self.end(&name, StopWhy::Login),
                Fault::Limit => self.go_on(&name, LIMIT_OVER),
            }
        }
    }

    fn loops_of(&self, account: &AccountName) -> Vec<LoopName> {
        self.w.config.loops.iter().filter(|(_, c)| c.account == *account).map(|(n, _)| n.clone()).collect()
    }

    /// Lets an agent that lives through the fault go on.
    fn go_on(&mut self, name: &LoopName, text: &str) {
        let now = self.now;
        let Some(l) = self.get_mut(name) else { return };
        if !matches!(l.stage, Stage::Up { .. }) {
            return;
        }
        // The stall clock starts anew: it stood still while the account was shut.
        l.life.last_sign = Some(now);
        l.life.stall = super::world::Stall::None;
        // Nothing is known of the turn of one that was found running, but for a refusal that is written down.
        let refused = l.life.startup == super::world::Startup::Found && l.record.go_on.is_some();
        if refused || matches!(l.life.turn, Turn::Idle { .. } | Turn::Overloaded { .. } | Turn::Person { .. }) {
            self.say(name, text);
        }
    }

    /// The next loop to try: one that wants to run and was not tried since the release.
    fn next_candidate(&self, account: &AccountName) -> Option<LoopName> {
        let state = self.w.global.accounts.get(account)?;
        self.loops_of(account).into_iter().find(|name| {
            let wanted = self.w.loops.get(name).is_some_and(|l| {
                l.record.wish == Wish::Run && l.record.drained.is_none() && l.record.budget.crash_loop().is_none()
            });
            let over = self.w.complete() && self.w.config.loops.get(name).is_some_and(|c| c.follows_phases);
            wanted && !over && !state.released.contains(name)
        })
    }

    fn try_next(&mut self, account: &AccountName) {
        let now = self.now;
        let Some(candidate) = self.next_candidate(account) else {
            self.open_account(account, "no loop of it is left to be tried");
            return;
        };
        let until = now.plus(TRIAL_PATIENCE).wall;
        let Some(state) = self.w.global.accounts.get_mut(account) else { return };
        state.trial = Some(Trial { candidate: candidate.clone(), until });
        let fault = state.fault;
        self.journal(
            Some(&candidate),
            "account-trial",
            &format!("account {account} is tried with {candidate}"),
            json!({ "account": account, "fault": fault }),
            Some("a good turn releases the others; a new refusal holds all again".to_owned()),
        );
        let up = self.w.loops.get(&candidate).is_some_and(|l| l.stage.kind() == StageKind::Up);
        if up && fault == Fault::Login {
            // It still has the old token in its environment.
            self.end(&candidate, StopWhy::Login);
        } else if up {
            if let Some(l) = self.get_mut(&candidate) {
                // A trial is decided by a turn, so there must be one.
                l.record.go_on.get_or_insert_with(|| LIMIT_OVER.to_owned());
            }
            self.go_on(&candidate, LIMIT_OVER);
        }
    }

    pub(super) fn settle_accounts(&mut self) {
        if self.w.global.frozen.is_some() {
            return;
        }
        let accounts: Vec<AccountName> = self.w.global.accounts.keys().cloned().collect();
        for account in accounts {
            let Some(state) = self.w.global.accounts.get(&account).cloned() else { continue };
            match state.trial {
                None => {
                    if self.due_wall(state.release_at) {
                        self.try_next(&account);
                        self.due_wall(self.now.plus(TRIAL_PATIENCE).wall);
                    }
                }
                Some(trial) => {
                    if self.due_wall(trial.until) {
                        self.trial_over(&account, &trial.candidate);
                    }
                }
            }
        }
    }

    /// Time is up and no turn told anything. An agent that runs was at least not refused (kinds that tell nothing of
    /// their turns end here); one that did not even start cannot be the one to wait for.
    fn trial_over(&mut self, account: &AccountName, candidate: &LoopName) {
        let runs = self.w.loops.get(candidate).is_some_and(|l| l.stage.kind() == StageKind::Up);
        if let Some(state) = self.w.global.accounts.get_mut(account) {
            state.released.insert(candidate.clone());
            state.trial = None;
        }
        let why = if runs {
            format!("{candidate} ran for a while and was not refused")
        } else {
            format!("{candidate} did not come up; another loop is tried")
        };
        self.journal(Some(candidate), "account-trial", &why, json!({ "account": account }), None);
        if self.next_candidate(account).is_some() {
            self.try_next(account);
            self.due_wall(self.now.plus(TRIAL_PATIENCE).wall);
        } else {
            self.open_account(account, &why);
        }
    }

    /// The operator says that it can be tried now.
    pub(super) fn try_account_now(&mut self, name: &LoopName) {
        let now = self.now;
        let Some(account) = self.config(name).map(|c| c.account.clone()) else { return };
        if let Some(state) = self.w.global.accounts.get_mut(&account) {
            if state.trial.is_none() {
                state.release_at = now.wall;
            }
        }
    }

    /// Whether a loop's account keeps it from being spoken to or judged by its silence.
    /// Whether a loop is the one that its account is tried with.
    pub(super) fn on_trial(&self, name: &LoopName) -> bool {
        let account = self.w.get(name).and_then(|(_, config)| self.w.account(config));
        account.and_then(|account| account.trial.as_ref()).is_some_and(|trial| trial.candidate == *name)
    }

    pub(super) fn account_shut(&self, name: &LoopName) -> bool {
        let Some((_, config)) = self.w.get(name) else { return false };
        self.w.account(config).is_some_and(|account| account.holds(name) != Gatekeeping::Free)
    }
}

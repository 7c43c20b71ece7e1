//! How soon a dead agent may be started again: backoff, crash-loop hold, half-open retries.

use crate::supervisor::config::CrashLoop;
use crate::support::clock::{Now, millis};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// So many deaths in a row are followed by a start at once. Two: what kills an agent (a person, memory, a test of a
/// machine's owner) often hits the next one as it comes up, which proves nothing about the program yet.
pub const FREE_RESTARTS: u32 = 2;
/// The first delay after the immediate restarts: long enough that a program that dies at its first line does not burn
/// the machine, short enough that nobody waits for it.
pub const BACKOFF_MIN: Duration = Duration::from_secs(1);
/// The longest delay: an outage that lasts hours costs at most this much after its end.
pub const BACKOFF_MAX: Duration = Duration::from_secs(600);
/// The first half-open retry comes after this share of the crash-loop window (5 min of 15): later than any backoff that
/// led there, soon enough that a fault that passed is not waited out for hours.
const RETRY_SHARE: u32 = 3;
/// Half-open retries double up to this many windows (1 h for 15 min), and go on for ever at that interval.
const RETRY_MAX_WINDOWS: u32 = 4;

/// The deaths of one loop in this boot, and what they allow.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RestartBudget {
    /// When the deaths of the window were, in milliseconds since boot.
    deaths: Vec<u64>,
    /// Deaths in a row without an agent that proved itself in between.
    streak: u32,
    /// No start before this, in milliseconds since boot.
    not_before: u64,
    /// The crash-loop hold, also while a half-open retry runs.
    crash_loop: Option<CrashHold>,
}

/// A crash-loop hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrashHold {
    /// Since when.
    pub since: Now,
    /// How many half-open retries died.
    pub retries: u32,
    /// When the next one is, in milliseconds since boot.
    pub retry_at: u64,
}

/// What a death leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// One of the first: start again at once.
    AtOnce,
    /// Start again after this long.
    After(Duration),
    /// Too many: the hold begins, and this is when it tries again.
    CrashLoop {
        /// How long until then.
        retry_in: Duration,
    },
    /// A half-open retry died: the hold goes on.
    StillCrashLoop {
        /// How long until the next.
        retry_in: Duration,
    },
}

impl RestartBudget {
    /// Counts a death. `rng` gives the jitter.
    pub fn death(&mut self, now: Now, policy: CrashLoop, rng: &mut fastrand::Rng) -> Verdict {
        let window = millis(policy.within);
        self.deaths.retain(|at| now.boot.saturating_sub(*at) < window);
        self.deaths.push(now.boot);
        let streak = self.streak;
        self.streak = streak.saturating_add(1);
        if let Some(hold) = &mut self.crash_loop {
            hold.retries = hold.retries.saturating_add(1);
            let retry_in = retry_interval(policy, hold.retries, rng);
            hold.retry_at = now.boot.saturating_add(millis(retry_in));
            return Verdict::StillCrashLoop { retry_in };
        }
        if self.deaths.len() >= policy.deaths as usize {
            let retry_in = retry_interval(policy, 0, rng);
            let retry_at = now.boot.saturating_add(millis(retry_in));
            self.crash_loop = Some(CrashHold { since: now, retries: 0, retry_at });
            return Verdict::CrashLoop { retry_in };
        }
        let Some(n) = streak.checked_sub(FREE_RESTARTS) else {
            self.not_before = 0;
            return Verdict::AtOnce;
        };
        let delay = backoff(n, rng);
        self.not_before = now.boot.saturating_add(millis(delay));
        Verdict::After(delay)
    }

    /// The agent ran long enough to have proved itself, or the operator wants a clean slate. Says whether that ended a
    /// crash-loop hold.
    pub fn reset(&mut self) -> Option<CrashHold> {
        std::mem::take(self).crash_loop
    }

    /// Whether there is anything to reset.
    pub fn is_clean(&self) -> bool {
        *self == Self::default()
    }

    /// The crash-loop hold, if there is one; a start is allowed from its `retry_at` on.
    pub fn crash_loop(&self) -> Option<CrashHold> {
        self.crash_loop
    }

    /// No start before this, in milliseconds since boot.
    pub fn not_before(&self) -> u64 {
        self.crash_loop.map_or(self.not_before, |hold| hold.retry_at)
    }

    /// Deaths that still count.
    pub fn deaths(&self) -> usize {
        self.deaths.len()
    }

    /// Whether the next death would be restarted at once.
    pub fn next_is_free(&self) -> bool {
        self.streak < FREE_RESTARTS
    }
}

/// The delay of the `n`th backoff: uniform between 2^n and 2^(n+1) seconds, within the bounds. Full-range jitter keeps
/// loops that died of one cause from coming back in step.
fn backoff(n: u32, rng: &mut fastrand::Rng) -> Duration {
    let low = millis(BACKOFF_MIN).saturating_mul(1 << n.min(20)).min(millis(BACKOFF_MAX) / 2);
    let high = low.saturating_mul(2).min(millis(BACKOFF_MAX));
    Duration::from_millis(rng.u64(low..=high))
}

/// The interval before half-open retry number `retries`, with up to a tenth of jitter.
fn retry_interval(policy: CrashLoop, retries: u32, rng: &mut fastrand::Rng) -> Duration {
    let first = (policy.within / RETRY_SHARE).max(BACKOFF_MIN);
    let longest = policy.within.saturating_mul(RETRY_MAX_WINDOWS).max(first);
    let base = first.saturating_mul(1 << retries.min(16)).min(longest);
    base + Duration::from_millis(rng.u64(0..=millis(base) / 10))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const POLICY: CrashLoop = CrashLoop { deaths: 5, within: Duration::from_secs(900) };

    fn at(boot: u64) -> Now {
        Now { wall: 0, boot }
    }

    #[test]
    fn the_first_two_deaths_are_restarted_at_once_and_the_fifth_is_a_crash_loop() {
        let mut budget = RestartBudget::default();
        let mut rng = fastrand::Rng::with_seed(1);
        assert_eq!(budget.death(at(1000), POLICY, &mut rng), Verdict::AtOnce);
        assert_eq!(budget.death(at(1001), POLICY, &mut rng), Verdict::AtOnce);
        for n in 3..5 {
            assert!(matches!(budget.death(at(1000 * n), POLICY, &mut rng), Verdict::After(_)), "death {n}");
        }
        assert!(matches!(budget.death(at(5000), POLICY, &mut rng), Verdict::CrashLoop { .. }));
    }

    #[test]
    fn deaths_outside_the_window_do_not_count() {
        let mut budget = RestartBudget::default();
        let mut rng = fastrand::Rng::with_seed(1);
        for n in 0..20 {
            let verdict = budget.death(at(n * 300_000), POLICY, &mut rng);
            assert!(!matches!(verdict, Verdict::CrashLoop { .. }), "death {n}: {verdict:?}");
        }
    }

    #[test]
    fn half_open_retries_grow_and_never_stop() {
        let mut budget = RestartBudget::default();
        let mut rng = fastrand::Rng::with_seed(1);
        let mut now = 0;
        let mut last = Duration::ZERO;
        for n in 0..40 {
            match budget.death(at(now), POLICY, &mut rng) {
                Verdict::StillCrashLoop { retry_in } => {
                    assert!(retry_in >= last.mul_f64(0.9), "retry {n} came sooner than the one before");
                    assert!(retry_in <= Duration::from_secs(3960), "retry {n} after {retry_in:?}");
                    last = retry_in;
                    now += millis(retry_in);
                }
                _ => now += 1,
            }
        }
        assert!(last >= Duration::from_secs(3600));
    }

    #[test]
    fn an_agent_that_proved_itself_starts_anew() {
        let mut budget = RestartBudget::default();
        let mut rng = fastrand::Rng::with_seed(1);
        for n in 0..5 {
            budget.death(at(n), POLICY, &mut rng);
        }
        assert!(budget.reset().is_some());
        assert!(budget.is_clean());
        assert_eq!(budget.death(at(9), POLICY, &mut rng), Verdict::AtOnce);
    }

    proptest! {
        #[test]
        fn backoff_stays_in_its_bounds(seed: u64, gaps in prop::collection::vec(0u64..2_000_000, 1..60), deaths in 2u32..100) {
            let mut budget = RestartBudget::default();
            let mut rng = fastrand::Rng::with_seed(seed);
            let policy = CrashLoop { deaths, within: Duration::from_secs(900) };
            let mut now = 0;
            for gap in gaps {
                now += gap;
                if let Verdict::After(d) = budget.death(at(now), policy, &mut rng) {
                    prop_assert!(d >= BACKOFF_MIN && d <= BACKOFF_MAX, "{d:?}");
                    prop_assert_eq!(budget.not_before(), now + millis(d));
                }
            }
        }
    }
}

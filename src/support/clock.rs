//! The two clocks that decisions use, read in one place so that the deciding code never reads one.

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A moment on both clocks.
///
/// `boot` (CLOCK_BOOTTIME) orders and times everything within one boot, since nobody can set it; it means nothing
/// after a reboot. `wall` (CLOCK_REALTIME) is what a person reads and what a usage limit's reset time is given in; it
/// can jump, so nothing within one boot is timed by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Now {
    /// Milliseconds since the Unix epoch.
    pub wall: i64,
    /// Milliseconds since boot, suspend included.
    pub boot: u64,
}

impl Now {
    /// Reads both clocks.
    pub fn read() -> Self {
        let real = clock_gettime(ClockId::Realtime);
        let boot = clock_gettime(ClockId::Boottime);
        Self {
            wall: real.tv_sec * 1000 + real.tv_nsec / 1_000_000,
            // CLOCK_BOOTTIME starts at 0 and never goes back, so neither part is negative.
            boot: boot.tv_sec.unsigned_abs() * 1000 + boot.tv_nsec.unsigned_abs() / 1_000_000,
        }
    }

    /// This moment and `d` more, on both clocks.
    #[must_use]
    pub fn plus(self, d: Duration) -> Self {
        Self {
            wall: self.wall.saturating_add(i64::try_from(d.as_millis()).unwrap_or(i64::MAX)),
            boot: self.boot.saturating_add(millis(d)),
        }
    }

    /// How long before `self` the moment `earlier` of the same boot was; zero if it was not.
    pub fn since(self, earlier: Now) -> Duration {
        Duration::from_millis(self.boot.saturating_sub(earlier.boot))
    }
}

/// A duration in whole milliseconds, capped instead of wrapped.
pub fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

/// A moment in milliseconds since the Unix epoch, for a person: `2026-11-22 15:43:21Z`. UTC, since the text is made by
/// deciding code, which must not depend on the machine's zone, and is read next to the journal, which is in UTC too.
pub fn format_time(wall: i64) -> String {
    match jiff::Timestamp::from_millisecond(wall) {
        Ok(at) => at.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
        Err(_) => format!("{wall} ms"),
    }
}

/// Reads a moment as files have it, `2026-11-22T15:43:21.123Z`, as milliseconds since the Unix epoch; `None` for anything
/// else.
pub fn parse_time(text: &str) -> Option<i64> {
    text.parse::<jiff::Timestamp>().ok().map(|at| at.as_millisecond())
}

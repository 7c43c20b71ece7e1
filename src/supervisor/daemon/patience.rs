//! How long a tmux call is waited for: the deadline is for a server that could have answered. On a machine that is short
//! of processors or swaps, a healthy one takes seconds, and must not be killed as hung, its agent with it.

use super::tasks::TMUX_DEADLINE_MS;
use crate::support::process::usage::{Doing, Usage, usage};

/// After so long no answer is an answer, whatever the machine is busy with: a server that spins without end uses its
/// processor too.
const LONGEST_MS: u64 = 30_000;

/// A tmux call as it began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    /// Milliseconds since boot.
    at: u64,
    /// The server's pid and what it had used by then; `None` while it is not known.
    server: Option<(i32, Usage)>,
}

impl Asked {
    pub(super) fn new(at: u64, server: Option<i32>) -> Self {
        // What cannot be read tells nothing, and then the deadline holds.
        let used = |pid| usage(pid).ok().map(|used| (pid, used));
        Self { at, server: server.and_then(used) }
    }

    /// The new deadline of a call that is overdue at `now` and may still be answered. `client` is its pid.
    pub(super) fn more_time(&self, client: i32, now: u64) -> Option<u64> {
        let last = self.at.saturating_add(LONGEST_MS);
        let used = |pid| usage(pid).unwrap_or_default();
        let (then, server) = match self.server {
            Some((pid, then)) => (then, used(pid)),
            None => Default::default(),
        };
        let starved = is_starved(used(client), then, server, now.saturating_sub(self.at));
        (starved && now < last).then(|| now.saturating_add(TMUX_DEADLINE_MS).min(last))
    }
}

/// Whether the client or the server is at work, or was kept waiting for a processor for a quarter of `elapsed`
/// milliseconds, or the server did something since `then`: one that hangs does nothing.
fn is_starved(client: Usage, then: Usage, server: Usage, elapsed: u64) -> bool {
    let busy = [client.now, server.now].contains(&Doing::Something);
    let waited = client.waited.saturating_add(server.waited.saturating_sub(then.waited));
    busy || server.ran > then.ran || waited / 1_000_000 >= elapsed / 4
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Usage = Usage { ran: 500, waited: 500, now: Doing::Nothing };

    #[test]
    fn a_server_that_did_nothing_while_nobody_kept_it_from_it_hangs() {
        let client = Usage { ran: 2_000_000, waited: 400_000, now: Doing::Nothing };
        assert!(!is_starved(client, IDLE, IDLE, 2_000));
    }

    #[test]
    fn one_that_waits_for_a_processor_or_did_something_does_not_hang() {
        let waited = Usage { waited: IDLE.waited + 600_000_000, ..IDLE };
        let ran = Usage { ran: IDLE.ran + 1, ..IDLE };
        let busy = Usage { now: Doing::Something, ..IDLE };
        for server in [waited, ran, busy] {
            assert!(is_starved(IDLE, IDLE, server, 2_000), "{server:?}");
        }
    }

    #[test]
    fn a_client_that_had_no_processor_says_nothing_of_the_server() {
        for client in [Usage { waited: 600_000_000, ..IDLE }, Usage { now: Doing::Something, ..IDLE }] {
            assert!(is_starved(client, IDLE, IDLE, 2_000), "{client:?}");
        }
    }

    #[test]
    fn after_half_a_minute_nothing_is_waited_for() {
        // Ourselves: at work.
        let me = i32::try_from(std::process::id()).unwrap();
        let busy = Asked { at: 0, server: Some((me, Usage::default())) };
        assert_eq!(busy.more_time(me, 2_000), Some(2_000 + TMUX_DEADLINE_MS));
        assert_eq!(busy.more_time(me, LONGEST_MS - 1), Some(LONGEST_MS));
        assert_eq!(busy.more_time(me, LONGEST_MS), None);
    }
}

//! Whether the network behind the way out is there, by what the probes found last, and so what a refusal of the way out
//! means: the one destination is away, or all of them are. Pure.

use super::socks::Code;
use std::time::Instant;

/// What the probes found last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Network {
    /// When one passed last.
    passed: Option<Instant>,
    /// When a round ended last of which none passed.
    failed: Option<Instant>,
}

/// What a refusal by the way out means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// The network is there: it is about the destination.
    Destination,
    /// No probe passes: the network is away.
    Away,
    /// It was away when that was asked, and is back: to be asked again.
    Back,
    /// Not known before the next probe.
    Unknown,
}

impl Network {
    /// A probe passed.
    pub fn passed(&mut self, at: Instant) {
        self.passed = Some(at);
    }

    /// A round has ended, and none passed.
    pub fn failed(&mut self, at: Instant) {
        self.failed = Some(at);
    }

    /// What the refusal means that was asked for at `began` and came at `ended`.
    pub fn meaning(&self, began: Instant, ended: Instant) -> Meaning {
        if self.failed > self.passed {
            return Meaning::Away;
        }
        if self.failed >= Some(began) {
            return Meaning::Back;
        }
        // One that passed before says nothing: the network may have been cut since.
        if self.passed >= Some(ended) { Meaning::Destination } else { Meaning::Unknown }
    }
}

/// Whether that refusal is what a way out says when its network is away. tailscaled says 1 of everything that it cannot
/// reach within five seconds (net/socks5/socks5.go); others are more exact.
pub fn may_be_away(code: Code) -> bool {
    matches!(code, Code::Failed | Code::NetworkUnreachable | Code::HostUnreachable | Code::TimedOut)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_refusal_is_the_destinations_only_if_a_probe_passed_after_it_and_the_network_was_there_all_the_time() {
        let zero = Instant::now();
        let at = |seconds: u64| zero + Duration::from_secs(seconds);
        // Passed, failed; asked, answered.
        for (passed, failed, began, ended, meaning) in [
            (None, None, 10, 10, Meaning::Unknown),
            (None, Some(5), 10, 10, Meaning::Away),
            (Some(5), None, 10, 10, Meaning::Unknown),
            (Some(11), None, 10, 12, Meaning::Unknown),
            (Some(12), None, 10, 11, Meaning::Destination),
            (Some(12), Some(9), 10, 11, Meaning::Destination),
            (Some(9), Some(8), 10, 10, Meaning::Unknown),
            (Some(9), Some(12), 10, 10, Meaning::Away),
            (Some(12), Some(11), 10, 10, Meaning::Back),
            (Some(12), Some(10), 10, 12, Meaning::Back),
        ] {
            let mut network = Network::default();
            passed.into_iter().for_each(|second| network.passed(at(second)));
            failed.into_iter().for_each(|second| network.failed(at(second)));
            assert_eq!(network.meaning(at(began), at(ended)), meaning, "{passed:?} {failed:?} {began} {ended}");
        }
    }

    #[test]
    fn what_a_host_says_itself_is_never_the_networks() {
        let away = [Code::Failed, Code::NetworkUnreachable, Code::HostUnreachable, Code::TimedOut];
        for code in (0..=255).map(Code::from_byte) {
            assert_eq!(may_be_away(code), away.contains(&code), "{code:?}");
        }
    }
}

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
    /// When one passed for the first time after such a round.
    back: Option<Instant>,
}

/// What a refusal by the way out means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// The network is there: it is about the destination.
    Destination,
    /// No probe passes: the network is away.
    Away,
    /// It was away when that was asked or after, and is back: to be asked again.
    Back,
    /// Not known before the next probe.
    Unknown,
}

impl Network {
    /// A probe passed.
    pub fn passed(&mut self, at: Instant) {
        if self.failed > self.passed {
            self.back = Some(at);
        }
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
        // The round that failed last may have ended before it began: until it was back, the network was away all the same.
        if self.failed >= Some(began) || self.back >= Some(began) {
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
        type Found = (bool, u64);
        let (passed, failed) = (true, false);
        // What the probes found, and when; asked, answered.
        let cases: [(&[Found], u64, u64, Meaning); 14] = [
            (&[], 10, 10, Meaning::Unknown),
            (&[(failed, 5)], 10, 10, Meaning::Away),
            (&[(passed, 5)], 10, 10, Meaning::Unknown),
            (&[(passed, 11)], 10, 12, Meaning::Unknown),
            (&[(passed, 12)], 10, 11, Meaning::Destination),
            (&[(failed, 8), (passed, 9)], 10, 10, Meaning::Unknown),
            (&[(failed, 8), (passed, 9), (passed, 12)], 10, 11, Meaning::Destination),
            (&[(passed, 9), (failed, 12)], 10, 10, Meaning::Away),
            (&[(failed, 11), (passed, 12)], 10, 10, Meaning::Back),
            (&[(failed, 10), (passed, 12)], 10, 12, Meaning::Back),
            // It began after the round that failed, and before the one that passed.
            (&[(failed, 9), (passed, 12)], 10, 11, Meaning::Back),
            (&[(failed, 9), (passed, 11)], 10, 13, Meaning::Back),
            (&[(failed, 9), (passed, 11), (passed, 14)], 10, 13, Meaning::Back),
            (&[(failed, 9), (passed, 10), (passed, 14)], 10, 13, Meaning::Back),
        ];
        for (found, began, ended, meaning) in cases {
            let mut network = Network::default();
            for (passed, second) in found {
                if *passed { network.passed(at(*second)) } else { network.failed(at(*second)) }
            }
            assert_eq!(network.meaning(at(began), at(ended)), meaning, "{found:?} {began} {ended}");
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

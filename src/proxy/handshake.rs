//! What a client says first, whichever of the two protocols it speaks: bytes in, what to do next out. Pure.

use super::http;
use super::socks::{self, Code, Fault, Parse};
use super::target::Target;

/// A client that has not yet said where it wants to go.
#[derive(Debug, Default)]
pub struct Handshake {
    bytes: Vec<u8>,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Stage {
    #[default]
    First,
    Socks,
    Over,
}

/// What the client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// SOCKS5.
    Socks5,
    /// HTTP CONNECT.
    Http,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Read more.
    Read,
    /// Send this, then ask again.
    Write(&'static [u8]),
    /// Connect to this. `early` is what the client sent for the destination already.
    Open {
        /// Where to.
        target: Target,
        /// How to answer.
        protocol: Protocol,
        /// To be sent first.
        early: Vec<u8>,
    },
    /// Send this, which may be nothing, and end the connection.
    Refuse {
        /// The last bytes for the client.
        answer: Vec<u8>,
        /// For the log.
        fault: Fault,
    },
}

impl Handshake {
    /// Takes what the client sent.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Whether the client is in the middle of nothing, so that it may leave: a check of the port greets and goes.
    pub fn is_between_messages(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What to do next, with all that came so far. After [`Next::Open`] and [`Next::Refuse`] there is nothing more.
    pub fn advance(&mut self) -> Next {
        match (self.stage, self.bytes.first()) {
            (Stage::Over, _) | (_, None) => Next::Read,
            (Stage::First, Some(&socks::VERSION)) => match socks::greeting(&self.bytes) {
                Parse::More(_) => Next::Read,
                Parse::Done((), used) => {
                    self.bytes.drain(..used);
                    self.stage = Stage::Socks;
                    Next::Write(&[socks::VERSION, socks::NO_LOGIN])
                }
                Parse::Bad(fault) => self.refuse(vec![socks::VERSION, socks::NONE_ACCEPTABLE], fault),
            },
            // "Request rejected" in SOCKS4, so that its clients say something better than "connection closed".
            (Stage::First, Some(4)) => self.refuse(vec![0, 0x5b, 0, 0, 0, 0, 0, 0], Fault::Socks4),
            (Stage::First, Some(b'A'..=b'Z')) => {
                let parsed = http::request(&self.bytes);
                self.opened(parsed, Protocol::Http)
            }
            (Stage::First, Some(&other)) => self.refuse(Vec::new(), Fault::Unknown(other)),
            (Stage::Socks, _) => {
                let parsed = socks::request(&self.bytes);
                self.opened(parsed, Protocol::Socks5)
            }
        }
    }

    fn opened(&mut self, parsed: Parse<Target>, protocol: Protocol) -> Next {
        match parsed {
            Parse::More(_) => Next::Read,
            Parse::Done(target, used) => {
                self.stage = Stage::Over;
                let mut early = std::mem::take(&mut self.bytes);
                early.drain(..used);
                Next::Open { target, protocol, early }
            }
            Parse::Bad(fault) => {
                let answer = match protocol {
                    Protocol::Http => http::refusal(fault),
                    Protocol::Socks5 => socks::write_reply(code_of(fault), &fault.to_string()),
                };
                self.refuse(answer, fault)
            }
        }
    }

    fn refuse(&mut self, answer: Vec<u8>, fault: Fault) -> Next {
        self.stage = Stage::Over;
        self.bytes = Vec::new();
        Next::Refuse { answer, fault }
    }
}

fn code_of(fault: Fault) -> Code {
    match fault {
        Fault::Command(_) => Code::CommandNotSupported,
        Fault::AddressType(_) => Code::AddressNotSupported,
        Fault::Name => Code::HostUnreachable,
        _ => Code::Failed,
    }
}

impl Protocol {
    /// Tells the client that it is connected.
    pub fn connected(self) -> Vec<u8> {
        match self {
            Self::Socks5 => socks::write_reply(Code::Succeeded, ""),
            Self::Http => http::CONNECTED.to_vec(),
        }
    }

    /// Tells the client why it is not.
    pub fn failed(self, code: Code, words: &str) -> Vec<u8> {
        match self {
            Self::Socks5 => socks::write_reply(code, words),
            Self::Http => http::failure(code, words),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::test_runner::{Config, TestRunner};

    /// Feeds in these portions; all that was sent back, and how it ended.
    fn talk(portions: &[&[u8]]) -> (Vec<u8>, Option<Next>) {
        let mut handshake = Handshake::default();
        let mut sent = Vec::new();
        for portion in portions {
            handshake.feed(portion);
            loop {
                match handshake.advance() {
                    Next::Read => break,
                    Next::Write(bytes) => sent.extend_from_slice(bytes),
                    end => return (sent, Some(end)),
                }
            }
        }
        (sent, None)
    }

    /// The whole byte string gives the same as one byte at a time, and holds what every handshake does.
    fn judge(bytes: &[u8]) -> Result<(), String> {
        let whole = talk(&[bytes]);
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        let (sent, mut end) = talk(&single);
        // What came after the end was not fed when it was fed bytewise.
        if let (Some(Next::Open { early: a, .. }), Some(Next::Open { early: b, .. })) = (&whole.1, &mut end) {
            b.clone_from(a);
        }
        if (&sent, &end) != (&whole.0, &whole.1) {
            return Err(format!("{whole:?} at once, {:?} bytewise", (sent, end)));
        }
        match whole.1 {
            Some(Next::Open { target, early, .. }) if target.port == 0 || early.len() >= bytes.len() => {
                Err(format!("{target} with {} early bytes", early.len()))
            }
            Some(Next::Refuse { answer, .. }) if answer.len() > 600 => Err("a refusal of that length".to_owned()),
            None if bytes.len() >= http::LONGEST => Err("still undecided".to_owned()),
            _ => Ok(()),
        }
    }

    #[test]
    fn every_byte_string_of_up_to_three_bytes_is_decided_alike_in_every_segmentation() {
        let decided = |bytes: &[u8]| talk(&[bytes]).1;
        for first in 0..=255u8 {
            judge(&[first]).unwrap();
            // Once it is decided more bytes change nothing: then those that come with it are tried, not each apart.
            let early = decided(&[first]);
            for second in 0..=255u8 {
                match early {
                    None => judge(&[first, second]).unwrap(),
                    Some(_) => assert_eq!(decided(&[first, second]), early),
                }
                for third in 0..=255u8 {
                    let bytes = [first, second, third];
                    let whole = match early {
                        None => judge(&bytes).map(|()| decided(&bytes)).unwrap(),
                        Some(_) => decided(&bytes),
                    };
                    assert!(early.is_none() || whole == early, "{bytes:02x?}");
                    assert!(!matches!(whole, Some(Next::Open { .. })), "{bytes:02x?} names no destination");
                }
            }
        }
    }

    #[test]
    fn a_million_random_byte_strings_are_decided_without_a_panic() {
        let mut random = fastrand::Rng::with_seed(1055);
        for n in 0..1_000_000u32 {
            let mut bytes = vec![0; random.usize(0..48)];
            random.fill(&mut bytes);
            // Nearly all of them would end at their first byte.
            match (n % 4, bytes.get_mut(..2)) {
                (0, Some(first)) => first.copy_from_slice(&[5, 1]),
                (1, _) => drop(bytes.splice(0..0, [5, 1, 0, 5, 1, 0])),
                (2, _) => drop(bytes.splice(0..0, *b"CONNECT ")),
                _ => {}
            }
            let (sent, _) = talk(&[&bytes]);
            assert!(sent.len() <= 2, "{bytes:02x?}");
            if n % 16 == 0 {
                judge(&bytes).unwrap_or_else(|e| panic!("{bytes:02x?}: {e}"));
            }
        }
    }

    #[test]
    fn texts_that_nearly_are_requests_are_decided_alike_in_every_segmentation() {
        let request = "(CONNECT|GET|C|) ?[a-z0-9.:\\[\\]]{0,20}(:[0-9]{1,6})? ?(HTTP/1.[0-9])?(\r?\n[A-Za-z:]{0,9} ?[ -~]{0,9}){0,4}\r\n\r\n";
        let mut runner = TestRunner::new(Config { cases: 3_000, ..Config::default() });
        runner.run(&request, |text| judge(text.as_bytes()).map_err(TestCaseError::fail)).unwrap();
    }

    #[test]
    fn a_socks_client_that_sends_everything_at_once_is_understood() {
        let mut bytes = vec![5, 1, 0];
        let target = Target::parse("example.org:22").unwrap();
        bytes.extend(socks::write_request(&target));
        bytes.extend(b"SSH-2.0");
        let (sent, end) = talk(&[&bytes]);
        assert_eq!(sent, [5, 0]);
        assert_eq!(end, Some(Next::Open { target, protocol: Protocol::Socks5, early: b"SSH-2.0".to_vec() }));
    }

    #[test]
    fn each_refusal_is_answered_in_the_clients_own_language() {
        let refused = |bytes: &[u8]| match talk(&[bytes]).1 {
            Some(Next::Refuse { answer, fault }) => (answer, fault),
            other => panic!("{bytes:02x?}: {other:?}"),
        };
        assert_eq!(refused(&[4, 1]), (vec![0, 0x5b, 0, 0, 0, 0, 0, 0], Fault::Socks4));
        assert_eq!(refused(&[5, 1, 2]), (vec![5, 0xff], Fault::LoginOnly));
        assert_eq!(refused(&[5, 1, 0, 5, 3]).0[..4], [5, 7, 0, 3]);
        assert_eq!(refused(&[0x16, 3]), (vec![], Fault::Unknown(0x16)));
        assert!(refused(b"GET / HTTP/1.1\r\n").0.starts_with(b"HTTP/1.1 405 "));
    }
}

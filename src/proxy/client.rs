//! The client's side of SOCKS5: tells before each read how many bytes surely belong to the proxy's reply, so that not one
//! byte beyond it is taken from the socket, which may go to another program after it. Pure.

use super::socks::{self, Code, NO_LOGIN, NONE_ACCEPTABLE, Parse, VERSION};
use super::target::{Host, Target};

/// The greeting: no login is the only method.
pub const GREETING: [u8; 3] = [VERSION, 1, NO_LOGIN];

/// What is wrong with the answer of what should be a proxy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadAnswer {
    /// It is an HTTP server or an HTTP-only proxy.
    #[error("what answers there is an HTTP server, no SOCKS5 proxy; name the proxy's own port")]
    Http,
    /// It is an SSH server.
    #[error("what answers there is an SSH server, no SOCKS5 proxy; name the proxy's own port")]
    Ssh,
    /// SOCKS4 answers begin with 0.
    #[error("what answers there speaks SOCKS4, not SOCKS5; name another proxy")]
    Socks4,
    /// Anything else.
    #[error("what answers there is no SOCKS5 proxy: its answer begins with {0:#04x}; name the proxy's own port")]
    Unknown(u8),
    /// It wants a login.
    #[error("the proxy wants a login, which is not done here; name a proxy without")]
    Login,
    /// It chose a method that was not offered.
    #[error("the proxy chose login method {0}, which was not offered; it does not keep to SOCKS5")]
    Method(u8),
    /// Its reply has an address of a type that does not exist.
    #[error("the proxy's reply has address type {0}; it does not keep to SOCKS5")]
    AddressType(u8),
}

/// How far the reading of the two answers is.
#[derive(Debug, Default)]
pub struct Answers {
    bytes: Vec<u8>,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Stage {
    #[default]
    Method,
    Reply,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Read at most this many bytes, one or more.
    Read(usize),
    /// Send the request.
    Ask,
    /// It is over.
    End(Reply),
}

/// What the proxy says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Its code.
    pub code: Code,
    /// With a refusal of `proxy-shim run`: why.
    pub words: Option<String>,
}

impl Reply {
    /// What it means for a connection to `target`, in words.
    pub fn text(&self, target: &Target) -> String {
        self.words.clone().unwrap_or_else(|| self.code.words(target))
    }
}

impl Answers {
    /// Takes what was read.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// What to do next.
    ///
    /// # Errors
    /// [`BadAnswer`] when this is no SOCKS5 proxy, or none that takes everyone.
    pub fn step(&mut self) -> Result<Step, BadAnswer> {
        match self.bytes.first() {
            // `HTTP/1.1 400 Bad Request` is what an HTTP server says to a greeting.
            Some(b'H') => return Err(BadAnswer::Http),
            Some(b'S') => return Err(BadAnswer::Ssh),
            Some(0) => return Err(BadAnswer::Socks4),
            Some(&other) if other != VERSION => return Err(BadAnswer::Unknown(other)),
            _ => {}
        }
        match self.stage {
            Stage::Method => match self.bytes[..] {
                [_, NO_LOGIN, ..] => {
                    self.bytes.drain(..2);
                    self.stage = Stage::Reply;
                    Ok(Step::Ask)
                }
                [_, NONE_ACCEPTABLE | 1 | 2, ..] => Err(BadAnswer::Login),
                [_, method, ..] => Err(BadAnswer::Method(method)),
                _ => Ok(Step::Read(2 - self.bytes.len())),
            },
            Stage::Reply => self.reply(),
        }
    }

    fn reply(&self) -> Result<Step, BadAnswer> {
        match socks::address(&self.bytes) {
            Parse::More(n) => Ok(Step::Read(n)),
            Parse::Done(_, _) => {
                let code = Code::from_byte(self.bytes[1]);
                let words = (code != Code::Succeeded).then(|| words(&self.bytes)).flatten();
                Ok(Step::End(Reply { code, words }))
            }
            // A server that refuses may leave the rest of its reply empty: the code is all that matters then.
            Parse::Bad(_) if self.bytes[1] != 0 => {
                Ok(Step::End(Reply { code: Code::from_byte(self.bytes[1]), words: None }))
            }
            Parse::Bad(_) => Err(BadAnswer::AddressType(self.bytes[3])),
        }
    }
}

/// Words in the place of a bound address: a text with a space is no name.
fn words(reply: &[u8]) -> Option<String> {
    let (3, len) = (*reply.get(3)?, usize::from(*reply.get(4)?)) else { return None };
    let text = std::str::from_utf8(reply.get(5..5 + len)?).ok()?;
    let shown = text.contains(' ') && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
    shown.then(|| text.to_owned())
}

/// Whether that destination can be asked for.
pub fn target(host: &str, port: u16) -> Option<Target> {
    (port > 0).then(|| Host::parse(host).ok().map(|host| Target { host, port })).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A proxy that sends `stream`, at most `segment` bytes at a time; what came of it, and what is left unread.
    fn talk(stream: &[u8], segment: usize) -> (Result<Reply, BadAnswer>, usize) {
        let (mut answers, mut at) = (Answers::default(), 0);
        loop {
            match answers.step() {
                Ok(Step::Ask) => {}
                Ok(Step::Read(most)) => {
                    let n = most.min(segment).min(stream.len() - at);
                    assert!(n > 0, "asked for {most} when {at} of {} were read", stream.len());
                    answers.feed(&stream[at..at + n]);
                    at += n;
                }
                Ok(Step::End(reply)) => return (Ok(reply), stream.len() - at),
                Err(e) => return (Err(e), stream.len() - at),
            }
        }
    }

    fn replies() -> Vec<Vec<u8>> {
        let v4 = [5, 0, 0, 1, 10, 0, 0, 1, 4, 31].to_vec();
        let v6 = [&[5, 0, 0, 4][..], &[0xfd; 16], &[4, 31]].concat();
        let name = |len: usize| [&[5, 0, 0, 3, u8::try_from(len).unwrap()][..], &vec![b'n'; len], &[0, 0]].concat();
        vec![v4, v6, name(0), name(1), name(13), name(255)]
    }

    #[test]
    fn every_form_of_reply_is_read_in_every_segmentation_and_not_one_byte_beyond_it() {
        for reply in replies() {
            let banner = b"SSH-2.0-OpenSSH_9.2\r\n";
            let stream = [&[5, 0][..], &reply, banner].concat();
            for segment in 1..=stream.len() {
                let (end, left) = talk(&stream, segment);
                assert_eq!(end, Ok(Reply { code: Code::Succeeded, words: None }), "{segment}: {reply:02x?}");
                assert_eq!(left, banner.len(), "{segment}: {reply:02x?}");
            }
        }
    }

    #[test]
    fn a_refusal_is_its_code_and_the_words_of_our_own_proxy() {
        let target = Target::parse("nowhere.example:22").unwrap();
        for byte in 1..=255 {
            let stream = [5, 0, 5, byte, 0, 1, 0, 0, 0, 0, 0, 0];
            let reply = talk(&stream, 99).0.unwrap();
            assert_eq!(reply.text(&target), Code::from_byte(byte).words(&target));
        }
        let ours = socks::write_reply(Code::HostUnreachable, "no such name: `nowhere.example`");
        let reply = talk(&[&[5, 0][..], &ours].concat(), 3).0.unwrap();
        assert_eq!(reply.text(&target), "no such name: `nowhere.example`");
    }

    #[test]
    fn what_is_no_proxy_is_named() {
        let named = |stream: &[u8]| talk(stream, 1).0.unwrap_err();
        assert_eq!(named(b"HTTP/1.1 400 Bad Request\r\n"), BadAnswer::Http);
        assert_eq!(named(b"SSH-2.0-x"), BadAnswer::Ssh);
        assert_eq!(named(&[0, 0x5b]), BadAnswer::Socks4);
        assert_eq!(named(b"220 mail"), BadAnswer::Unknown(b'2'));
        assert_eq!(named(&[5, 0xff]), BadAnswer::Login);
        assert_eq!(named(&[5, 7]), BadAnswer::Method(7));
        assert_eq!(named(&[5, 0, 5, 0, 0, 9]), BadAnswer::AddressType(9));
        assert_eq!(named(&[5, 0, b'H']), BadAnswer::Http);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_reply_a_fault_or_a_wish_for_more(bytes in proptest::collection::vec(any::<u8>(), 0..300), socks in any::<bool>()) {
            let bytes = if socks { [&[5, 0, 5][..], &bytes].concat() } else { bytes };
            let (mut answers, mut at) = (Answers::default(), 0);
            while let Ok(step) = answers.step() {
                let Step::Read(most) = step else {
                    if step == Step::Ask { continue } else { break }
                };
                prop_assert!(most > 0 && most <= 257);
                let n = most.min(bytes.len() - at);
                if n == 0 { break }
                answers.feed(&bytes[at..at + n]);
                at += n;
            }
        }
    }
}

//! SOCKS5 (RFC 1928) as bytes: what a server reads and writes. The client's side is in `client`. Pure.
//!
//! No library does this here: those that are kept up (fast-socks5, tokio-socks) read from a socket of one async runtime,
//! while `connect` is plain blocking code that must know before each read how many bytes still belong to the reply.

use super::target::{Host, Target};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The protocol's version, the first byte of everything but a login.
pub const VERSION: u8 = 5;
/// The method "no login".
pub const NO_LOGIN: u8 = 0;
/// The method that says that none is acceptable.
pub const NONE_ACCEPTABLE: u8 = 0xff;

/// What the beginning of a byte string is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parse<T> {
    /// More bytes are needed, at least this many.
    More(usize),
    /// It is this, and this many bytes long.
    Done(T, usize),
    /// It can never become right.
    Bad(Fault),
}

/// What is wrong with what a client sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The client speaks SOCKS4.
    #[error("the client speaks SOCKS4; use SOCKS5 (`socks5h://` for curl)")]
    Socks4,
    /// It speaks something else.
    #[error("the client speaks neither SOCKS5 nor HTTP CONNECT (its first byte is {0:#04x})")]
    Unknown(u8),
    /// The second message has another version than the first.
    #[error("the client's request is no SOCKS5 (its version byte is {0:#04x})")]
    Version(u8),
    /// The client only offers ways to log in.
    #[error("the client offers no method without login; this proxy has no accounts")]
    LoginOnly,
    /// BIND or UDP ASSOCIATE.
    #[error("the client asks for command {0}, and only CONNECT (1) is done here")]
    Command(u8),
    /// An address type that does not exist.
    #[error("the client sent address type {0}; there are 1, 3 and 4")]
    AddressType(u8),
    /// Nobody has such a name.
    #[error("the client sent a host name that is empty or has characters that no name has")]
    Name,
    /// Port 0.
    #[error("the client asks for port 0")]
    Port,
    /// HTTP, but not CONNECT.
    #[error("the client sent an HTTP request that is not CONNECT; set the proxy as `socks5h://`, or use https")]
    NotConnect,
    /// HTTP that cannot be understood.
    #[error("the client's HTTP request cannot be understood")]
    Http,
    /// More than a handshake needs.
    #[error("the client's HTTP request is longer than {} bytes", super::http::LONGEST)]
    TooLong,
}

/// Reads the greeting: whether "no login" is offered.
pub fn greeting(bytes: &[u8]) -> Parse<()> {
    match bytes {
        [] => Parse::More(2),
        [VERSION] => Parse::More(1),
        [VERSION, methods, rest @ ..] => {
            let methods = usize::from(*methods);
            match rest.get(..methods) {
                None => Parse::More(methods - rest.len()),
                Some(offered) if offered.contains(&NO_LOGIN) => Parse::Done((), 2 + methods),
                Some(_) => Parse::Bad(Fault::LoginOnly),
            }
        }
        [other, ..] => Parse::Bad(Fault::Version(*other)),
    }
}

/// Reads the request.
pub fn request(bytes: &[u8]) -> Parse<Target> {
    // Judged as soon as it is there: no need to wait for the rest of what is refused anyway.
    match bytes {
        [version, ..] if *version != VERSION => return Parse::Bad(Fault::Version(*version)),
        [_, command, ..] if *command != 1 => return Parse::Bad(Fault::Command(*command)),
        _ => {}
    }
    match address(bytes) {
        Parse::Done((_, 0), _) => Parse::Bad(Fault::Port),
        Parse::Done((Some(host), port), used) => Parse::Done(Target { host, port }, used),
        Parse::Done((None, _), _) => Parse::Bad(Fault::Name),
        Parse::More(n) => Parse::More(n),
        Parse::Bad(fault) => Parse::Bad(fault),
    }
}

/// Reads the part that requests and replies share: three bytes, then type, address and port. The host is `None` when
/// it is a name that nobody can have.
pub(super) fn address(bytes: &[u8]) -> Parse<(Option<Host>, u16)> {
    let Some(kind) = bytes.get(3) else { return Parse::More(4 - bytes.len()) };
    let rest = &bytes[4..];
    let (from, len) = match kind {
        1 => (0, 4),
        4 => (0, 16),
        3 => match rest.first() {
            Some(len) => (1, usize::from(*len)),
            None => return Parse::More(1),
        },
        other => return Parse::Bad(Fault::AddressType(*other)),
    };
    let (Some(host), Some(&[high, low])) = (rest.get(from..from + len), rest.get(from + len..from + len + 2)) else {
        return Parse::More(from + len + 2 - rest.len());
    };
    let host = match (<[u8; 4]>::try_from(host), <[u8; 16]>::try_from(host)) {
        (Ok(v4), _) if *kind == 1 => Some(Host::Ip(Ipv4Addr::from(v4).into())),
        (_, Ok(v6)) if *kind == 4 => Some(Host::Ip(Ipv6Addr::from(v6).into())),
        _ => name_or_address(host),
    };
    Parse::Done((host, u16::from_be_bytes([high, low])), 4 + from + len + 2)
}

/// Some clients send addresses as names: `::1` is no name to an upstream.
fn name_or_address(bytes: &[u8]) -> Option<Host> {
    let text = std::str::from_utf8(bytes).ok()?;
    match text.parse::<IpAddr>() {
        Ok(ip) => Some(Host::Ip(ip)),
        Err(_) => Host::name(bytes),
    }
}

/// A request for that destination, as a client sends it after its greeting was accepted.
pub fn write_request(target: &Target) -> Vec<u8> {
    let mut out = vec![VERSION, 1, 0];
    match &target.host {
        Host::Ip(IpAddr::V4(ip)) => {
            out.push(1);
            out.extend(ip.octets());
        }
        Host::Ip(IpAddr::V6(ip)) => {
            out.push(4);
            out.extend(ip.octets());
        }
        Host::Name(name) => push_name(&mut out, name),
    }
    out.extend(target.port.to_be_bytes());
    out
}

fn push_name(out: &mut Vec<u8>, name: &str) {
    // A `Host::Name` has at most 255 bytes; other texts are cut.
    let len = u8::try_from(name.len()).unwrap_or(u8::MAX);
    out.extend([3, len]);
    out.extend(&name.as_bytes()[..usize::from(len)]);
}

/// A reply with that code. A refusal has its words where the bound address would be, as a "name": clients look at the
/// code only, and `proxy-shim connect` shows the words.
pub fn write_reply(code: Code, words: &str) -> Vec<u8> {
    let mut out = vec![VERSION, code.byte(), 0];
    let words: String = words.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').collect();
    if code == Code::Succeeded || words.is_empty() {
        out.extend([1, 0, 0, 0, 0]);
    } else {
        push_name(&mut out, &words);
    }
    out.extend([0, 0]);
    out
}

/// What a server says of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// 0.
    Succeeded,
    /// 1.
    Failed,
    /// 2.
    NotAllowed,
    /// 3.
    NetworkUnreachable,
    /// 4; also for names that are not known, which have no code of their own.
    HostUnreachable,
    /// 5.
    Refused,
    /// 6; servers say it when a connection timed out.
    TimedOut,
    /// 7.
    CommandNotSupported,
    /// 8.
    AddressNotSupported,
    /// Anything else.
    Other(u8),
}

impl Code {
    /// From the byte of a reply.
    pub fn from_byte(byte: u8) -> Self {
        match byte {
            0 => Self::Succeeded,
            1 => Self::Failed,
            2 => Self::NotAllowed,
            3 => Self::NetworkUnreachable,
            4 => Self::HostUnreachable,
            5 => Self::Refused,
            6 => Self::TimedOut,
            7 => Self::CommandNotSupported,
            8 => Self::AddressNotSupported,
            other => Self::Other(other),
        }
    }

    /// The byte of a reply.
    pub fn byte(self) -> u8 {
        match self {
            Self::Succeeded => 0,
            Self::Failed => 1,
            Self::NotAllowed => 2,
            Self::NetworkUnreachable => 3,
            Self::HostUnreachable => 4,
            Self::Refused => 5,
            Self::TimedOut => 6,
            Self::CommandNotSupported => 7,
            Self::AddressNotSupported => 8,
            Self::Other(byte) => byte,
        }
    }

    /// What it means for a connection to `target`, in words.
    pub fn words(self, target: &Target) -> String {
        match self {
            Self::Succeeded => "it is connected".to_owned(),
            Self::Failed => "the proxy could not connect, and does not say why (code 1)".to_owned(),
            Self::NotAllowed => "the proxy's rules do not allow this destination (code 2)".to_owned(),
            Self::NetworkUnreachable => "the network is unreachable from the proxy (code 3)".to_owned(),
            Self::HostUnreachable => match target.host {
                Host::Name(_) => "the name is unknown to the proxy, or its host is unreachable (code 4)".to_owned(),
                Host::Ip(_) => "the host is unreachable from the proxy (code 4)".to_owned(),
            },
            Self::Refused => "the host refused the connection: nothing listens on that port (code 5)".to_owned(),
            Self::TimedOut => "the host did not answer the proxy in time (code 6)".to_owned(),
            Self::CommandNotSupported => "the proxy does not do CONNECT (code 7)".to_owned(),
            Self::AddressNotSupported => match target.host {
                Host::Name(_) => "the proxy takes no names, or the name has no address that it can use (code 8)".into(),
                Host::Ip(_) => "the proxy does not do this kind of address (code 8)".to_owned(),
            },
            Self::Other(byte) => format!("the proxy answered with code {byte}, which SOCKS5 does not have"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn targets() -> impl Strategy<Value = Target> {
        let host = prop_oneof![
            any::<u32>().prop_map(|n| Host::Ip(Ipv4Addr::from(n).into())),
            any::<u128>().prop_map(|n| Host::Ip(Ipv6Addr::from(n).into())),
            // A letter in front: what reads as an address is one.
            "g[a-z0-9._-]{0,254}".prop_map(Host::Name),
        ];
        (host, 1u16..).prop_map(|(host, port)| Target { host, port })
    }

    proptest! {
        #[test]
        fn a_request_reads_back_as_what_was_written_and_each_part_of_it_asks_for_more(target in targets(), more in 0usize..5) {
            let mut bytes = write_request(&target);
            let len = bytes.len();
            for cut in 0..len {
                let Parse::More(n) = request(&bytes[..cut]) else { panic!("{cut} of {len}") };
                prop_assert!(n >= 1 && cut + n <= len, "{cut} + {n} of {len}");
            }
            bytes.extend(vec![0xaa; more]);
            prop_assert_eq!(request(&bytes), Parse::Done(target, len));
        }
    }

    #[test]
    fn a_greeting_is_read_whatever_else_is_offered() {
        assert_eq!(greeting(&[5, 1, 0]), Parse::Done((), 3));
        assert_eq!(greeting(&[5, 3, 1, 2, 0, 5]), Parse::Done((), 5));
        assert_eq!(greeting(&[5, 3, 1]), Parse::More(2));
        assert_eq!(greeting(&[5, 2, 1, 2]), Parse::Bad(Fault::LoginOnly));
        assert_eq!(greeting(&[5, 0]), Parse::Bad(Fault::LoginOnly));
    }

    #[test]
    fn what_is_not_done_here_is_refused_by_name() {
        let with = |bytes: &[u8]| request(bytes);
        assert_eq!(with(&[4]), Parse::Bad(Fault::Version(4)));
        assert_eq!(with(&[5, 2]), Parse::Bad(Fault::Command(2)));
        assert_eq!(with(&[5, 1, 0, 2]), Parse::Bad(Fault::AddressType(2)));
        assert_eq!(with(&[5, 1, 0, 1, 127, 0, 0, 1, 0, 0]), Parse::Bad(Fault::Port));
        assert_eq!(with(&[5, 1, 0, 3, 0, 0, 22]), Parse::Bad(Fault::Name));
        assert_eq!(with(&[5, 1, 0, 3, 2, b'a', b'\n', 0, 22]), Parse::Bad(Fault::Name));
    }

    #[test]
    fn an_address_sent_as_a_name_is_an_address() {
        let mut bytes = vec![5, 1, 0, 3, 3];
        bytes.extend(b"::1\x00\x16");
        assert_eq!(request(&bytes), Parse::Done(Target { host: Host::Ip(Ipv6Addr::LOCALHOST.into()), port: 22 }, 10));
    }

    #[test]
    fn a_reply_with_words_is_a_reply_that_can_be_read() {
        for words in ["", "the name is unknown", &"x".repeat(400), "\n\0"] {
            let bytes = write_reply(Code::HostUnreachable, words);
            let Parse::Done(_, used) = address(&bytes) else { panic!("{words:?}") };
            assert_eq!(used, bytes.len());
        }
    }

    #[test]
    fn each_code_has_its_byte_and_words_of_its_own() {
        let target = Target::parse("h:1").unwrap();
        let words: std::collections::BTreeSet<_> = (0..=255).map(|b| Code::from_byte(b).words(&target)).collect();
        assert_eq!(words.len(), 256);
        assert!((0..=255).all(|b| Code::from_byte(b).byte() == b));
    }
}

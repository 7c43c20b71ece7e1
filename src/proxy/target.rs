//! A destination as clients name it: an address or a name, and a port. Names are never looked up here. Pure.

use serde::Serialize;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The longest name that SOCKS5 can carry, in bytes.
pub const LONGEST_NAME: usize = 255;

/// The host of a destination.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// An address.
    Ip(IpAddr),
    /// A name for the upstream to look up; 1 to 255 bytes of printable ASCII without space.
    Name(String),
}

/// Where a client wants to be connected to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// The host.
    pub host: Host,
    /// 1 to 65535.
    pub port: u16,
}

/// Why a text is no destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadTarget {
    /// It has no port, or something that is none.
    #[error("it is not `host:port`; ports are 1 to 65535")]
    NoPort,
    /// The host is empty, too long, or has characters that no name has.
    #[error("the host is no name and no address; write an IPv6 address like `[::1]:22`")]
    NoHost,
}

impl Host {
    /// Reads an address (IPv6 with or without brackets) or a name.
    ///
    /// # Errors
    /// [`BadTarget::NoHost`].
    pub fn parse(text: &str) -> Result<Self, BadTarget> {
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or(BadTarget::NoHost)?;
            return inner.parse::<Ipv6Addr>().map(|a| Self::Ip(a.into())).map_err(|_| BadTarget::NoHost);
        }
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Self::Ip(ip));
        }
        Self::name(text.as_bytes()).ok_or(BadTarget::NoHost)
    }

    /// A name as a client sends it. Everything printable is left to the upstream, which knows what is a name to it;
    /// what could act on a terminal or split a line of a log is not.
    pub fn name(bytes: &[u8]) -> Option<Self> {
        let fine = |b: &u8| b.is_ascii_graphic() && !b"[]:/\\\"'`".contains(b);
        let good = (1..=LONGEST_NAME).contains(&bytes.len()) && bytes.iter().all(fine);
        good.then(|| Self::Name(bytes.iter().map(|b| char::from(*b)).collect()))
    }
}

impl Target {
    /// Reads `host:port`.
    ///
    /// # Errors
    /// [`BadTarget`].
    pub fn parse(text: &str) -> Result<Self, BadTarget> {
        let (host, port) = text.rsplit_once(':').ok_or(BadTarget::NoPort)?;
        // `::1:22` could be an address of its own.
        if host.contains(':') && !host.starts_with('[') {
            return Err(BadTarget::NoHost);
        }
        Ok(Self { host: Host::parse(host)?, port: port_number(port)? })
    }

    /// The address, when it is one.
    pub fn address(&self) -> Option<SocketAddr> {
        match self.host {
            Host::Ip(ip) => Some(SocketAddr::new(ip, self.port)),
            Host::Name(_) => None,
        }
    }
}

fn port_number(text: &str) -> Result<u16, BadTarget> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    // `+22` is a number to Rust.
    text.parse().ok().filter(|port| digits && *port > 0).ok_or(BadTarget::NoPort)
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Self::Ip(IpAddr::V4(ip)) => write!(f, "{ip}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Serialize for Target {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_both_kinds_of_addresses_are_read_and_shown_as_written() {
        for text in ["example.org:22", "127.0.0.1:1", "[::1]:65535", "under_score:80", "[fd7a::2]:22"] {
            assert_eq!(Target::parse(text).unwrap().to_string(), text);
        }
        assert!(matches!(Host::parse("fd7a::2"), Ok(Host::Ip(_))));
    }

    #[test]
    fn what_is_no_destination_is_refused() {
        for text in ["host", "host:", ":22", "host:0", "host:65536", "host:+22", "::1:22", "[::1:22", "a b:1", "a\n:1"]
        {
            assert!(Target::parse(text).is_err(), "{text:?}");
        }
        assert!(Target::parse(&format!("{}:1", "x".repeat(256))).is_err());
    }
}

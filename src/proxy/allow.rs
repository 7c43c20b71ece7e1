//! Where clients may go: names as they are sent, addresses by network. A name is never looked up, so a network allows no
//! name. Pure.

use super::target::{Host, Target};
use ipnet::IpNet;
use std::net::IpAddr;

/// Destinations that are allowed; everything else is not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AllowList(Vec<Rule>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    hosts: Hosts,
    /// Empty: all.
    ports: Vec<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Hosts {
    All,
    Name(String),
    /// With the dot in front.
    Below(String),
    Net(IpNet),
}

/// Why a text allows nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadRule {
    /// The part before the colon.
    #[error("it is no name, address or network")]
    Host,
    /// The part after it.
    #[error("its ports are not numbers from 1 to 65535, nor `*`")]
    Ports,
}

impl AllowList {
    /// Adds `HOST`, `HOST:PORT,PORT` or `HOST:*`, where the host is a name, `*.name`, `*`, an address or a network.
    ///
    /// # Errors
    /// [`BadRule`].
    pub fn add(&mut self, text: &str) -> Result<(), BadRule> {
        let (host, ports) = split(text)?;
        let hosts = match host {
            "*" => Hosts::All,
            _ => match host.strip_prefix('*') {
                Some(rest) if rest.len() > 1 && rest.starts_with('.') && Host::name(rest.as_bytes()).is_some() => {
                    Hosts::Below(rest.to_ascii_lowercase())
                }
                Some(_) => return Err(BadRule::Host),
                None => named(host)?,
            },
        };
        self.0.push(Rule { hosts, ports });
        Ok(())
    }

    /// Whether that destination is in it.
    pub fn allows(&self, target: &Target) -> bool {
        self.0.iter().any(|rule| {
            (rule.ports.is_empty() || rule.ports.contains(&target.port)) && rule.hosts.contains(&target.host)
        })
    }
}

impl Hosts {
    fn contains(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::All, _) => true,
            (Self::Net(net), Host::Ip(ip)) => net.contains(&ip.to_canonical()),
            (Self::Name(name), Host::Name(asked)) => plain(asked) == *name,
            (Self::Below(end), Host::Name(asked)) => {
                let asked = plain(asked);
                asked.len() > end.len() && asked.ends_with(end)
            }
            (Self::Net(_), Host::Name(_)) | (Self::Name(_) | Self::Below(_), Host::Ip(_)) => false,
        }
    }
}

/// A name is the same with a dot at its end, and in capitals.
fn plain(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

fn named(host: &str) -> Result<Hosts, BadRule> {
    if let Ok(net) = host.parse::<IpNet>() {
        return Ok(Hosts::Net(net.trunc()));
    }
    match Host::parse(host).map_err(|_| BadRule::Host)? {
        Host::Ip(ip) => Ok(Hosts::Net(IpNet::from(ip.to_canonical()))),
        Host::Name(name) => Ok(Hosts::Name(plain(&name))),
    }
}

/// The host without brackets, and the ports.
fn split(text: &str) -> Result<(&str, Vec<u16>), BadRule> {
    let (host, ports) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or(BadRule::Host)?;
            let ports = if after.is_empty() { None } else { Some(after.strip_prefix(':').ok_or(BadRule::Host)?) };
            (host, ports)
        }
        // `fd7a::/48` has colons and no port.
        None if text.parse::<IpNet>().is_ok() || text.parse::<IpAddr>().is_ok() => (text, None),
        None => text.rsplit_once(':').map_or((text, None), |(host, ports)| (host, Some(ports))),
    };
    let ports = match ports {
        None | Some("*") => Vec::new(),
        Some(list) => {
            let number = |p: &str| p.parse().ok().filter(|n| *n > 0).ok_or(BadRule::Ports);
            list.split(',').map(number).collect::<Result<_, _>>()?
        }
    };
    Ok((host, ports))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(rules: &[&str], target: &str) -> bool {
        let mut list = AllowList::default();
        rules.iter().for_each(|rule| list.add(rule).unwrap_or_else(|e| panic!("{rule}: {e}")));
        list.allows(&Target::parse(target).unwrap())
    }

    #[test]
    fn a_rule_allows_what_it_names_and_nothing_else() {
        let cases = [
            ("git.example.org:22", "git.example.org:22", true),
            ("git.example.org:22", "GIT.example.org.:22", true),
            ("git.example.org:22", "git.example.org:23", false),
            ("git.example.org:22", "xgit.example.org:22", false),
            ("git.example.org", "git.example.org:9", true),
            ("*.example.org:22,443", "a.b.example.org:443", true),
            ("*.example.org:22,443", "example.org:443", false),
            ("*.example.org:22,443", "badexample.org:443", false),
            ("100.64.0.0/10", "100.100.1.1:22", true),
            ("100.64.0.0/10:22", "100.100.1.1:23", false),
            ("100.64.0.0/10", "100.128.0.1:22", false),
            ("100.64.0.0/10", "inside.example:22", false),
            ("127.0.0.1:22", "[::ffff:127.0.0.1]:22", true),
            ("[::1]:22", "[::1]:22", true),
            ("fd7a::/48", "[fd7a::5]:1", true),
            ("*:22", "anything:22", true),
            ("*:22", "10.0.0.1:23", false),
        ];
        for (rule, target, want) in cases {
            assert_eq!(allows(&[rule], target), want, "{rule} {target}");
        }
        assert!(allows(&["a:1", "b:2"], "b:2") && !allows(&[], "a:1"));
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        for text in ["", "a:0", "a:x", "a:1,", "*x.org", "*.:1", "10.0.0.0/33", "[::1", "[::1]22", "a b:1"] {
            assert!(AllowList::default().add(text).is_err(), "{text:?}");
        }
    }
}

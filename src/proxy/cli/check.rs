//! `proxy-shim check`: each link of the chain in its order, as it is seen from here, with a remedy for each that is
//! broken.

use super::{Fault, duration, print};
use crate::proxy::client::{Answers, GREETING, Step};
use crate::proxy::config::{Config, Expect, Probe};
use crate::proxy::connect::{ConnectError, Wanted, dial};
use crate::proxy::control::{self, ControlError};
use crate::proxy::probe::examine;
use crate::proxy::state::Link;
use crate::proxy::target::{Host, Target};
use crate::support::units::short_duration;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// What answers from memory does so within this time.
const EACH: Duration = Duration::from_secs(3);

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Say nothing: the exit code is the answer
    #[arg(long, short)]
    quiet: bool,
    /// How long all of it may take
    #[arg(long, value_name = "DURATION", default_value = "8s", value_parser = duration)]
    timeout: Duration,
}

/// What was found of one link.
struct Finding {
    link: String,
    result: Result<String, Broken>,
}

struct Broken {
    what: String,
    remedy: String,
    not_now: bool,
}

impl Broken {
    fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: remedy.into(), not_now: false }
    }

    fn not_now(self) -> Self {
        Self { not_now: true, ..self }
    }
}

/// Looks, tells, and fails when something is broken: with 3 when the proxy is not running or was not in time.
pub fn run(config: &Config, args: &Args) -> anyhow::Result<()> {
    let findings = look(config, Instant::now() + args.timeout);
    if !args.quiet {
        print(&findings.iter().map(line).collect::<String>())?;
    }
    let broken: Vec<&Broken> = findings.iter().filter_map(|f| f.result.as_ref().err()).collect();
    match broken.first() {
        None => Ok(()),
        Some(first) => Err(Fault::Said(if first.not_now { 3 } else { 1 }).into()),
    }
}

fn line(finding: &Finding) -> String {
    let link = &finding.link;
    match &finding.result {
        Ok(text) => format!("ok     {link}: {text}\n"),
        Err(Broken { what, remedy, .. }) => format!("WRONG  {link}: {what}; {remedy}\n"),
    }
}

fn look(config: &Config, deadline: Instant) -> Vec<Finding> {
    let mut out = Vec::new();
    // What it says itself first: it knows where it really listens.
    let said = control::status(&config.runtime_dir, left(deadline).min(EACH));
    let port = match &said {
        Ok(view) => view.listen.parse().unwrap_or(config.listen),
        Err(_) => config.listen,
    };
    let port = reachable(port);
    let handshake = port_and_handshake(port, left(deadline).min(EACH));
    let answers = handshake.result.is_ok();
    out.push(handshake);
    match &said {
        Ok(view) => {
            let backend = view.backend.as_ref().map_or(String::new(), |state| format!(", tailscale says {state}"));
            let result = match &view.link {
                Link::Up => Ok(format!("{} is up{backend}", view.upstream)),
                Link::Starting { why } => {
                    Err(Broken::new(format!("{} is starting: {why}{backend}", view.upstream), "wait").not_now())
                }
                Link::Away { why, remedy } => {
                    let remedy = if remedy.is_empty() { "see `proxy-shim status`" } else { remedy };
                    Err(Broken::new(format!("{} is away: {why}{backend}", view.upstream), remedy).not_now())
                }
            };
            out.push(Finding { link: "way out".to_owned(), result });
        }
        Err(e) => {
            let text = e.to_string();
            let (what, remedy) = text.rsplit_once("; ").unwrap_or((&text, "see its log"));
            let broken = Broken::new(what, remedy);
            let gone = matches!(e, ControlError::NotRunning(_) | ControlError::TimedOut(_));
            out.push(Finding {
                link: "control socket".into(),
                result: Err(if gone { broken.not_now() } else { broken }),
            });
        }
    }
    let way_out = answers && said.is_ok_and(|view| view.link.is_up());
    if way_out {
        out.extend(probes(config, port, deadline));
    } else if !config.probes.is_empty() {
        let result = Err(Broken::new("not tried: there is no way out", "mend what is above").not_now());
        out.push(Finding { link: "probes".to_owned(), result });
    }
    out
}

/// Where to connect to for what listens there.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

fn left(deadline: Instant) -> Duration {
    // Not zero, which sockets take for "no limit".
    deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
}

/// Whether a SOCKS5 proxy answers.
fn port_and_handshake(port: SocketAddr, within: Duration) -> Finding {
    let result = TcpStream::connect_timeout(&port, within).map_err(|e| {
        let remedy = "start it with `systemctl start cc-ci-tailscaled`, or `proxy-shim run`";
        let what = match e.kind() {
            ErrorKind::ConnectionRefused => "nothing listens there".to_owned(),
            _ => e.to_string(),
        };
        Broken::new(what, remedy).not_now()
    });
    Finding { link: format!("port {port}"), result: result.and_then(|stream| greeted(&stream, within)) }
}

fn greeted(mut stream: &TcpStream, within: Duration) -> Result<String, Broken> {
    let mute = || {
        let what = format!("it accepts, but does not answer a SOCKS greeting within {}", short_duration(within));
        Broken::new(what, "restart it: `systemctl restart cc-ci-tailscaled`")
    };
    let mut talk = || -> std::io::Result<[u8; 2]> {
        stream.set_read_timeout(Some(within))?;
        stream.write_all(&GREETING)?;
        let mut answer = [0; 2];
        stream.read_exact(&mut answer)?;
        Ok(answer)
    };
    let answer = talk().map_err(|_| mute().not_now())?;
    let mut answers = Answers::default();
    answers.feed(&answer);
    match answers.step() {
        Ok(Step::Ask) => Ok("it is there, and it is a SOCKS5 proxy".to_owned()),
        Ok(_) => Err(mute()),
        Err(e) => Err(Broken::new(e.to_string(), "set `listen` to another port, or end that program")),
    }
}

/// Each through the port, at the same time.
fn probes(config: &Config, port: SocketAddr, deadline: Instant) -> Vec<Finding> {
    let (tell, told) = mpsc::channel();
    for (name, probe) in &config.probes {
        let (tell, name, probe) = (tell.clone(), name.clone(), probe.clone());
        let within = config.probe_timeout.min(left(deadline));
        // Its end is the process's, or its timeout.
        thread::spawn(move || tell.send((name, through(port, &probe, within))));
    }
    drop(tell);
    let mut results = Vec::new();
    while let Ok(result) = told.recv_timeout(left(deadline)) {
        results.push(result);
    }
    let found = |name: &String, probe: &Probe| {
        let result = results.iter().find(|(of, _)| of == name).map(|(_, result)| result.clone());
        let result = result.unwrap_or_else(|| Err("no answer in time".to_owned()));
        let text = match probe.expect {
            Expect::Connection => "connected",
            Expect::FirstByte => "connected, and bytes came",
            Expect::Banner(_) => "connected, and it said what was expected",
        };
        let remedy = format!("see whether `{}` itself is up, and `proxy-shim status`", probe.target);
        let result = result.map(|()| text.to_owned()).map_err(|why| Broken::new(why, remedy));
        Finding { link: format!("probe {name} ({})", probe.target), result }
    };
    config.probes.iter().map(|(name, probe)| found(name, probe)).collect()
}

fn through(port: SocketAddr, probe: &Probe, within: Duration) -> Result<(), String> {
    let proxy = Target { host: Host::Ip(port.ip()), port: port.port() };
    let wanted = Wanted { proxy, target: probe.target.clone(), wait: Duration::ZERO, timeout: within };
    let began = Instant::now();
    let stream = dial(&wanted).map_err(|e| match e {
        ConnectError::Refused { words, .. } => words,
        // It holds the connection, since no probe passes.
        ConnectError::Mute { within, .. } => {
            format!("no connection through the port within {}", short_duration(within))
        }
        other => other.to_string(),
    })?;
    examine_blocking(probe, stream, within.saturating_sub(began.elapsed()))
}

fn examine_blocking(probe: &Probe, stream: TcpStream, within: Duration) -> Result<(), String> {
    let set_up = |e: std::io::Error| format!("preparing to wait for its answer: {e}");
    stream.set_nonblocking(true).map_err(set_up)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(set_up)?;
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::from_std(stream).map_err(set_up)?;
        let late = |_| "connected, but nothing came in time".to_owned();
        tokio::time::timeout(within, examine(probe, stream)).await.map_err(late)?
    })
}

//! One client: what it wants, whether it may, a way out to it, the relay. A client whose way out is away waits.

use crate::proxy::handshake::{Handshake, Next, Protocol};
use crate::proxy::network::{Meaning, may_be_away};
use crate::proxy::relay::{close_after_answer, relay};
use crate::proxy::socks::Code;
use crate::proxy::state::{Counted, State};
use crate::proxy::target::Target;
use crate::proxy::upstream::DialError;
use crate::support::units::short_duration;
use rustix::net::sockopt;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};

/// A peer that vanished without a word is noticed after idle + count × interval: two minutes.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(60), Duration::from_secs(15), 4);
/// Between two attempts while the way out is away: from this …
const FIRST_RETRY: Duration = Duration::from_millis(50);
/// … doubled up to this.
const LAST_RETRY: Duration = Duration::from_secs(1);
/// How much of a handshake is read at once.
const SOME: usize = 2048;

/// Serves one client to its end.
pub async fn serve(state: &State, mut client: TcpStream) {
    let _counted = Counted::new(&state.counts.open);
    state.counts.total.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    prepare(&client);
    let asked = timeout(state.config.handshake_timeout, handshake(&mut client));
    let (target, protocol, early) = match asked.await {
        Ok(Ok(Asked::For(target, protocol, early))) => (target, protocol, early),
        Ok(Ok(Asked::Nothing)) => return,
        Ok(Ok(Asked::Wrongly(answer, why))) => {
            state.failed(None, &why);
            answer_and_close(&mut client, &answer).await;
            return;
        }
        Ok(Err(_)) => return state.failed(None, "the client hung up in its handshake"),
        Err(_) => {
            let limit = short_duration(state.config.handshake_timeout);
            return state.failed(None, &format!("the client's handshake took longer than {limit}"));
        }
    };
    let refused = match &state.config.allow {
        Some(list) if !list.allows(&target) => {
            Some((Code::NotAllowed, format!("`{target}` is not in the proxy's `allow` list")))
        }
        _ => None,
    };
    let dialled = match refused {
        Some(refused) => Err(refused),
        None => tokio::select! {
            dialled = dial(state, &target) => dialled,
            // A client that is gone needs no way out.
            _ = client.ready(Interest::ERROR) => return state.failed(Some(&target), "the client hung up while it waited"),
        },
    };
    match dialled {
        Ok(server) => {
            prepare(&server);
            if client.write_all(&protocol.connected()).await.is_err() {
                return state.failed(Some(&target), "the client hung up before it was connected");
            }
            relay(client, server, early, state.config.idle_timeout, &state.bytes).await;
        }
        Err((code, words)) => {
            state.failed(Some(&target), &words);
            answer_and_close(&mut client, &protocol.failed(code, &words)).await;
        }
    }
}

enum Asked {
    For(Target, Protocol, Vec<u8>),
    Wrongly(Vec<u8>, String),
    /// It went without asking for anything, as a check of the port does.
    Nothing,
}

async fn handshake(client: &mut TcpStream) -> io::Result<Asked> {
    let mut handshake = Handshake::default();
    let mut buffer = [0; SOME];
    loop {
        match handshake.advance() {
            Next::Read => match client.read(&mut buffer).await? {
                0 if handshake.is_between_messages() => return Ok(Asked::Nothing),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => handshake.feed(&buffer[..n]),
            },
            Next::Write(bytes) => client.write_all(bytes).await?,
            Next::Open { target, protocol, early } => return Ok(Asked::For(target, protocol, early)),
            Next::Refuse { answer, fault } => return Ok(Asked::Wrongly(answer, fault.to_string())),
        }
    }
}

/// Connects, as often as it takes while the way out or its network is away, for `hold_for` at most.
async fn dial(state: &State, target: &Target) -> Result<TcpStream, (Code, String)> {
    let config = &state.config;
    let deadline = Instant::now() + config.hold_for;
    let mut waiting = None;
    let mut pause = FIRST_RETRY;
    loop {
        // Of a way out that answers for itself it is known when it is away; others are asked each time.
        if let Some(why) = state.known_away() {
            waiting.get_or_insert_with(|| Counted::new(&state.counts.waiting));
            tokio::select! {
                () = state.up() => {}
                () = sleep_until(deadline) => return Err(not_held_longer(state, &why)),
            }
        }
        let began = Instant::now();
        let at_last = match state.upstream.dial(target, config.handshake_timeout, config.dial_timeout).await {
            Ok(server) => return Ok(server),
            // What it says while it goes down is no answer about the destination.
            Err(DialError::Answer { code: Code::Failed, words: why }) if state.known_away().is_some() => {
                not_held_longer(state, &why)
            }
            Err(DialError::Answer { code, words }) => match meaning(state, code, began, deadline).await {
                Meaning::Destination | Meaning::Unknown => return Err((code, words)),
                Meaning::Back if Instant::now() < deadline => continue,
                // A network that comes and goes.
                Meaning::Back => return Err((code, words)),
                Meaning::Away => {
                    let waited = short_duration(config.hold_for);
                    (code, format!("{words}; no probe passes either, waited {waited}"))
                }
            },
            Err(DialError::Away(why)) => not_held_longer(state, &why),
        };
        if Instant::now() >= deadline {
            return Err(at_last);
        }
        waiting.get_or_insert_with(|| Counted::new(&state.counts.waiting));
        sleep_until(deadline.min(Instant::now() + pause)).await;
        pause = (pause * 2).min(LAST_RETRY);
    }
}

/// What a refusal means that just came. It may take a probe to know, and that is waited for.
async fn meaning(state: &State, code: Code, began: Instant, deadline: Instant) -> Meaning {
    let ended = Instant::now();
    // Without a probe nobody knows whether anything else can be reached.
    if !may_be_away(code) || state.config.probes.is_empty() || state.config.hold_for.is_zero() {
        return Meaning::Destination;
    }
    let mut network = state.network();
    let (began, ended) = (began.into_std(), ended.into_std());
    let known = network.wait_for(|network| match network.meaning(began, ended) {
        Meaning::Destination | Meaning::Back => true,
        Meaning::Away => {
            state.want_probes();
            true
        }
        Meaning::Unknown => {
            state.want_probes();
            false
        }
    });
    match tokio::time::timeout_at(deadline, known).await {
        // The sender is in `state`.
        Ok(Ok(network)) => network.meaning(began, ended),
        Ok(Err(_)) | Err(_) => Meaning::Unknown,
    }
}

fn not_held_longer(state: &State, why: &str) -> (Code, String) {
    let words = format!("the proxy has no way out, waited {}: {why}", short_duration(state.config.hold_for));
    (Code::Failed, words)
}

async fn answer_and_close(client: &mut TcpStream, answer: &[u8]) {
    // A client that does not want the answer needs none.
    if !answer.is_empty() && client.write_all(answer).await.is_ok() {
        close_after_answer(client).await;
    }
}

/// Small packets at once, and dead peers noticed. Without these a connection works too.
fn prepare(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let _ = sockopt::set_socket_keepalive(stream, true);
    let _ = sockopt::set_tcp_keepidle(stream, KEEPALIVE.0);
    let _ = sockopt::set_tcp_keepintvl(stream, KEEPALIVE.1);
    let _ = sockopt::set_tcp_keepcnt(stream, KEEPALIVE.2);
}

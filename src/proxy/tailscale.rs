//! What tailscale says and what follows from it: when to join, with or without the key, what to tell a person. Pure; the
//! programs are run by `serve::tailscale`.

use super::config::{AuthKey, TailscaleConfig};
use super::state::Link;
use serde::Deserialize;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// From `tailscale status --json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// `BackendState`.
    pub state: BackendState,
    /// Where a person can log in, while it waits for one.
    pub auth_url: Option<String>,
}

/// `BackendState`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackendState {
    /// It has just started.
    NoState,
    /// It has no login.
    NeedsLogin,
    /// An administrator has to let it in.
    NeedsMachineAuth,
    /// It has a login, and was told to stay down.
    Stopped,
    /// It comes up.
    Starting,
    /// It is up.
    Running,
    /// One that this version does not know.
    Other(String),
}

impl BackendState {
    /// As tailscale writes it.
    pub fn name(&self) -> &str {
        match self {
            Self::NoState => "NoState",
            Self::NeedsLogin => "NeedsLogin",
            Self::NeedsMachineAuth => "NeedsMachineAuth",
            Self::Stopped => "Stopped",
            Self::Starting => "Starting",
            Self::Running => "Running",
            Self::Other(name) => name,
        }
    }
}

/// Reads what `tailscale status --json` printed. Its exit code says nothing: it is 1 when stopped.
///
/// # Errors
/// When that is no status, in words.
pub fn read_status(json: &[u8]) -> Result<Backend, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Status {
        backend_state: String,
        #[serde(default, rename = "AuthURL")]
        auth_url: String,
    }
    // tailscale adds fields with nearly each version: those that are not known are left alone here.
    let status: Status = serde_json::from_slice(json).map_err(|e| format!("its status cannot be read: {e}"))?;
    let state = match status.backend_state.as_str() {
        "NoState" => BackendState::NoState,
        "NeedsLogin" => BackendState::NeedsLogin,
        "NeedsMachineAuth" => BackendState::NeedsMachineAuth,
        "Stopped" => BackendState::Stopped,
        "Starting" => BackendState::Starting,
        "Running" => BackendState::Running,
        other => BackendState::Other(other.to_owned()),
    };
    Ok(Backend { state, auth_url: (!status.auth_url.is_empty()).then_some(status.auth_url) })
}

/// Whether to say `tailscale up`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Join {
    /// No: it is up, comes up, or waits for a person. One that runs is never registered again.
    No,
    /// Yes, with the key: it has no login.
    WithKey,
    /// Yes, and its login is enough.
    WithoutKey,
}

/// Whether to say `tailscale up` in that state.
pub fn join(state: &BackendState, key: Option<&AuthKey>) -> Join {
    match state {
        BackendState::NeedsLogin if key.is_some() => Join::WithKey,
        BackendState::Stopped => Join::WithoutKey,
        BackendState::NeedsLogin
        | BackendState::NoState
        | BackendState::NeedsMachineAuth
        | BackendState::Starting
        | BackendState::Running
        | BackendState::Other(_) => Join::No,
    }
}

/// What clients and people are told. `refusal` is why the last attempt to join failed.
pub fn link(backend: &Backend, key: Option<&AuthKey>, refusal: Option<&str>, socket: &Path) -> Link {
    let away = |why: String, remedy: String| Link::Away { why, remedy };
    match &backend.state {
        BackendState::Running => Link::Up,
        BackendState::NoState | BackendState::Starting => Link::Starting { why: "tailscale comes up".to_owned() },
        BackendState::Stopped => match refusal {
            None => Link::Starting { why: "tailscale was stopped and is told to come up".to_owned() },
            Some(why) => away(format!("tailscale is stopped and did not come up: {why}"), "see its log".to_owned()),
        },
        BackendState::NeedsMachineAuth => {
            let remedy = "approve it in tailscale's admin console".to_owned();
            away("tailscale waits for an administrator to let this machine in".to_owned(), remedy)
        }
        BackendState::NeedsLogin => needs_login(backend, key, refusal, socket),
        BackendState::Other(name) => {
            away(format!("tailscale is in state `{name}`, which this version does not know"), "see its log".to_owned())
        }
    }
}

fn needs_login(backend: &Backend, key: Option<&AuthKey>, refusal: Option<&str>, socket: &Path) -> Link {
    match (key, refusal) {
        (Some(_), None) => Link::Starting { why: "tailscale joins its network".to_owned() },
        (Some(_), Some(why)) => Link::Away {
            why: format!("tailscale could not join: {why}"),
            remedy: "put a valid auth key in its place, it is tried again by itself".to_owned(),
        },
        (None, _) => {
            let by_hand = format!("run `tailscale --socket={} up` once", socket.display());
            let remedy = match &backend.auth_url {
                Some(url) => format!("log in at {url}, or set `auth_key_file`"),
                None => format!("{by_hand}, or set `auth_key_file`"),
            };
            Link::Away { why: "tailscale has no login".to_owned(), remedy }
        }
    }
}

/// Where the key is.
pub fn key_path(key: &AuthKey, credentials: Option<&OsStr>) -> Result<PathBuf, String> {
    match (key, credentials) {
        (AuthKey::File(path), _) => Ok(path.clone()),
        (AuthKey::Credential(name), Some(dir)) => Ok(Path::new(dir).join(name)),
        (AuthKey::Credential(name), None) => {
            Err(format!("there are no credentials: the unit needs `LoadCredential={name}:/path/of/the/key`"))
        }
    }
}

/// The daemon's arguments, program first.
pub fn daemon_argv(config: &TailscaleConfig, socket: &Path) -> Vec<OsString> {
    let mut argv: Vec<OsString> = config.tailscaled.iter().map(OsString::from).collect();
    argv.push("--tun=userspace-networking".into());
    argv.push(format!("--socks5-server={}", config.socks_address).into());
    argv.push(flag("--statedir=", &config.state_dir));
    argv.push(flag("--socket=", socket));
    argv
}

/// The arguments of `tailscale VERB …`, program first.
pub fn cli_argv(config: &TailscaleConfig, socket: &Path, rest: &[OsString]) -> Vec<OsString> {
    let mut argv: Vec<OsString> = config.tailscale.iter().map(OsString::from).collect();
    argv.push(flag("--socket=", socket));
    argv.extend_from_slice(rest);
    argv
}

/// `up` with all that is to be said: `--reset`, since it refuses when a flag of before is not repeated.
pub fn up_args(config: &TailscaleConfig, key: Option<&Path>) -> Vec<OsString> {
    let mut args: Vec<OsString> = vec!["up".into(), "--reset".into()];
    args.push(format!("--timeout={}s", config.join_timeout.as_secs().max(1)).into());
    // tailscale reads the key out of the file itself, so that it is in no argv and no environment.
    args.extend(key.map(|path| flag("--auth-key=file:", path)));
    args.extend(config.up_args.iter().map(OsString::from));
    args
}

fn flag(name: &str, value: &Path) -> OsString {
    let mut out = OsString::from(name);
    out.push(value);
    out
}

/// The last line of what a program complained of, fit for a status, without the key.
pub fn complaint(stderr: &[u8], key: &str) -> String {
    let text = String::from_utf8_lossy(stderr);
    let last = text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("it said nothing");
    let mut last = last.to_owned();
    if !key.is_empty() {
        last = last.replace(key, "[key]");
    }
    // What looks like a key is one, even if it is not ours.
    let words = last.split(' ').map(|word| if word.contains("tskey-") { "[key]" } else { word });
    let clean: String = words.collect::<Vec<_>>().join(" ").chars().filter(|c| !c.is_control()).take(300).collect();
    clean
}

/// Growing pauses between attempts.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    last: Duration,
    next: Duration,
}

impl Backoff {
    /// Nothing before the first attempt, `first` before the second, then doubled up to `last`.
    pub fn new(first: Duration, last: Duration) -> Self {
        Self { first, last, next: Duration::ZERO }
    }

    /// How long to wait before the next attempt.
    pub fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).clamp(self.first, self.last);
        pause
    }

    /// It worked.
    pub fn reset(&mut self) {
        self.next = Duration::ZERO;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, SocketAddr};

    fn config() -> TailscaleConfig {
        TailscaleConfig {
            tailscaled: vec!["tailscaled".into(), "--port=1".into()],
            tailscale: vec!["tailscale".into()],
            socks_address: SocketAddr::from((Ipv4Addr::LOCALHOST, 1056)),
            state_dir: "/var/lib/x".into(),
            auth_key: Some(AuthKey::File("/run/key".into())),
            up_args: vec!["--hostname=h".into(), "--accept-routes".into()],
            join_timeout: Duration::from_secs(60),
            restart_after: 3,
        }
    }

    fn words(argv: Vec<OsString>) -> String {
        argv.iter().map(|a| a.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn it_joins_only_when_it_has_no_login_or_is_stopped() {
        let key = AuthKey::File("/k".into());
        for (name, with, without) in [
            ("NoState", Join::No, Join::No),
            ("NeedsLogin", Join::WithKey, Join::No),
            ("NeedsMachineAuth", Join::No, Join::No),
            ("Stopped", Join::WithoutKey, Join::WithoutKey),
            ("Starting", Join::No, Join::No),
            ("Running", Join::No, Join::No),
            ("InUseOtherUser", Join::No, Join::No),
        ] {
            let json = format!(r#"{{"Version":"1.80","BackendState":"{name}","AuthURL":"","Self":{{"Online":true}}}}"#);
            let backend = read_status(json.as_bytes()).unwrap();
            assert_eq!(backend.state.name(), name);
            assert_eq!((join(&backend.state, Some(&key)), join(&backend.state, None)), (with, without), "{name}");
        }
        assert!(read_status(b"{}").is_err() && read_status(b"failed to connect").is_err());
    }

    #[test]
    fn only_running_is_up_and_whoever_must_act_is_told_how() {
        let link = |name: &str, url: &str, key: Option<&AuthKey>, refusal: Option<&str>| {
            let json = format!(r#"{{"BackendState":"{name}","AuthURL":"{url}"}}"#);
            link(&read_status(json.as_bytes()).unwrap(), key, refusal, Path::new("/s")).text()
        };
        let key = AuthKey::Credential("k".into());
        assert_eq!(link("Running", "", None, Some("x")), "up");
        assert_eq!(link("NeedsLogin", "", Some(&key), None), "starting: tailscale joins its network");
        assert_eq!(
            link("NeedsLogin", "", Some(&key), Some("invalid key")),
            "away: tailscale could not join: invalid key; put a valid auth key in its place, it is tried again by itself"
        );
        assert_eq!(
            link("NeedsLogin", "", None, None),
            "away: tailscale has no login; run `tailscale --socket=/s up` once, or set `auth_key_file`"
        );
        assert_eq!(
            link("NeedsLogin", "https://login/a", None, None),
            "away: tailscale has no login; log in at https://login/a, or set `auth_key_file`"
        );
        assert!(link("NeedsMachineAuth", "", None, None).ends_with("admin console"));
        assert!(link("Odd", "", None, None).contains("`Odd`"));
    }

    #[test]
    fn the_programs_get_every_flag_and_never_the_key_itself() {
        let socket = Path::new("/run/x/tailscaled.sock");
        assert_eq!(
            words(daemon_argv(&config(), socket)),
            "tailscaled --port=1 --tun=userspace-networking --socks5-server=127.0.0.1:1056 --statedir=/var/lib/x \
             --socket=/run/x/tailscaled.sock"
        );
        let up = cli_argv(&config(), socket, &up_args(&config(), Some(Path::new("/run/key"))));
        assert_eq!(
            words(up),
            "tailscale --socket=/run/x/tailscaled.sock up --reset --timeout=60s --auth-key=file:/run/key --hostname=h \
             --accept-routes"
        );
        assert!(!words(up_args(&config(), None)).contains("auth-key"));
    }

    #[test]
    fn a_credential_needs_a_unit_that_loads_it() {
        let key = AuthKey::Credential("name".into());
        assert_eq!(key_path(&key, Some(OsStr::new("/run/credentials/u"))), Ok("/run/credentials/u/name".into()));
        assert!(key_path(&key, None).unwrap_err().contains("LoadCredential=name:"));
    }

    #[test]
    fn a_complaint_is_its_last_line_without_any_key() {
        let said = b"warning\nbackend error: invalid key: secret123 (tskey-auth-abc) \x1b[0m\n\n";
        assert_eq!(complaint(said, "secret123"), "backend error: invalid key: [key] [key] [0m");
        assert_eq!(complaint(b"", "x"), "it said nothing");
    }

    #[test]
    fn pauses_grow_from_nothing_to_their_limit_and_begin_anew() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(5));
        let pauses: Vec<u64> = (0..6).map(|_| backoff.pause().as_secs()).collect();
        assert_eq!(pauses, [0, 1, 2, 4, 5, 5]);
        backoff.reset();
        assert_eq!(backoff.pause(), Duration::ZERO);
    }
}

//! The codex CLI of OpenAI: how it is started, resumed and told of its hooks, what these say, and how a refused turn looks
//! in its rollout file, which no hook tells. Tried with 0.169.0.

use super::{Adapter, Capabilities, Check, Evidence, Launch, LaunchRequest, Session, Signal};
use crate::support::clock;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// The adapter `codex`.
pub struct Codex;

/// Each hook that [`read`] makes something of, as its configuration and as its trust names it.
const HOOKS: [(&str, &str); 9] = [
    ("SessionStart", "session_start"),
    ("UserPromptSubmit", "user_prompt_submit"),
    ("PreToolUse", "pre_tool_use"),
    ("PostToolUse", "post_tool_use"),
    ("PermissionRequest", "permission_request"),
    ("PreCompact", "pre_compact"),
    ("Stop", "stop"),
    ("Interrupt", "interrupt"),
    ("SessionEnd", "session_end"),
];

/// How long a hook may hold up a turn, in seconds; the CLI allows SessionEnd no more. `supervisor event` gives up after one.
const HOOK_TIMEOUT: u32 = 3;

/// `codex login status` knows nothing of a provider that takes its key from the environment; `codex doctor` does.
const LOGIN_SCRIPT: &str = r#"
said=$("$0" doctor --json 2>/dev/null | sed -n '/"id": "auth.credentials"/,/"summary"/{
  s/^ *"status": "\(.*\)",$/\1/p
  s/^ *"summary": "\(.*\)",$/\1/p
}')
printf '%s\n' "$said" | sed 1d
[ "$(printf '%s\n' "$said" | head -n 1)" = ok ]
"#;

/// What a resumed session is told: it goes on by no other means, and says nothing before it has a prompt.
const RESUMED: &str = "You were restarted. Go on where you were.";

/// How much of a text is kept as evidence, in characters.
const EVIDENCE: usize = 300;

/// A reset further away than this is none: a week, and some slack.
const LONGEST: i64 = 8 * 24 * 3_600_000;

impl Adapter for Codex {
    fn name(&self) -> &'static str {
        "codex"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            resumes: true,
            names_session: true,
            own_program: true,
            takes_prompt: true,
            says_ready: true,
            acknowledges: true,
            evidence: Evidence::Records,
        }
    }

    fn launch(&self, request: &LaunchRequest) -> Launch {
        let mut argv = vec!["codex".to_owned()];
        if let Session::Resume { .. } = request.session {
            argv.push("resume".to_owned());
        }
        // The turn runs in this process and not in a server that all sessions of the user share.
        argv.push("--no-daemon".to_owned());
        for value in settings(request) {
            argv.extend(["-c".to_owned(), value]);
        }
        // After ours: of two values of one key the last one counts.
        argv.extend(request.args.iter().cloned());
        let prompt = match &request.session {
            Session::Fresh { .. } => request.prompt.iter().cloned().collect(),
            Session::Resume { uuid } => vec![uuid.clone(), RESUMED.to_owned()],
        };
        if !prompt.is_empty() {
            argv.push("--".to_owned());
            argv.extend(prompt);
        }
        Launch { argv, ..Launch::default() }
    }

    fn read_event(&self, event: &Value, _now: i64) -> Vec<Signal> {
        read(event)
    }

    fn clearing_keys(&self) -> &'static [&'static str] {
        // Not Escape: twice, it goes back to an earlier prompt.
        &["C-u"]
    }

    fn read_records(&self, records: &[Value], since: i64, now: i64) -> Vec<Signal> {
        refused(records, since, now)
    }

    fn checks(&self, launch: &Launch) -> Vec<Check> {
        let program = launch.argv.first().cloned().unwrap_or_default();
        let hook = launch.argv.iter().find_map(|arg| arg.strip_prefix("hooks.Stop="));
        let hook = hook.and_then(|text| toml::from_str::<toml::Table>(&format!("hook = {text}")).ok());
        let hook = hook.as_ref().and_then(|t| t["hook"].get(0)?.get("hooks")?.get(0)?.get("command")?.as_str());
        vec![
            Check::Runs {
                what: "the codex CLI",
                argv: vec![program.clone(), "--version".to_owned()],
                mend: "`npm install -g @openai/codex`, and have it in PATH of the session host".to_owned(),
            },
            Check::Runs {
                what: "its login",
                argv: ["sh", "-c", LOGIN_SCRIPT, &program].map(str::to_owned).to_vec(),
                mend: "run `codex login`, or name a `model_provider` with an `env_key` in its config.toml and put the key \
                       into its env file"
                    .to_owned(),
            },
            Check::HookReaches { command: hook.unwrap_or_default().to_owned() },
            Check::Folder { what: "its sessions", folder: of_user("sessions") },
        ]
    }
}

/// A path below the user's folder of the CLI.
fn of_user(path: &str) -> Vec<(String, PathBuf)> {
    vec![("CODEX_HOME".to_owned(), path.into()), ("HOME".to_owned(), Path::new(".codex").join(path))]
}

/// What is set for this start only, as `-c` takes it. Nothing is written into the user's files.
fn settings(request: &LaunchRequest) -> Vec<String> {
    let hook = hook_command(&request.supervisor);
    let mut settings = vec![
        "check_for_update_on_startup=false".to_owned(),
        // Its dialog would take the next text's Enter for a change of the model.
        "notice.hide_rate_limit_model_nudge=true".to_owned(),
        // Spares the dialog of a first start in a git repository.
        format!("projects={{{}={{trust_level=\"trusted\"}}}}", quoted(&request.workdir.to_string_lossy())),
    ];
    let command = quoted(&hook);
    settings.extend(HOOKS.iter().map(|(name, _)| {
        format!("hooks.{name}=[{{hooks=[{{type=\"command\",command={command},timeout={HOOK_TIMEOUT}}}]}}]")
    }));
    // The CLI runs no hook that its user has not seen; for these that is who wrote the loop's definition. Trust in any
    // other hook stays the user's own.
    let trust = HOOKS.iter().map(|(_, event)| {
        format!("\"/<session-flags>/config.toml:{event}:0:0\"={{trusted_hash=\"sha256:{}\"}}", hook_hash(event, &hook))
    });
    settings.push(format!("hooks.state={{{}}}", trust.collect::<Vec<_>>().join(",")));
    settings
}

/// What the CLI compares a hook with: SHA-256 of its definition as JSON, keys in order.
fn hook_hash(event: &str, command: &str) -> String {
    let hook = json!({ "async": false, "command": command, "timeout": HOOK_TIMEOUT, "type": "command" });
    let definition = json!({ "event_name": event, "hooks": [hook] });
    Sha256::digest(definition.to_string()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A string as TOML has it; JSON's escapes are a part of TOML's.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// What a hook runs, as a shell takes it. By absolute path: PATH is the agent's to change.
fn hook_command(supervisor: &Path) -> String {
    format!("'{}' event", supervisor.to_string_lossy().replace('\'', r"'\''"))
}

/// Reads the JSON of a hook. Anything may be missing or of another type.
fn read(event: &Value) -> Vec<Signal> {
    let text = |key: &str| event.get(key).and_then(Value::as_str).unwrap_or_default();
    match text("hook_event_name") {
        "SessionStart" => {
            let transcript = Some(text("transcript_path")).filter(|path| !path.is_empty()).map(Into::into);
            let uuid = Some(text("session_id")).filter(|uuid| !uuid.is_empty()).map(str::to_owned);
            let session = uuid.map(|uuid| Signal::Session { uuid, transcript });
            // Compaction begins a session in the middle of a turn.
            let ready = if text("source") == "compact" { Signal::Alive } else { Signal::Ready };
            session.into_iter().chain([ready]).collect()
        }
        "UserPromptSubmit" => vec![Signal::PromptAccepted],
        "PreToolUse" if text("tool_name") == "request_user_input" => {
            vec![Signal::NeedsPerson { what: "it asks a question".to_owned() }]
        }
        "PreToolUse" => vec![Signal::ToolStarted],
        "PostToolUse" => vec![Signal::ToolEnded],
        "PermissionRequest" => {
            vec![Signal::NeedsPerson { what: format!("it asks for a permission ({})", text("tool_name")) }]
        }
        "Stop" => vec![Signal::TurnEnded],
        // By a person, and no proof that the account works.
        "Interrupt" => vec![Signal::ToolEnded, Signal::Waiting],
        "PreCompact" if text("trigger") == "auto" => vec![Signal::ContextFull],
        // The next session begins at once, in the same process.
        "SessionEnd" if matches!(text("reason"), "clear" | "resume") => vec![],
        "SessionEnd" => vec![Signal::Ending],
        _ => vec![Signal::Alive],
    }
}

/// How the last turn ended, if it was refused: no hook tells that.
fn refused(records: &[Value], since: i64, now: i64) -> Vec<Signal> {
    let kind = |record: &Value| record.pointer("/payload/type").and_then(Value::as_str).map(str::to_owned);
    let turns = |record: &&Value| {
        record["type"] == "event_msg"
            && matches!(kind(record).as_deref(), Some("task_started" | "task_complete" | "turn_aborted"))
    };
    let Some(last) = records.iter().rev().find(turns) else { return Vec::new() };
    let Some(error) = last.pointer("/payload/error").filter(|error| !error.is_null()) else { return Vec::new() };
    let Some(at) = last["timestamp"].as_str().and_then(clock::parse_time).filter(|at| *at > since) else {
        return Vec::new();
    };
    let text: String = error["message"].as_str().unwrap_or_default().chars().take(EVIDENCE).collect();
    let info = &error["codex_error_info"];
    let code = info.as_str().or_else(|| info.as_object()?.keys().next().map(String::as_str)).unwrap_or_default();
    let status = info.as_object().and_then(|o| o.values().next()?.get("http_status_code")?.as_i64());
    let lower = text.to_lowercase();
    match (code, status) {
        // An empty purse does not fill by waiting.
        ("usage_limit_exceeded", _) if lower.contains("quota exceeded") || lower.contains("out of credits") => {
            vec![Signal::NeedsPerson { what: text }]
        }
        ("usage_limit_exceeded", _) => {
            let believed = |reset: &i64| *reset > at && *reset <= at.saturating_add(LONGEST);
            match window(records).or_else(|| told(&text, at)).filter(believed) {
                Some(reset) if reset <= now => vec![Signal::Waiting],
                resets_at => vec![Signal::UsageLimit { resets_at, evidence: text }],
            }
        }
        ("unauthorized", _) | (_, Some(401)) => vec![Signal::LoggedOut { evidence: text }],
        ("context_window_exceeded", _) => vec![Signal::TurnEnded, Signal::ContextFull],
        (
            "server_overloaded"
            | "internal_server_error"
            | "http_connection_failed"
            | "response_stream_connection_failed"
            | "response_stream_disconnected"
            | "response_too_many_failed_attempts",
            _,
        ) => vec![Signal::Overloaded],
        _ => vec![Signal::NeedsPerson { what: format!("its turn failed: {text}") }],
    }
}

/// The latest reset of the windows that are used up, in milliseconds since the Unix epoch.
fn window(records: &[Value]) -> Option<i64> {
    let limits = records.iter().rev().find_map(|record| record.pointer("/payload/rate_limits"))?;
    let full = |window: &&Value| window["used_percent"].as_f64().is_some_and(|used| used >= 100.0);
    let windows = ["primary", "secondary"].into_iter().filter_map(|name| limits.get(name));
    windows.filter(full).filter_map(|window| window["resets_at"].as_i64()?.checked_mul(1000)).max()
}

/// `… try again at 6:17 PM.`, or `… at Nov 24th, 2026 6:17 PM.`, in the machine's zone; rounded up to the minute's end.
fn told(text: &str, at: i64) -> Option<i64> {
    let said = text.split_once("try again at ")?.1.trim().trim_end_matches('.');
    let zone = TimeZone::system();
    let end = |at: DateTime| Some(zone.to_zoned(at).ok()?.timestamp().as_millisecond() + 60_000);
    if let Ok(time) = jiff::civil::Time::strptime("%I:%M %p", said) {
        let today = Timestamp::from_millisecond(at).ok()?.to_zoned(zone.clone()).date();
        let first = end(today.to_datetime(time))?;
        return if first > at { Some(first) } else { end(today.checked_add(1.day()).ok()?.to_datetime(time)) };
    }
    let plain = ["st,", "nd,", "rd,", "th,"].iter().fold(said.to_owned(), |text, suffix| text.replace(suffix, ","));
    end(DateTime::strptime("%b %d, %Y %I:%M %p", plain).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::agents::Prompt;

    /// 2026-11-22 18:15:52 UTC.
    const NOW: i64 = 1_795_371_352_000;
    const LIMIT: &str = "You’ve hit your usage limit. Upgrade to Pro (https://x) or try again at 6:17 PM.";

    fn argv(session: Session) -> Vec<String> {
        let request = LaunchRequest {
            command: Vec::new(),
            args: vec!["--search".to_owned()],
            prompt: matches!(session, Session::Fresh { .. }).then(|| "- do it".to_owned()),
            session,
            runtime_dir: "/run/x/session/builder".into(),
            supervisor: "/opt/it's/supervisor".into(),
            workdir: "/ws/a \"clone\"".into(),
        };
        Codex.launch(&request).argv
    }

    fn fresh() -> Vec<String> {
        argv(Session::Fresh { uuid: "u-1".into(), prompt: Prompt::Kickoff })
    }

    #[test]
    fn a_fresh_session_gets_its_prompt_and_a_resumed_one_its_uuid_and_a_word_to_go_on() {
        let args = fresh();
        assert_eq!(args[..2], ["codex", "--no-daemon"]);
        assert_eq!(args[args.len() - 3..], ["--search", "--", "- do it"]);
        assert!(!args.contains(&"u-1".to_owned()), "it would be no session's");
        let args = argv(Session::Resume { uuid: "u-1".into() });
        assert_eq!(args[..3], ["codex", "resume", "--no-daemon"]);
        assert_eq!(args[args.len() - 4..], ["--search", "--", "u-1", RESUMED]);
        assert!(!args.iter().any(|arg| arg.starts_with("--dangerously")));
    }

    #[test]
    fn every_setting_is_toml_and_every_hook_calls_the_supervisor_and_is_trusted() {
        let args = fresh();
        let text: String = args.iter().filter(|arg| arg.contains('=')).map(|arg| format!("{arg}\n")).collect();
        let table: toml::Table = toml::from_str(&text).unwrap();
        assert_eq!(table["projects"]["/ws/a \"clone\""]["trust_level"].as_str(), Some("trusted"));
        for (name, event) in HOOKS {
            let hook = &table["hooks"][name][0]["hooks"][0];
            assert_eq!(hook["command"].as_str(), Some(r"'/opt/it'\''s/supervisor' event"), "{name}");
            let trust = &table["hooks"]["state"][&format!("/<session-flags>/config.toml:{event}:0:0")];
            assert!(trust["trusted_hash"].as_str().unwrap().starts_with("sha256:"));
        }
    }

    #[test]
    fn the_hash_of_a_hook_is_the_one_that_the_cli_computes() {
        // As `hooks/list` of its app server told it.
        let definition = r#"{"event_name":"pre_tool_use","hooks":[{"async":false,"command":"/tmp/cx/hook.sh","timeout":5,"type":"command"}]}"#;
        let told: String = Sha256::digest(definition).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(told, "6d5919a81f5e045abbaea1507501879ffbdb18b1119c12909c0737b59e2c76da");
        let ours = definition.replace("\"timeout\":5", "\"timeout\":3");
        let ours: String = Sha256::digest(ours).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hook_hash("pre_tool_use", "/tmp/cx/hook.sh"), ours);
    }

    #[test]
    fn its_hooks_tell_of_its_session_and_its_turns() {
        let hook = |name: &str| read(&json!({ "hook_event_name": name, "session_id": "u", "transcript_path": "/h/u" }));
        let session = Signal::Session { uuid: "u".into(), transcript: Some("/h/u".into()) };
        assert_eq!(hook("SessionStart"), [session, Signal::Ready]);
        assert_eq!(hook("UserPromptSubmit"), [Signal::PromptAccepted]);
        assert_eq!(hook("PreToolUse"), [Signal::ToolStarted]);
        assert_eq!(hook("PostToolUse"), [Signal::ToolEnded]);
        assert_eq!(hook("Stop"), [Signal::TurnEnded]);
        assert_eq!(hook("Interrupt"), [Signal::ToolEnded, Signal::Waiting]);
        assert_eq!(hook("SessionEnd"), [Signal::Ending]);
        assert!(matches!(&hook("PermissionRequest")[..], [Signal::NeedsPerson { .. }]));
        let full = json!({ "hook_event_name": "PreCompact", "trigger": "auto" });
        assert_eq!(read(&full), [Signal::ContextFull]);
        assert_eq!(hook("PreCompact"), [Signal::Alive]);
        for event in [json!(null), json!([]), json!({ "hook_event_name": 7 })] {
            assert_eq!(read(&event), [Signal::Alive]);
        }
    }

    fn ended(error: Value) -> Value {
        json!({ "timestamp": "2026-11-22T18:15:50.068Z", "type": "event_msg",
            "payload": { "type": "task_complete", "error": error } })
    }

    fn failed(info: Value, text: &str) -> Vec<Signal> {
        refused(&[ended(json!({ "message": text, "codex_error_info": info }))], 0, NOW)
    }

    #[test]
    fn a_usage_limit_has_the_reset_of_its_full_window_else_that_of_its_text() {
        let window = |five: f64, week: f64| {
            json!({ "type": "event_msg", "payload": { "type": "token_count", "rate_limits": {
                "primary": { "used_percent": five, "resets_at": 1_795_371_440 },
                "secondary": { "used_percent": week, "resets_at": 1_795_451_112 } } } })
        };
        let error = ended(json!({ "message": LIMIT, "codex_error_info": "usage_limit_exceeded" }));
        let of = |records: &[Value]| match &refused(records, 0, NOW)[..] {
            [Signal::UsageLimit { resets_at, evidence }] if evidence == LIMIT => *resets_at,
            other => panic!("{other:?}"),
        };
        assert_eq!(of(&[window(100.0, 40.0), error.clone()]), Some(1_795_371_440_000));
        assert_eq!(of(&[window(100.0, 100.0), error.clone()]), Some(1_795_451_112_000), "the latest");
        let told_at = |text: &str| told(text, NOW).map(|at| (at - NOW) / 60_000);
        let here = Timestamp::from_millisecond(NOW).unwrap().to_zoned(TimeZone::system());
        let later = (&here + 95.minutes()).strftime("%-I:%M %p").to_string();
        assert_eq!(told_at(&format!("or try again at {later}.")), Some(95));
        let later = (&here + 95.minutes()).strftime("%b %-dnd, %Y %-I:%M %p").to_string();
        assert_eq!(told_at(&format!("or try again at {later}.")), Some(95));
        assert_eq!(told_at("try again later."), None);
        assert_eq!(refused(&[window(100.0, 40.0), error], 0, NOW + 3_600_000), [Signal::Waiting], "it is over");
    }

    #[test]
    fn each_failure_is_told_from_the_others() {
        assert_eq!(failed(json!("server_overloaded"), "at capacity"), [Signal::Overloaded]);
        let status = |status: u16| json!({ "http_connection_failed": { "http_status_code": status } });
        assert_eq!(failed(status(401), "x"), [Signal::LoggedOut { evidence: "x".into() }]);
        assert_eq!(failed(json!("unauthorized"), "x"), [Signal::LoggedOut { evidence: "x".into() }]);
        assert_eq!(failed(status(502), "x"), [Signal::Overloaded]);
        assert_eq!(failed(json!("context_window_exceeded"), "x"), [Signal::TurnEnded, Signal::ContextFull]);
        for (info, text) in [(json!("usage_limit_exceeded"), "Quota exceeded. Check your plan"), (json!("other"), "x")]
        {
            assert!(matches!(&failed(info, text)[..], [Signal::NeedsPerson { .. }]), "{text}");
        }
    }

    #[test]
    fn an_older_turn_and_one_that_goes_on_say_nothing() {
        let error = ended(json!({ "message": LIMIT, "codex_error_info": "usage_limit_exceeded" }));
        assert_eq!(refused(std::slice::from_ref(&error), NOW, NOW), [], "before this turn");
        let begun = json!({ "type": "event_msg", "payload": { "type": "task_started" } });
        assert_eq!(refused(&[error, begun], 0, NOW), []);
        assert_eq!(refused(&[ended(Value::Null)], 0, NOW), []);
        assert_eq!(refused(&[], 0, NOW), []);
    }
}

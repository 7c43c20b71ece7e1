//! The claude CLI: how it is started, resumed and told of its hooks. What it tells is read in [`events`], the texts of
//! its refusals in [`refusal`], which the [`transcript`] and the [`screen`] have too. Tried with 2.1.197.

mod events;
mod refusal;
mod screen;
mod transcript;

use super::{Adapter, Capabilities, Check, Evidence, Launch, LaunchRequest, Seed, Session, Signal};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// The adapter `claude`.
pub struct Claude;

/// Each hook that [`events::read`] makes something of. `PostToolUse` does not come for a tool that fails.
const HOOKS: [&str; 10] = [
    "SessionStart",
    "UserPromptSubmit",
    "PreToolUse",
    "PostToolUse",
    "PostToolUseFailure",
    "Stop",
    "StopFailure",
    "Notification",
    "PreCompact",
    "SessionEnd",
];

/// How long a hook may hold up a turn, in seconds; `supervisor event` gives up after one.
const HOOK_TIMEOUT: u32 = 5;

/// What makes a session resumable and keeps it from changing under the supervisor. No secrets.
const ENVIRONMENT: [(&str, &str); 4] = [
    // Transcripts are written whatever else the environment says: without one nothing can be resumed.
    ("CLAUDE_CODE_FORCE_SESSION_PERSISTENCE", "1"),
    // A turn that a death has cut goes on by itself after `--resume`.
    ("CLAUDE_CODE_RESUME_INTERRUPTED_TURN", "1"),
    ("DISABLE_AUTOUPDATER", "1"),
    ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
];

impl Adapter for Claude {
    fn name(&self) -> &'static str {
        "claude"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            resumes: true,
            names_session: false,
            own_program: true,
            takes_prompt: true,
            says_ready: true,
            acknowledges: true,
            evidence: Evidence::RecordsAndScreen,
        }
    }

    fn launch(&self, request: &LaunchRequest) -> Launch {
        let settings = request.runtime_dir.join("claude-settings.json");
        let mut argv = vec!["claude".to_owned()];
        match &request.session {
            Session::Fresh { uuid, .. } => argv.extend(["--session-id".to_owned(), uuid.clone()]),
            // Not `--continue`: the newest session of the folder may be another loop's.
            Session::Resume { uuid } => argv.extend(["--resume".to_owned(), uuid.clone()]),
        }
        argv.extend(["--settings".to_owned(), settings.to_string_lossy().into_owned()]);
        argv.extend(request.args.iter().cloned());
        if let Some(prompt) = &request.prompt {
            // Some options take any number of values, and a prompt may begin with a dash.
            argv.extend(["--".to_owned(), prompt.clone()]);
        }
        let hook = hook_command(&request.supervisor);
        Launch {
            argv,
            env: ENVIRONMENT.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            files: vec![(settings, format!("{:#}\n", self::settings(&hook)))],
            seeds: seeds(&request.workdir, &request.args),
        }
    }

    fn read_event(&self, event: &Value, now: i64) -> Vec<Signal> {
        events::read(event, now)
    }

    fn read_records(&self, records: &[Value], since: i64, now: i64) -> Vec<Signal> {
        transcript::read(records, since, now)
    }

    fn took_within_turn(&self, records: &[Value], text: &str, since: i64) -> bool {
        transcript::took_within_turn(records, text, since)
    }

    fn read_screen(&self, screen: &str, now: i64) -> Vec<Signal> {
        screen::read(screen, now)
    }

    fn clearing_keys(&self) -> &'static [&'static str] {
        // Escape leaves the dialog that comes with a usage limit ("1. Stop and wait"), which eats every text (tried);
        // C-u empties the line that a text was typed into and never sent from.
        &["Escape", "C-u"]
    }

    fn checks(&self, launch: &Launch) -> Vec<Check> {
        let program = launch.argv.first().cloned().unwrap_or_default();
        let hook = launch.files.first().and_then(|(_, text)| serde_json::from_str::<Value>(text).ok());
        let hook = hook.as_ref().and_then(|settings| settings["statusLine"]["command"].as_str()).unwrap_or_default();
        vec![
            Check::Runs {
                what: "the claude CLI",
                argv: vec![program.clone(), "--version".to_owned()],
                mend: "`npm install -g @anthropic-ai/claude-code`, and have it in PATH of the session host".to_owned(),
            },
            Check::Runs {
                what: "its login",
                argv: vec![program, "auth".to_owned(), "status".to_owned()],
                mend: "put CLAUDE_CODE_OAUTH_TOKEN (from `claude setup-token`) into its env file, or run `claude` and \
                       /login"
                    .to_owned(),
            },
            Check::HookReaches { command: hook.to_owned() },
            Check::Folder { what: "its transcripts", folder: of_user("projects") },
        ]
    }
}

/// A path below the user's folder of the CLI.
fn of_user(path: &str) -> Vec<(String, PathBuf)> {
    vec![("CLAUDE_CONFIG_DIR".to_owned(), path.into()), ("HOME".to_owned(), Path::new(".claude").join(path))]
}

/// `~/.claude.json`, which moves into the folder when a variable names one.
fn state_file() -> Vec<(String, PathBuf)> {
    vec![("CLAUDE_CONFIG_DIR".to_owned(), ".claude.json".into()), ("HOME".to_owned(), ".claude.json".into())]
}

/// Answers to the dialogs of a first start.
fn seeds(workdir: &Path, args: &[String]) -> Vec<Seed> {
    let seed = |file: Vec<(String, PathBuf)>, keys: &[&str]| Seed {
        file,
        keys: keys.iter().map(|key| (*key).to_owned()).collect(),
        value: json!(true),
    };
    let workdir = workdir.to_string_lossy();
    let mut seeds = vec![
        seed(state_file(), &["hasCompletedOnboarding"]),
        seed(state_file(), &["projects", &workdir, "hasTrustDialogAccepted"]),
    ];
    // Only for whom the loop's own arguments ask for it.
    let skips = |arg: &String| arg == "--dangerously-skip-permissions" || arg.contains("bypassPermissions");
    if args.iter().any(skips) {
        seeds.push(seed(of_user("settings.json"), &["skipDangerousModePermissionPrompt"]));
    }
    seeds
}

/// The settings that `--settings` adds to the user's own.
fn settings(hook: &str) -> Value {
    let of_hook = json!([{ "hooks": [{ "type": "command", "command": hook, "timeout": HOOK_TIMEOUT }] }]);
    let hooks: serde_json::Map<String, Value> =
        HOOKS.iter().map(|name| ((*name).to_owned(), of_hook.clone())).collect();
    json!({ "hooks": hooks, "statusLine": { "type": "command", "command": hook } })
}

/// What a hook runs, as a shell takes it. By absolute path: PATH is the agent's to change.
fn hook_command(supervisor: &Path) -> String {
    format!("'{}' event", supervisor.to_string_lossy().replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::agents::Prompt;

    fn request(session: Session, args: &[&str]) -> LaunchRequest {
        LaunchRequest {
            command: Vec::new(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            prompt: matches!(session, Session::Fresh { .. }).then(|| "- do it".to_owned()),
            session,
            runtime_dir: "/run/x/session/builder".into(),
            supervisor: "/opt/it's/supervisor".into(),
            workdir: "/ws/clone".into(),
        }
    }

    #[test]
    fn a_fresh_session_has_its_own_uuid_and_its_prompt_last() {
        let fresh = Session::Fresh { uuid: "u-1".into(), prompt: Prompt::Kickoff };
        let launch = Claude.launch(&request(fresh, &["--remote-control", "builder"]));
        let settings = "/run/x/session/builder/claude-settings.json";
        assert_eq!(
            launch.argv,
            ["claude", "--session-id", "u-1", "--settings", settings, "--remote-control", "builder", "--", "- do it"]
        );
        assert_eq!(launch.files[0].0, Path::new(settings));
    }

    #[test]
    fn a_session_is_resumed_by_its_uuid_and_given_no_prompt() {
        let launch = Claude.launch(&request(Session::Resume { uuid: "u-1".into() }, &[]));
        assert_eq!(launch.argv[..3], ["claude", "--resume", "u-1"]);
        assert_eq!(launch.argv.len(), 5);
    }

    #[test]
    fn every_hook_and_the_status_line_call_the_supervisor_by_its_quoted_path() {
        let launch = Claude.launch(&request(Session::Resume { uuid: "u-1".into() }, &[]));
        let settings: Value = serde_json::from_str(&launch.files[0].1).unwrap();
        assert_eq!(settings["statusLine"]["command"], r"'/opt/it'\''s/supervisor' event");
        for hook in HOOKS {
            assert_eq!(settings["hooks"][hook][0]["hooks"][0]["command"], r"'/opt/it'\''s/supervisor' event", "{hook}");
        }
    }

    #[test]
    fn permissions_are_skipped_only_where_the_loop_says_so() {
        let resume = || Session::Resume { uuid: "u-1".into() };
        let plain = Claude.launch(&request(resume(), &[]));
        assert!(!plain.argv.iter().any(|arg| arg.contains("dangerously")));
        assert!(!plain.seeds.iter().any(|seed| seed.keys.concat().contains("Dangerous")));
        let skips = Claude.launch(&request(resume(), &["--dangerously-skip-permissions"]));
        assert!(skips.seeds.iter().any(|seed| seed.keys == ["skipDangerousModePermissionPrompt"]));
        assert!(skips.seeds.iter().any(|seed| seed.keys == ["projects", "/ws/clone", "hasTrustDialogAccepted"]));
    }
}

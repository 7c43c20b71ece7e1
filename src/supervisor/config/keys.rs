//! Every key that a config can have: one list for the reader, for "did you mean" and for docs/config.md.

use crate::support::config::keys::key;
pub use crate::support::config::keys::{Key, Table};

/// The top level.
pub const TOP: Table = Table {
    header: "",
    keys: &[
        key("workspace", "absolute path", "required", r#""/srv/cc-ci""#),
        key("state_dir", "absolute path", r#""/var/lib/cc-ci-orchestrator""#, r#""/var/lib/cc-ci-orchestrator""#),
        key("runtime_dir", "absolute path", r#""/run/cc-ci-orchestrator""#, r#""/run/cc-ci-orchestrator""#),
        key("host", "`systemd` or `direct`", r#""direct""#, r#""systemd""#),
        key("notify", "argv", "[]", r#"["/run/current-system/sw/bin/ntfy-send"]"#),
        key("min_free_memory", "size", r#""0B""#, r#""300M""#),
        key("start_stagger", "duration", r#""5s""#, r#""5s""#),
        key("phases", "table", "none", r#"{ plans = ["cc-ci-plan/plan-1.md"] }"#),
        key("loops", "tables by name", "required", r#"{ health = { agent = "command", command = ["./watch.sh"] } }"#),
        key("needs", "tables by name", "none", r#"{ proxy = { tcp = "127.0.0.1:1055" } }"#),
    ],
};

/// `[phases]`.
pub const PHASES: Table = Table {
    header: "[phases]",
    keys: &[
        key("index_file", "path", r#"".cc-ci-logs/.phase-idx""#, r#"".cc-ci-logs/.phase-idx""#),
        key("plans", "list of paths", "required", r#"["cc-ci-plan/plan-1.md", "cc-ci-plan/plan-2.md"]"#),
        key("advance_on", "`gate-pass` or `manual`", r#""gate-pass""#, r#""manual""#),
        key("gate_patience", "duration", r#""1h""#, r#""1h""#),
    ],
};

/// `[loops.NAME]`.
pub const LOOP: Table = Table {
    header: "[loops.NAME]",
    keys: &[
        key("agent", "name of an adapter", "required", r#""command""#),
        key("command", "argv", "required unless the agent brings its own program", r#"["./watch.sh"]"#),
        key("args", "argv", "[]", r#"["--remote-control", "{loop}"]"#),
        key("workdir", "path", "required", r#""cc-ci""#),
        key("kickoff", "path", "none", r#""cc-ci-plan/prompts/builder.md""#),
        key("handoff", "path", "the kickoff", r#""cc-ci-plan/prompts/builder-handoff.md""#),
        key("env_files", "list of paths", "[]", r#"[".testenv"]"#),
        key("needs", "list of names", "[]", r#"["secrets", "proxy"]"#),
        key("account", "name", r#""default""#, r#""default""#),
        key("role", "`claims` or `verifies`", "none", r#""claims""#),
        key("follows_phases", "`true` or `false`", "`true` when there is `[phases]`", "false"),
        key("on_phase", "`nudge` or `restart`", r#""nudge""#, r#""restart""#),
        key("stall_after", "duration", "none", r#""30m""#),
        key("stable_after", "duration", r#""10m""#, r#""10m""#),
        key("attention_after", "duration", r#""5m""#, r#""5m""#),
        key("crash_loop", "table", r#"{ deaths = 5, within = "15m" }"#, r#"{ deaths = 5, within = "15m" }"#),
        key("stop_timeout", "duration", r#""10s""#, r#""10s""#),
        key("restart_above", "size", "none", r#""1500M""#),
        key("on_change", "`next-start`, `turn-end` or `now`", r#""next-start""#, r#""turn-end""#),
        key("on_idle", "table", "none", r#"{ nudge = "go on with {plan}", after = "2m" }"#),
    ],
};

/// `crash_loop` of a loop.
pub const CRASH_LOOP: Table = Table {
    header: "crash_loop",
    keys: &[key("deaths", "whole number", "5", "5"), key("within", "duration", r#""15m""#, r#""15m""#)],
};

/// `on_idle` of a loop.
pub const ON_IDLE: Table = Table {
    header: "on_idle",
    keys: &[
        key("nudge", "text", "required", r#""go on with {plan}""#),
        key("after", "duration", "required", r#""2m""#),
    ],
};

/// `[needs.NAME]`, of which each has exactly one key.
pub const NEED: Table = Table {
    header: "[needs.NAME]",
    keys: &[
        key("command", "argv", "none", r#"["proxy-shim", "check", "--quiet"]"#),
        key("unit", "name of a systemd unit", "none", r#""cc-ci-secrets.service""#),
        key("tcp", "`host:port`", "none", r#""127.0.0.1:1055""#),
        key("file", "path", "none", r#"".testenv""#),
    ],
};

/// All of them.
pub const TABLES: &[&Table] = &[&TOP, &PHASES, &LOOP, &CRASH_LOOP, &ON_IDLE, &NEED];

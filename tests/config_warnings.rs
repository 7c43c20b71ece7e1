//! The whole text of what an operator is warned of in a config that is taken. One test a kind of fault; the texts are the contract.

#[macro_use]
mod config_kit;

use config_kit::warned;

cases! { warned
    what_can_never_happen_is_warned_of:
r#"workspace = "/w"

[loops.a]
agent = "pilot"
workdir = "a"
stall_after = "1m"
on_idle = { nudge = "go on", after = "2m" }
crash_loop = { deaths = 20, within = "15m" }
"#
=>
r#"warning: `on_idle.after` is not below `stall_after`: the loop counts as stalled first
 --> s.toml:7:38
  |
7 | on_idle = { nudge = "go on", after = "2m" }
  |                                      ^^^^
  = help: make `after` shorter or `stall_after` longer

warning: 20 deaths never come within this time: the waits between the restarts alone take 1h 37m
 --> s.toml:8:38
  |
8 | crash_loop = { deaths = 20, within = "15m" }
  |                                      ^^^^^
  = help: make `within` longer or `deaths` fewer; without it a crash loop is never noticed"#;

    loops_that_share_a_workdir_are_warned_of:
r#"workspace = "/w"

[loops.a]
agent = "pilot"
workdir = "a"

[loops.b]
agent = "pilot"
workdir = "./a/"
"#
=>
r#"warning: `b` and `a` have the same workdir, so they edit the same files
 --> s.toml:9:11
  |
9 | workdir = "./a/"
  |           ^^^^^^
  = help: give each its own clone"#;

    a_need_that_nobody_has_is_warned_of:
r#"workspace = "/w"

[loops.a]
agent = "pilot"
workdir = "a"

[needs.proxy]
tcp = "127.0.0.1:1055"
"#
=>
r#"warning: no loop needs `proxy`
 --> s.toml:7:8
  |
7 | [needs.proxy]
  |        ^^^^^
  = help: add it to a loop's `needs`, or take `[needs.proxy]` out"#;

    gates_without_roles_are_warned_of:
r#"workspace = "/w"

[loops.a]
agent = "pilot"
workdir = "a"
role = "claims"

[phases]
plans = ["p.md"]
"#
=>
r#"warning: phases advance by passed gates, but no loop has `role = "verifies"`
 --> s.toml:8:2
  |
8 | [phases]
  |  ^^^^^^
  = help: give a loop the role, or write `advance_on = "manual"`; else only the operator moves the phase"#;

    phases_that_nobody_follows_are_warned_of:
r#"workspace = "/w"

[loops.a]
agent = "pilot"
workdir = "a"
follows_phases = false

[phases]
plans = ["p1.md", "p2.md"]
advance_on = "manual"
"#
=>
r#"warning: no loop follows `[phases]`
 --> s.toml:8:2
  |
8 | [phases]
  |  ^^^^^^
  = help: take `follows_phases = false` out of a loop, or take `[phases]` out"#;

    a_state_dir_in_memory_is_warned_of:
r#"state_dir = "/run/x"
workspace = "/w"

[loops.a]
agent = "pilot"
workdir = "a"
"#
=>
r#"warning: `state_dir` is in memory: after a reboot no loop knows where it was
 --> s.toml:1:13
  |
1 | state_dir = "/run/x"
  |             ^^^^^^^^
  = help: keep it on a disk: `/var/lib/cc-ci-orchestrator`"#;

    an_agent_without_prompts_is_warned_of:
r#"workspace = "/w"

[loops.a]
agent = "command"
command = ["./x"]
workdir = "a"
kickoff = "k.md"
"#
=>
r#"warning: the agent `command` takes no prompt, so `kickoff` is not used
 --> s.toml:7:1
  |
7 | kickoff = "k.md"
  | ^^^^^^^
  = help: take `kickoff` out"#;

}

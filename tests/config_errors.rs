//! The whole text of what an operator sees when a config is wrong. One test a kind of fault; the texts are the contract.

// The lint's exception for tests does not reach the helpers of a test file.
#![allow(clippy::unwrap_used)]

use cc_ci::supervisor::agents::{Adapter, Capabilities, Launch, LaunchRequest, Signal, by_name};
use cc_ci::supervisor::config::{Loaded, read_with};
use std::path::Path;

/// An agent that brings its own program and takes prompts.
struct Pilot;

impl Adapter for Pilot {
    fn name(&self) -> &'static str {
        "pilot"
    }
    fn capabilities(&self) -> Capabilities {
        Capabilities { resumes: true, own_program: true, takes_prompt: true, ..Capabilities::default() }
    }
    fn launch(&self, _: &LaunchRequest) -> Launch {
        Launch { argv: vec!["pilot".into()], ..Launch::default() }
    }
    fn read_event(&self, _: &serde_json::Value, _: i64) -> Vec<Signal> {
        vec![Signal::Alive]
    }
}

/// What reading that text gives; the agents are fixed, so that a new kind in the package changes no text here.
fn read(text: &str) -> Result<Loaded, String> {
    let adapters: [&'static dyn Adapter; 2] = [by_name("command").unwrap(), &Pilot];
    read_with(text, Path::new("s.toml"), &adapters).map_err(|e| e.to_string())
}

fn refused(text: &str) -> String {
    read(text).unwrap_err()
}

fn warned(text: &str) -> String {
    let warnings = read(text).unwrap().warnings;
    warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n\n")
}

macro_rules! cases {
    ($check:ident $($name:ident: $text:literal => $want:literal;)*) => {
        $(
            #[test]
            fn $name() {
                let got = $check($text);
                assert_eq!(got, $want, "\n--- got:\n{got}\n--- want:\n{}", $want);
            }
        )*
    };
}

cases! { refused
    an_empty_file_lacks_what_is_required:
r#""#
=>
r#"error: missing key `workspace` at the top level
 --> s.toml:1:1
  |
1 |
  | ^
  = help: add it: `workspace = "/srv/cc-ci"`

error: missing key `loops` at the top level
 --> s.toml:1:1
  |
1 |
  | ^
  = help: add a table under it: `[loops.NAME]`, with a name of your own for `NAME`

check the config `s.toml`: 2 errors"#;

    broken_toml_is_shown_where_it_breaks:
r#"workspace = "/w
[loops.a
"#
=>
r#"error: not valid TOML: invalid basic string, expected `"`
 --> s.toml:1:16
  |
1 | workspace = "/w
  |                ^
  = help: close it; what follows could not be judged

error: not valid TOML: unclosed table, expected `]`
 --> s.toml:2:9
  |
2 | [loops.a
  |         ^
  = help: close it; what follows could not be judged

check the config `s.toml`: 2 errors"#;

    values_without_quotes_are_told_to_get_some:
r#"[loops.a]
agent = command
stall_after = 5m
role = 
kickoff: "x"
workdir = "a" needs = []
args = ["x",
"#
=>
r#"error: a value is neither a string in quotes nor a number nor `true` or `false`
 --> s.toml:2:9
  |
2 | agent = command
  |         ^^^^^^^
  = help: put text, durations and sizes in quotes: `"30m"`

error: a value is neither a string in quotes nor a number nor `true` or `false`
 --> s.toml:3:15
  |
3 | stall_after = 5m
  |               ^^
  = help: put text, durations and sizes in quotes: `"30m"`

error: a key has no value
 --> s.toml:4:8
  |
4 | role =
  |        ^
  = help: write one after the `=`

error: not valid TOML: invalid unquoted key, expected letters, numbers, `-`, `_`
 --> s.toml:5:8
  |
5 | kickoff: "x"
  |        ^
  = help: mend this place; what follows it could not be judged

error: not valid TOML: unexpected key or value, expected newline, `#`
 --> s.toml:6:15
  |
6 | workdir = "a" needs = []
  |               ^
  = help: put each key on a line of its own

error: not valid TOML: unclosed array, expected `]`
 --> s.toml:7:13
  |
7 | args = ["x",
  |             ^
  = help: close it; what follows could not be judged

check the config `s.toml`: 6 errors"#;

    a_key_that_is_there_twice_does_not_hide_other_faults:
r#"workspace = "/w"

[loops.a]
agent = "command"
command = ["./x"]
workdir = "a"
workdir = "b"
stal_after = "5m"
"#
=>
r#"error: `workdir` is there twice
 --> s.toml:7:1
  |
7 | workdir = "b"
  | ^^^^^^^
  = help: keep one of the two

error: unknown key `stal_after` in `[loops.a]`
 --> s.toml:8:1
  |
8 | stal_after = "5m"
  | ^^^^^^^^^^
  = help: did you mean `stall_after`? the keys here are `agent`, `command`, `args`, `workdir`, `kickoff`, `handoff`, `env_files`, `needs`, `account`, `role`, `follows_phases`, `on_phase`, `stall_after`, `stable_after`, `attention_after`, `crash_loop`, `stop_timeout`, `restart_above`, `on_change`, `on_idle`

check the config `s.toml`: 2 errors"#;

    an_unknown_key_of_another_table_is_sent_there:
r#"workspace = "/w"

[loops.a]
agent = "command"
command = ["./x"]
workdir = "a"
plans = ["p.md"]
"#
=>
r#"error: unknown key `plans` in `[loops.a]`
 --> s.toml:7:1
  |
7 | plans = ["p.md"]
  | ^^^^^
  = help: this key belongs in `[phases]`; the keys here are `agent`, `command`, `args`, `workdir`, `kickoff`, `handoff`, `env_files`, `needs`, `account`, `role`, `follows_phases`, `on_phase`, `stall_after`, `stable_after`, `attention_after`, `crash_loop`, `stop_timeout`, `restart_above`, `on_change`, `on_idle`

check the config `s.toml`: 1 error"#;

    a_number_without_a_unit_is_told_to_get_one:
r#"min_free_memory = 300
start_stagger = "5"
workspace = "/w"

[loops.a]
agent = "command"
command = ["./x"]
workdir = "a"
stall_after = 30
restart_above = "1500"
stable_after = "15M"
"#
=>
r#"error: `min_free_memory` takes a size, not an integer
 --> s.toml:1:19
  |
1 | min_free_memory = 300
  |                   ^^^
  = help: add a unit: `min_free_memory = "300M"` or `min_free_memory = "300G"`

error: bad duration for `start_stagger`: `5` has no unit
 --> s.toml:2:17
  |
2 | start_stagger = "5"
  |                 ^^^
  = help: add one: `5s`, `5m` or `5h`

error: `stall_after` takes a duration, not an integer
 --> s.toml:9:15
  |
9 | stall_after = 30
  |               ^^
  = help: add a unit: `stall_after = "30s"` or `stall_after = "30m"`

error: bad size for `restart_above`: `1500` has no unit
  --> s.toml:10:17
   |
10 | restart_above = "1500"
   |                 ^^^^^^
   = help: add one: `1500M`, `1500G` or, for bytes, `1500B`

error: bad duration for `stable_after`: `M` is not a unit of time
  --> s.toml:11:16
   |
11 | stable_after = "15M"
   |                ^^^^^
   = help: minutes are a small `m`

check the config `s.toml`: 5 errors"#;

    wrong_types_are_told_what_goes_there:
r#"workspace = ["/w"]
phases = 1

[loops]
b = "x"

[loops.a]
agent = "command"
command = "./x"
workdir = true
needs = "proxy"
follows_phases = "no"
args = [1]
crash_loop = 5
"#
=>
r#"error: `workspace` takes an absolute path, not a list
 --> s.toml:1:13
  |
1 | workspace = ["/w"]
  |             ^^^^^^
  = help: write it like `workspace = "/srv/cc-ci"`

error: `phases` takes a table, not an integer
 --> s.toml:2:10
  |
2 | phases = 1
  |          ^
  = help: write it like `phases = { plans = ["cc-ci-plan/plan-1.md"] }`

error: `loops.b` must be a table, not a string
 --> s.toml:5:5
  |
5 | b = "x"
  |     ^^^
  = help: write it as `[loops.NAME]`

error: `command` takes a list of strings, not a string
 --> s.toml:9:11
  |
9 | command = "./x"
  |           ^^^^^
  = help: put it in brackets: `command = ["./watch.sh"]`

error: `workdir` takes a path, not a boolean
  --> s.toml:10:11
   |
10 | workdir = true
   |           ^^^^
   = help: write it like `workdir = "cc-ci"`

error: `needs` takes a list of names, not a string
  --> s.toml:11:9
   |
11 | needs = "proxy"
   |         ^^^^^^^
   = help: put it in brackets: `needs = ["secrets", "proxy"]`

error: `follows_phases` takes `true` or `false`, not a string
  --> s.toml:12:18
   |
12 | follows_phases = "no"
   |                  ^^^^
   = help: write it like `follows_phases = false`

error: `args` takes strings, not an integer
  --> s.toml:13:9
   |
13 | args = [1]
   |         ^
   = help: put it in quotes

error: `crash_loop` takes a table, not an integer
  --> s.toml:14:14
   |
14 | crash_loop = 5
   |              ^
   = help: write it like `crash_loop = { deaths = 5, within = "15m" }`

check the config `s.toml`: 9 errors"#;

    values_out_of_range_are_told_the_range:
r#"start_stagger = "1h"
workspace = "/w"

[loops.a]
agent = "command"
command = ["./x"]
workdir = "a"
stall_after = "31d"
attention_after = "0s"
stop_timeout = "1h"
restart_above = "0B"
crash_loop = { deaths = 0 }
"#
=>
r#"error: `start_stagger` is too long: `1h`
 --> s.toml:1:17
  |
1 | start_stagger = "1h"
  |                 ^^^^
  = help: use at most `10m`

error: `stall_after` is too long: `31d`
 --> s.toml:8:15
  |
8 | stall_after = "31d"
  |               ^^^^^
  = help: use at most `30d`

error: `attention_after` cannot be zero
 --> s.toml:9:19
  |
9 | attention_after = "0s"
  |                   ^^^^
  = help: write it like `"5m"`

error: `stop_timeout` is too long: `1h`
  --> s.toml:10:16
   |
10 | stop_timeout = "1h"
   |                ^^^^
   = help: use at most `10m`

error: `restart_above` cannot be zero
  --> s.toml:11:17
   |
11 | restart_above = "0B"
   |                 ^^^^
   = help: leave it out for never, or write it like `"1500M"`

error: `deaths` cannot be `0`
  --> s.toml:12:25
   |
12 | crash_loop = { deaths = 0 }
   |                         ^
   = help: use 1 to 1000

check the config `s.toml`: 6 errors"#;

    words_are_chosen_from_a_list:
r#"host = "sytemd"
workspace = "/w"

[loops.a]
agent = "command"
command = ["./x"]
workdir = "a"
role = "claim"
on_change = "never"

[loops.b]
agent = "pilott"
workdir = "b"
"#
=>
r#"error: unknown value `sytemd` for `host`
 --> s.toml:1:8
  |
1 | host = "sytemd"
  |        ^^^^^^^^
  = help: did you mean `systemd`? the values are `systemd`, `direct`

error: unknown value `claim` for `role`
 --> s.toml:8:8
  |
8 | role = "claim"
  |        ^^^^^^^
  = help: did you mean `claims`? the values are `claims`, `verifies`

error: unknown value `never` for `on_change`
 --> s.toml:9:13
  |
9 | on_change = "never"
  |             ^^^^^^^
  = help: the values are `next-start`, `turn-end`, `now`

error: unknown agent `pilott`
  --> s.toml:12:9
   |
12 | agent = "pilott"
   |         ^^^^^^^^
   = help: did you mean `pilot`? the agents are `command`, `pilot`

check the config `s.toml`: 4 errors"#;

    bad_names_are_told_the_rule:
r#"workspace = "/w"

[loops.a]
agent = "command"
command = ["./x"]
workdir = "a"
account = "Max 20"

[loops."../x"]
agent = "pilot"
workdir = "b"

[needs.Proxy]
file = "x"
"#
=>
r#"error: the name `Max 20` does not start with a lower-case letter
 --> s.toml:7:11
  |
7 | account = "Max 20"
  |           ^^^^^^^^
  = help: use 1 to 32 of a-z, 0-9, `-` and `_`, starting with a letter

error: the name `../x` does not start with a lower-case letter
 --> s.toml:9:8
  |
9 | [loops."../x"]
  |        ^^^^^^
  = help: use 1 to 32 of a-z, 0-9, `-` and `_`, starting with a letter

error: the name `Proxy` does not start with a lower-case letter
  --> s.toml:13:8
   |
13 | [needs.Proxy]
   |        ^^^^^
   = help: use 1 to 32 of a-z, 0-9, `-` and `_`, starting with a letter

warning: no loop needs `Proxy`
  --> s.toml:13:8
   |
13 | [needs.Proxy]
   |        ^^^^^
   = help: add it to a loop's `needs`, or take `[needs.Proxy]` out

check the config `s.toml`: 3 errors, 1 warning"#;

    paths_are_taken_as_they_are:
r#"workspace = "srv"
state_dir = "/var/../x"
runtime_dir = "~/run"

[loops.a]
agent = "pilot"
workdir = ""
kickoff = "prompts/{phase}.md"
env_files = ["$HOME/.env", "a\u0000b", "a\nb"]
"#
=>
r#"error: `workspace` must be an absolute path: `srv`
 --> s.toml:1:13
  |
1 | workspace = "srv"
  |             ^^^^^
  = help: start it with `/`

error: `state_dir` has `..` in it
 --> s.toml:2:13
  |
2 | state_dir = "/var/../x"
  |             ^^^^^^^^^^^
  = help: write the path without `..`

error: `runtime_dir` is no path: neither `~` nor variables are filled in: `~/run`
 --> s.toml:3:15
  |
3 | runtime_dir = "~/run"
  |               ^^^^^^^
  = help: write the path itself

error: `workdir` is an empty path: ``
 --> s.toml:7:11
  |
7 | workdir = ""
  |           ^^
  = help: write a path, `.` for the folder itself

error: `kickoff` has a placeholder in its path: `prompts/{phase}.md`
 --> s.toml:8:11
  |
8 | kickoff = "prompts/{phase}.md"
  |           ^^^^^^^^^^^^^^^^^^^^
  = help: placeholders are filled in in argv, nudges and prompts only

error: `env_files` is no path: neither `~` nor variables are filled in: `$HOME/.env`
 --> s.toml:9:14
  |
9 | env_files = ["$HOME/.env", "a\u0000b", "a\nb"]
  |              ^^^^^^^^^^^^
  = help: write the path itself

error: `env_files` holds a NUL character
 --> s.toml:9:28
  |
9 | env_files = ["$HOME/.env", "a\u0000b", "a\nb"]
  |                            ^^^^^^^^^^
  = help: take the `\u0000` out: no argument, path or name can hold it

error: `env_files` has a control character in its path: `a\nb`
 --> s.toml:9:40
  |
9 | env_files = ["$HOME/.env", "a\u0000b", "a\nb"]
  |                                        ^^^^^^
  = help: use a path without line breaks and the like

check the config `s.toml`: 8 errors"#;

    an_agent_with_its_own_program_takes_no_command_and_the_other_needs_one:
r#"workspace = "/w"

[loops.a]
agent = "pilot"
workdir = "a"
command = ["x"]

[loops.b]
agent = "command"
workdir = "b"
kickoff = "k.md"

[loops.c]
agent = "command"
command = []
workdir = "c"

[loops.d]
agent = "command"
command = [""]
workdir = "d"
"#
=>
r#"error: the agent `pilot` brings its own program
 --> s.toml:6:1
  |
6 | command = ["x"]
  | ^^^^^^^
  = help: take `command` out; more arguments for it go into `args`

error: missing key `command` in `[loops.b]`: the agent `command` has no program of its own
 --> s.toml:8:8
  |
8 | [loops.b]
  |        ^
  = help: add the program and its arguments: `command = ["./watch.sh"]`

warning: the agent `command` takes no prompt, so `kickoff` is not used
  --> s.toml:11:1
   |
11 | kickoff = "k.md"
   | ^^^^^^^
   = help: take `kickoff` out

error: `command` is empty
  --> s.toml:15:11
   |
15 | command = []
   |           ^^
   = help: name a program: `command = ["./watch.sh"]`

error: `command` has an empty program
  --> s.toml:20:12
   |
20 | command = [""]
   |            ^^
   = help: name a program: `command = ["./watch.sh"]`

check the config `s.toml`: 4 errors, 1 warning"#;

    needs_are_declared_once_and_used:
r#"workspace = "/w"

[loops.a]
agent = "command"
command = ["./x"]
workdir = "a"
needs = ["proxi", "disk", "net", "net"]

[needs.proxy]
tcp = "localhost"

[needs.net]
unit = "network-online"

[needs.both]
file = "x"
tcp = "[::1]:80"

[needs.none]

[needs.empty]
command = []

[needs.text]
command = ["test", "-e", "{workspace}/x"]
"#
=>
r#"error: the need `proxi` is not declared
 --> s.toml:7:10
  |
7 | needs = ["proxi", "disk", "net", "net"]
  |          ^^^^^^^
  = help: did you mean `proxy`? the declared needs are `both`, `empty`, `net`, `none`, `proxy`, `text`

error: the need `disk` is not declared
 --> s.toml:7:19
  |
7 | needs = ["proxi", "disk", "net", "net"]
  |                   ^^^^^^
  = help: declare it: `[needs.NAME]` with NAME `disk`, or take it out

error: the need `net` is there twice
 --> s.toml:7:34
  |
7 | needs = ["proxi", "disk", "net", "net"]
  |                                  ^^^^^
  = help: keep one of the two

error: `localhost` is not `host:port`
  --> s.toml:10:7
   |
10 | tcp = "localhost"
   |       ^^^^^^^^^^^
   = help: write it like `127.0.0.1:1055`, an IPv6 address like `[::1]:1055`; ports are 1 to 65535

error: `network-online` has no unit type at its end
  --> s.toml:13:8
   |
13 | unit = "network-online"
   |        ^^^^^^^^^^^^^^^^
   = help: write the whole name: `network-online.service`

warning: no loop needs `both`
  --> s.toml:15:8
   |
15 | [needs.both]
   |        ^^^^
   = help: add it to a loop's `needs`, or take `[needs.both]` out

error: `[needs.both]` has both `tcp` and `file`
  --> s.toml:16:1
   |
16 | file = "x"
   | ^^^^
   = help: keep one of the two

error: `[needs.none]` has no way to find out whether it is there
  --> s.toml:19:8
   |
19 | [needs.none]
   |        ^^^^
   = help: add one of `command = ["…"]`, `unit = "….service"`, `tcp = "host:port"`, `file = "…"`

warning: no loop needs `none`
  --> s.toml:19:8
   |
19 | [needs.none]
   |        ^^^^
   = help: add it to a loop's `needs`, or take `[needs.none]` out

warning: no loop needs `empty`
  --> s.toml:21:8
   |
21 | [needs.empty]
   |        ^^^^^
   = help: add it to a loop's `needs`, or take `[needs.empty]` out

error: `command` is empty
  --> s.toml:22:11
   |
22 | command = []
   |           ^^
   = help: name a program

warning: no loop needs `text`
  --> s.toml:24:8
   |
24 | [needs.text]
   |        ^^^^
   = help: add it to a loop's `needs`, or take `[needs.text]` out

error: `{workspace}` is not filled in in `command`
  --> s.toml:25:27
   |
25 | command = ["test", "-e", "{workspace}/x"]
   |                           ^^^^^^^^^^^
   = help: write the text itself: this program runs for no one loop

check the config `s.toml`: 9 errors, 4 warnings"#;

    loops_that_wait_for_each_other_are_found:
r#"workspace = "/w"
runtime_dir = "/r"

[loops.a]
agent = "pilot"
workdir = "a"
needs = ["b-up"]

[loops.b]
agent = "pilot"
workdir = "b"
needs = ["a-up"]

[loops.c]
agent = "pilot"
workdir = "c"
needs = ["a-up"]

[needs.a-up]
file = "/r/session/a/up"

[needs.b-up]
file = "/r/session/b/up"
"#
=>
r#"error: loops wait for each other for ever: `a` waits for `b` waits for `a`
 --> s.toml:7:9
  |
7 | needs = ["b-up"]
  |         ^^^^^^^^
  = help: a need must not be a file in the session folder of a loop that waits for it; use another file

error: loops wait for each other for ever: `b` waits for `a` waits for `b`
  --> s.toml:12:9
   |
12 | needs = ["a-up"]
   |         ^^^^^^^^
   = help: a need must not be a file in the session folder of a loop that waits for it; use another file

check the config `s.toml`: 2 errors"#;

    placeholders_must_have_a_value:
r#"workspace = "/w"

[loops.a]
agent = "command"
command = ["./x"]
workdir = "a"
args = ["{lop}", "{print}", "{{print}}", "${loop} ${X:-${Y}} { cmd; }", "{phase}"]
"#
=>
r#"error: unknown placeholder `{lop}`
 --> s.toml:7:10
  |
7 | args = ["{lop}", "{print}", "{{print}}", "${loop} ${X:-${Y}} { cmd; }", "{phase}"]
  |          ^^^^^
  = help: did you mean `{loop}`? for the text itself write `{{lop}}`

error: unknown placeholder `{print}`
 --> s.toml:7:19
  |
7 | args = ["{lop}", "{print}", "{{print}}", "${loop} ${X:-${Y}} { cmd; }", "{phase}"]
  |                   ^^^^^^^
  = help: use one of `{phase}`, `{phase_index}`, `{plan}`, `{loop}`, `{workspace}`; for the text itself write `{{print}}`

error: `{phase}` has no value: there is no `[phases]`
 --> s.toml:7:74
  |
7 | args = ["{lop}", "{print}", "{{print}}", "${loop} ${X:-${Y}} { cmd; }", "{phase}"]
  |                                                                          ^^^^^^^
  = help: add `[phases]`, or take it out

check the config `s.toml`: 3 errors"#;

    placeholders_of_a_phase_need_a_loop_that_follows:
r#"workspace = "/w"

[loops.a]
agent = "pilot"
workdir = "a"
follows_phases = false
on_phase = "restart"
on_idle = { nudge = "go on \"now\" with {plan}", after = "0s" }

[phases]
plans = ["p1.md", "p2.md"]
advance_on = "manual"
"#
=>
r#"warning: `on_phase` does nothing: the loop does not follow phases
 --> s.toml:7:1
  |
7 | on_phase = "restart"
  | ^^^^^^^^
  = help: take it out

error: `{plan}` has no value: the loop does not follow phases
 --> s.toml:8:41
  |
8 | on_idle = { nudge = "go on \"now\" with {plan}", after = "0s" }
  |                                         ^^^^^^
  = help: take `follows_phases = false` out, or the placeholder

error: `after` cannot be zero
 --> s.toml:8:58
  |
8 | on_idle = { nudge = "go on \"now\" with {plan}", after = "0s" }
  |                                                          ^^^^
  = help: write it like `"2m"`

warning: no loop follows `[phases]`
  --> s.toml:10:2
   |
10 | [phases]
   |  ^^^^^^
   = help: take `follows_phases = false` out of a loop, or take `[phases]` out

check the config `s.toml`: 2 errors, 2 warnings"#;

    what_follows_phases_needs_phases:
r#"workspace = "/w"

[loops.a]
agent = "pilot"
workdir = "a"
follows_phases = true
role = "claims"
"#
=>
r#"error: there is no `[phases]` to follow
 --> s.toml:6:18
  |
6 | follows_phases = true
  |                  ^^^^
  = help: add `[phases]` with its `plans`, or take this out

warning: `role` does nothing: there is no `[phases]`
 --> s.toml:7:1
  |
7 | role = "claims"
  | ^^^^
  = help: take it out, or add `[phases]`

check the config `s.toml`: 1 error, 1 warning"#;

    each_role_is_one_loops:
r#"workspace = "/w"

[loops.a]
agent = "pilot"
workdir = "a"
role = "claims"

[loops.b]
agent = "pilot"
workdir = "b"
role = "claims"

[phases]
plans = ["p1.md", "p2.md"]
advance_on = "manual"
"#
=>
r#"error: two loops have the role `claims`: `a` and `b`
  --> s.toml:11:8
   |
11 | role = "claims"
   |        ^^^^^^^^
   = help: a gate has one of each; take the role out of one of them

check the config `s.toml`: 1 error"#;

    plans_are_files_of_their_own:
r#"workspace = "/w"

[loops.a]
agent = "pilot"
workdir = "a"
kickoff = "k.md"

[phases]
plans = ["p1.md", "p2.md", "./p1.md"]
index_file = "k.md"
"#
=>
r#"error: the plan `/w/p1.md` is there twice
 --> s.toml:9:28
  |
9 | plans = ["p1.md", "p2.md", "./p1.md"]
  |                            ^^^^^^^^^
  = help: keep one of the two

error: `index_file` `/w/k.md` is also the kickoff of `a`
  --> s.toml:10:14
   |
10 | index_file = "k.md"
   |              ^^^^^^
   = help: give it a file of its own: the supervisor writes it

check the config `s.toml`: 2 errors"#;

    the_supervisors_folders_are_its_own:
r#"workspace = "/w"
state_dir = "/run/x/state"
runtime_dir = "/run/x"

[loops.a]
agent = "pilot"
workdir = "/run/x/a"
"#
=>
r#"error: `state_dir` is inside `runtime_dir`, which a reboot empties
 --> s.toml:2:13
  |
2 | state_dir = "/run/x/state"
  |             ^^^^^^^^^^^^^^
  = help: keep it on a disk: `/var/lib/cc-ci-orchestrator`

error: the workdir of `a` is inside `runtime_dir`
 --> s.toml:7:11
  |
7 | workdir = "/run/x/a"
  |           ^^^^^^^^^^
  = help: keep agents out of the supervisor's own files: use another folder

check the config `s.toml`: 2 errors"#;

    one_folder_cannot_both_survive_and_be_emptied:
r#"workspace = "/w"
state_dir = "/var/lib/x"
runtime_dir = "/var/lib/x/"

[loops.a]
agent = "pilot"
workdir = "a"
"#
=>
r#"error: `state_dir` and `runtime_dir` are the same folder
 --> s.toml:3:15
  |
3 | runtime_dir = "/var/lib/x/"
  |               ^^^^^^^^^^^^^
  = help: give each a folder of its own: `runtime_dir` is emptied by a reboot, `state_dir` must survive it

check the config `s.toml`: 1 error"#;

    a_socket_path_that_is_too_long_is_counted:
r#"workspace = "/w"
runtime_dir = "/run/a-name-that-somebody-made-up-to-be-very-descriptive-of-what-is-in-it-and-why"

[loops.builder-of-things]
agent = "pilot"
workdir = "a"
"#
=>
r#"error: the socket path of the loop `builder-of-things` is too long: 117 bytes, of at most 107
 --> s.toml:2:15
  |
2 | runtime_dir = "/run/a-name-that-somebody-made-up-to-be-very-descriptive-of-what-is-in-it-and-why"
  |               ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  = help: make `runtime_dir` or the loop's name at least 10 bytes shorter

check the config `s.toml`: 1 error"#;

    what_is_nested_too_deeply_is_refused:
r#"a = [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[
"#
=>
r#"error: the text is nested too deeply
 --> s.toml:1:85
  |
1 | a = [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[
  |                                                                                     ^
  = help: a config needs three levels at most

check the config `s.toml`: 1 error"#;

}

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

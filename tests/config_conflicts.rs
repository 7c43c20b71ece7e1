//! The whole text of what an operator sees when parts of a config do not fit together. One test a kind of fault; the texts are the contract.

#[macro_use]
mod config_kit;

use config_kit::refused;

cases! { refused
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

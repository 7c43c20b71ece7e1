//! The whole text of what an operator sees when a value or a key of a config is wrong. One test a kind of fault; the texts are the contract.

#[macro_use]
mod config_kit;

use config_kit::refused;

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
}

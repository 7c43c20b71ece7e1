//! The programs that a laboratory's loops run: shell scripts that tell of themselves in files.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Says whether another one is there. A child that inherited the lock counts as another one.
const BIRTH: &str = r#"
exec 9>>"@dir@/lock.$CC_CI_LOOP"
flock -n 9 || echo "$CC_CI_LOOP $CC_CI_EPOCH $$" >>"@dir@/doubles"
"#;

/// Says that it is there: after all that makes it what it is, since tests go on when they read it.
const SAID: &str = "echo \"start $CC_CI_EPOCH $$\" >>\"@dir@/starts.$CC_CI_LOOP\"\n";

/// Writes down what it is told. `exit N` ends it; `out TEXT` and `run COMMAND` do that.
const LISTEN: &str = r#"
while IFS= read -r line; do
  printf '%s\n' "$line" >>"@dir@/said.$CC_CI_LOOP"
  case $line in
    "exit "*) exit "${line#exit }" ;;
    "run "*) eval "${line#run }" ;;
  esac
done
"#;

const SCRIPTS: [(&str, &str); 6] = [
    // The usual one.
    ("agent.sh", ""),
    // Does not end for a terminal that hung up, nor when told to.
    ("deaf.sh", "trap '' HUP TERM\n"),
    // Keeps the lock while its terminal is away.
    ("hup-deaf.sh", "trap '' HUP\n"),
    // Dies while @dir@/broken is there.
    ("fragile.sh", "[ ! -e '@dir@/broken' ] || exit 7\n"),
    // Leaves a child behind that ignores SIGHUP.
    ("litter.sh", "(trap '' HUP TERM; exec sleep 100000) &\n"),
    // Leaves children behind: one that ignores SIGHUP, one double-forked in a session of its own without environment.
    (
        "messy.sh",
        "(trap '' HUP TERM; exec sleep 100000) & echo $! >>'@dir@/children'\n\
         (env -i PATH=\"$PATH\" setsid sh -c 'echo $$ >>@dir@/children; exec sleep 100000' </dev/null >/dev/null 2>&1 &)\n",
    ),
];

/// The command of a loop, as TOML.
pub fn command(script: &str) -> String {
    format!("agent = \"command\"\nworkdir = \".\"\ncommand = [\"/bin/sh\", \"@dir@/{script}\"]\n")
}

/// A loop that runs this script, with more keys.
pub fn a_loop(name: &str, script: &str, more: &str) -> String {
    format!("[loops.{name}]\n{}{more}\n", command(script))
}

/// Four plans.
pub const PHASES: &str =
    "[phases]\nplans = [\"plans/0.md\", \"plans/1.md\", \"plans/2.md\", \"plans/3.md\"]\nadvance_on = \"manual\"\n";

pub fn write_all(dir: &Path) {
    for (name, more) in SCRIPTS {
        // A deaf one outlives its terminal, of which `read` hears all the same.
        let end = if name.contains("deaf") { "exec sleep 100000\n" } else { "" };
        // A start that fails is a start too.
        let (before, after) = if name == "fragile.sh" { ("", more) } else { (more, "") };
        write(dir, name, &format!("{BIRTH}{before}{SAID}{after}{LISTEN}{end}"));
    }
    // One line, in one write, so that two at once do not mix.
    write(dir, "notify.sh", "line=$(cat); printf '%s\\n' \"$line\" >>@dir@/notified\n");
}

/// A script with `@dir@` filled in.
pub fn write(dir: &Path, name: &str, body: &str) {
    let path = dir.join(name);
    let body = body.replace("@dir@", dir.to_str().unwrap());
    fs::write(&path, format!("#!/bin/sh\n{body}")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

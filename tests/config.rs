//! What a right config is read as, that no text makes the reader panic, and that docs/config.md tells all of it.

// The lint's exception for tests does not reach the helpers of a test file.
#![allow(clippy::unwrap_used)]

mod config_kit;

use cc_ci::supervisor::config::keys::{Key, TABLES, Table};
use cc_ci::supervisor::config::{
    AdvanceOn, Config, HostKind, LoopConfig, NeedConfig, Role, read, read_file, read_with,
};
use proptest::prelude::*;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn config(text: &str) -> Config {
    let loaded =
        read_with(text, Path::new("/s.toml"), &config_kit::adapters()).unwrap_or_else(|e| panic!("{e}\n{text}"));
    assert_eq!(loaded.warnings, [], "{text}");
    loaded.config
}

fn the_loop<'a>(config: &'a Config, name: &str) -> &'a LoopConfig {
    &config.loops[&name.parse().unwrap()]
}

const FULL: &str = r#"
workspace = "/srv/cc-ci"
state_dir = "/var/lib/x"
runtime_dir = "/run/x"
host = "systemd"
notify = ["bin/notify", "--json"]
min_free_memory = "300M"
start_stagger = "5s"

[phases]
plans = ["plan/1.md", "/abs/2.md"]
advance_on = "gate-pass"

[loops.builder]
agent = "pilot"
workdir = "cc-ci"
kickoff = "plan/prompts/builder.md"
args = ["--remote-control", "{loop}", "{{loop}} ${X}"]
env_files = [".testenv"]
needs = ["secrets", "proxy"]
stall_after = "30m"
role = "claims"
on_idle = { nudge = "go on with {plan}", after = "2m" }

[loops.adversary]
agent = "pilot"
workdir = "adv"
role = "verifies"
crash_loop = { deaths = 3 }

[loops.orchestrator]
agent = "pilot"
workdir = "."
follows_phases = false

[loops.health]
agent = "command"
command = ["./watch.sh"]
workdir = "health"

[needs.proxy]
command = ["./proxy-shim", "check"]

[needs.secrets]
unit = "cc-ci-secrets.service"
"#;

#[test]
fn a_config_is_read_with_its_paths_made_absolute() {
    let config = config(FULL);
    assert_eq!(config.host, HostKind::Systemd);
    assert_eq!(config.notify, ["/srv/cc-ci/bin/notify", "--json"]);
    assert_eq!(config.min_free_memory, 300 << 20);
    let phases = config.phases.as_ref().unwrap();
    assert_eq!(phases.plans, [PathBuf::from("/srv/cc-ci/plan/1.md"), "/abs/2.md".into()]);
    assert_eq!(phases.index_file, Path::new("/srv/cc-ci/.cc-ci-logs/.phase-idx"));
    assert_eq!(phases.advance_on, AdvanceOn::GatePass);
    let builder = the_loop(&config, "builder");
    assert_eq!(builder.workdir, Path::new("/srv/cc-ci/cc-ci"));
    assert_eq!(builder.env_files, [PathBuf::from("/srv/cc-ci/.testenv")]);
    assert_eq!(builder.role, Some(Role::Claims));
    assert_eq!(builder.stall_after, Some(Duration::from_secs(1800)));
    assert_eq!(builder.args[2], "{{loop}} ${X}", "placeholders are filled in at the start, not here");
    assert!(builder.follows_phases);
    assert_eq!(the_loop(&config, "adversary").crash_loop.within, Duration::from_secs(900));
    assert_eq!(the_loop(&config, "orchestrator").workdir, Path::new("/srv/cc-ci"));
    assert!(!the_loop(&config, "orchestrator").follows_phases);
    assert_eq!(the_loop(&config, "health").command, ["./watch.sh"], "relative to the workdir, so it stays");
    let proxy = NeedConfig::Command(vec!["/srv/cc-ci/proxy-shim".into(), "check".into()]);
    assert_eq!(config.needs[&"proxy".parse().unwrap()], proxy);
}

/// `key = value` lines for the keys of a table, of those that `choose` has a value for.
fn lines(table: &Table, choose: impl Fn(&Key) -> Option<&'static str>) -> String {
    table.keys.iter().filter_map(|k| Some(format!("{} = {}\n", k.name, choose(k)?))).collect()
}

fn table(header: &str) -> &'static Table {
    TABLES.iter().find(|t| t.header == header).unwrap()
}

/// The default when it is a value and not a rule in words.
fn default(key: &Key) -> Option<&'static str> {
    let value = key.default.starts_with(['"', '[', '{']) || key.default.parse::<u32>().is_ok();
    value.then_some(key.default)
}

#[test]
fn every_default_written_out_changes_nothing() {
    let text = |top: &str, phases: &str, one: &str| {
        format!(
            "workspace = \"/w\"\n{top}[phases]\nplans = [\"p\"]\n{phases}[loops.a]\nagent = \"pilot\"\nworkdir = \"a\"\n\
             role = \"claims\"\n{one}[loops.b]\nagent = \"pilot\"\nworkdir = \"b\"\nrole = \"verifies\"\n"
        )
    };
    let short = config(&text("", "", ""));
    let [top, phases, one] = ["", "[phases]", "[loops.NAME]"].map(|t| lines(table(t), default));
    assert_eq!([top.lines().count(), phases.lines().count(), one.lines().count()], [6, 3, 10]);
    assert_eq!(config(&text(&top, &phases, &one)), short);
    let crash_loop = format!("[loops.a.crash_loop]\n{}", lines(table("crash_loop"), default));
    assert_eq!(config(&text("", "", &crash_loop)), short);
}

#[test]
fn every_example_is_a_right_value() {
    let mut text = lines(table(""), |k| (!["phases", "loops", "needs"].contains(&k.name)).then_some(k.example));
    text += &format!("[phases]\n{}", lines(table("[phases]"), |k| Some(k.example)));
    let skipped = ["agent", "command", "follows_phases", "needs"];
    let one = lines(table("[loops.NAME]"), |k| (!skipped.contains(&k.name)).then_some(k.example));
    text += &format!("[loops.a]\nagent = \"pilot\"\nneeds = [\"command\", \"unit\", \"tcp\", \"file\"]\n{one}");
    text += "[loops.b]\nagent = \"command\"\nworkdir = \"b\"\nfollows_phases = false\ncommand = [\"./watch.sh\"]\n";
    for key in table("[needs.NAME]").keys {
        text += &format!("[needs.{0}]\n{0} = {1}\n", key.name, key.example);
    }
    config(&text);
    for name in ["crash_loop", "on_idle"] {
        let inner = lines(table(name), |k| Some(k.example));
        let phases = "[phases]\nplans = [\"p\"]\nadvance_on = \"manual\"\n";
        config(&format!(
            "workspace = \"/w\"\n{phases}[loops.a]\nagent = \"pilot\"\nworkdir = \"a\"\n[loops.a.{name}]\n{inner}"
        ));
    }
}

#[test]
fn the_hash_of_a_loop_changes_with_its_definition_and_not_with_policy() {
    let of = |more: &str| {
        let text = format!("workspace = \"/w\"\n[loops.a]\nagent = \"pilot\"\n{more}");
        the_loop(&config(&text), "a").hash.clone()
    };
    let plain = of("workdir = \"a\"\n");
    assert_eq!(plain.len(), 64);
    for same in [
        "stall_after = \"5m\"",
        "crash_loop = { deaths = 2 }",
        "on_idle = { nudge = \"x\", after = \"1m\" }",
        "stop_timeout = \"1m\"",
        "restart_above = \"1G\"",
        "on_change = \"now\"",
        "account = \"default\"",
    ] {
        assert_eq!(of(&format!("workdir = \"./a/\"\n{same}\n")), plain, "{same}");
    }
    let different = ["args = [\"x\"]", "kickoff = \"k\"", "handoff = \"k\"", "env_files = [\"e\"]", "account = \"b\""];
    let mut seen = vec![plain, of("workdir = \"b\"\n")];
    for different in different {
        let hash = of(&format!("workdir = \"a\"\n{different}\n"));
        assert!(!seen.contains(&hash), "{different}");
        seen.push(hash);
    }
}

#[test]
fn the_reference_tells_every_key_with_its_type_default_and_example() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/config.md");
    let text = std::fs::read_to_string(path).unwrap();
    let cell = |s: &str| s.replace('|', "\\|");
    let code = |s: &str| match s.starts_with(['"', '[', '{']) || s.parse::<u32>().is_ok() || s == "false" {
        true => format!("`{s}`"),
        false => s.to_owned(),
    };
    for table in TABLES {
        let title = if table.header.is_empty() { "## The top level".into() } else { format!("## `{}`", table.header) };
        let section = text.split(&format!("\n{title}\n")).nth(1).unwrap_or_else(|| panic!("no section {title}"));
        let section = section.split("\n## ").next().unwrap();
        let rows: Vec<&str> = section.lines().filter(|l| l.starts_with("| `")).collect();
        let wanted = table
            .keys
            .iter()
            .map(|k| format!("| `{}` | {} | {} | {} | ", k.name, cell(k.form), code(k.default), code(k.example)));
        for (row, wanted) in rows.iter().zip(wanted.clone()) {
            assert!(
                row.starts_with(&wanted) && row.len() > wanted.len() + 10,
                "docs/config.md: {row}\nwants: {wanted}"
            );
        }
        assert_eq!(rows.len(), table.keys.len(), "{title} wants: {:#?}", wanted.collect::<Vec<_>>());
    }
}

#[test]
fn the_config_in_the_reference_is_a_right_one() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/config.md")).unwrap();
    let example = text.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    config(&example.replace("\"claude\"", "\"pilot\""));
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_are_no_fault() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.toml");
    let text =
        "\u{feff}workspace = \"/w\"\r\n[loops.a]\r\nagent = \"command\"\r\ncommand = [\"x\"]\r\nworkdir = \"a\"\r\n";
    std::fs::write(&path, text).unwrap();
    assert_eq!(read_file(&path).unwrap().config.workspace, Path::new("/w"));
}

#[test]
fn a_megabyte_of_anything_is_judged_in_seconds() {
    let fill = |piece: &str| piece.repeat((1 << 20) / piece.len());
    let count = |piece: &str| (0..40_000).map(|i| piece.replace('#', &i.to_string())).collect::<String>();
    for (what, text) in [
        ("brackets", format!("a = {}", fill("["))),
        ("dots", fill("a.")),
        ("doubles", fill("a = 1\n")),
        ("one line", fill("a b ")),
        ("unknown keys", count("key# = 1\n")),
        ("needs", format!("{}[loops.a]\nneeds = [{}]\n", count("[needs.n#]\n"), count("\"m#\","))),
        ("placeholders", format!("[loops.a]\nargs = [\"{}\"]\n", fill("{abc} {d}"))),
        ("digits", format!("min_free_memory = \"{}\"\n", fill("9"))),
    ] {
        let start = std::time::Instant::now();
        let shown = read(&text, Path::new("s.toml")).unwrap_err().to_string();
        // Measured: at most 2 s in a debug build; quadratic work, which this is about, takes minutes.
        assert!(start.elapsed() < Duration::from_secs(30), "{what} took {:?}", start.elapsed());
        assert!(shown.len() < 100_000, "{what} is told in {} bytes", shown.len());
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC{0,60}|([a-z_]{1,12}( = |\\.|\\]\n)|\\[|\"|[0-9]{1,4}[smM]?|\n|\\{|\\}|#|,|\t|ä){0,60}") {
        if let Err(e) = read(&text, Path::new("s.toml")) {
            prop_assert!(e.to_string().contains("s.toml"));
        }
    }

    #[test]
    fn no_change_of_a_right_config_makes_the_reader_panic(
        cuts in proptest::collection::vec((0..FULL.len(), 0..12usize, "[\"\\[\\]{}=.,\n\u{0}ä0-9a-z ]{0,4}"), 1..6)
    ) {
        let mut text = FULL.to_owned();
        for (at, length, new) in cuts {
            // FULL is ASCII, but what was put in is not.
            let start = (0..=at.min(text.len())).rev().find(|i| text.is_char_boundary(*i)).unwrap();
            let end = (start + length).min(text.len());
            let end = (end..=text.len()).find(|i| text.is_char_boundary(*i)).unwrap();
            text.replace_range(start..end, &new);
        }
        if let Err(e) = read(&text, Path::new("s.toml")) {
            prop_assert!(!e.to_string().is_empty());
        }
    }
}

//! The proxy's config: what is refused and with which words, all faults at once; and that docs/proxy.md tells the truth.

#![allow(clippy::unwrap_used, reason = "a test")]

use cc_ci::proxy::config::keys::TABLES;
use cc_ci::proxy::config::{AuthKey, Config, ConfigErrors, UpstreamConfig, read};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const PAGE: &str = include_str!("../docs/proxy.md");

fn good(text: &str) -> Config {
    read(text, Path::new("f.toml")).unwrap_or_else(|e| panic!("{text}\n{e}")).value
}

/// Each fault as `line: message; help`.
fn faults(text: &str) -> Vec<String> {
    match read(text, Path::new("f.toml")) {
        Err(ConfigErrors::Faults { diagnostics, .. }) => {
            diagnostics.iter().map(|d| format!("{}: {}; {}", d.line, d.message, d.help)).collect()
        }
        other => panic!("{text}\n{other:?}"),
    }
}

#[test]
fn the_smallest_config_has_every_default() {
    let config = good("upstream = \"direct\"\n");
    assert_eq!(config.listen, "127.0.0.1:1055".parse().unwrap());
    assert_eq!((config.max_connections, config.hold_for), (1024, Duration::from_secs(30)));
    assert_eq!((config.upstream, config.allow, config.ready_after), (UpstreamConfig::Direct, None, None));
}

#[test]
fn all_faults_are_told_together_each_with_what_to_do() {
    let text = "listen = \"0.0.0.0:1055\"\nupstream = \"sock5\"\nhold_for = 30\nhold_fro = \"1s\"\nallow = [\"a:x\"]\n\
                max_connections = 0\n[probes.p]\ntarget = \"nowhere\"\n";
    let want = [
        "1: 0.0.0.0 is not loopback: whoever reaches it could use this machine's way out; listen on `127.0.0.1`, or say \
         `allow_remote = true`",
        "2: unknown value `sock5` for `upstream`; did you mean `socks5`? the values are `tailscale`, `socks5`, `direct`",
        "3: `hold_for` takes a duration, not an integer; add a unit: `hold_for = \"30s\"` or `hold_for = \"30m\"`",
        "4: unknown key `hold_fro` at the top level; did you mean `hold_for`? the keys here are",
        "5: `a:x` in `allow`: its ports are not numbers from 1 to 65535, nor `*`; write it like",
        "6: `max_connections` cannot be `0`; use 1 to 100000",
        "8: bad `target` `nowhere`: it is not `host:port`; ports are 1 to 65535; write it like `git.example.org:22`",
    ];
    let found = faults(text);
    assert_eq!(found.len(), want.len(), "{found:#?}");
    for (found, want) in found.iter().zip(want) {
        assert!(found.starts_with(want), "{found}\n{want}");
    }
}

#[test]
fn beyond_loopback_is_listened_on_only_when_told() {
    assert_eq!(faults("listen = \"[::]:1\"\nupstream = \"direct\"\n").len(), 1);
    assert!(!good("listen = \"[::]:1\"\nallow_remote = true\nupstream = \"direct\"\n").listen.ip().is_loopback());
    assert_eq!(good("listen = \"[::1]:1\"\nupstream = \"direct\"\n").listen.port(), 1);
}

#[test]
fn an_upstream_needs_its_own_table_and_no_other() {
    assert!(faults("upstream = \"socks5\"\n")[0].starts_with("1: missing key `socks5` at the top level"));
    let other = faults("upstream = \"direct\"\n[socks5]\naddress = \"127.0.0.1:9\"\n");
    assert_eq!(
        other,
        ["2: `[socks5]` is of another upstream than the one chosen; take it out, or say `upstream = \"socks5\"`"]
    );
    let own = faults("upstream = \"socks5\"\nsocks5 = { address = \"127.0.0.1:1055\" }\n");
    assert!(own[0].contains("the upstream is this proxy itself"), "{own:?}");
}

#[test]
fn a_key_in_the_arguments_of_up_is_refused() {
    let tailscale = |more: &str| format!("upstream = \"tailscale\"\n[tailscale]\n{more}\n");
    for arg in ["--auth-key=tskey-x", "--authkey", "-auth-key=file:/x"] {
        let found = faults(&tailscale(&format!("up_args = [\"{arg}\"]")));
        assert!(found[0].contains("would show in every process list"), "{found:?}");
    }
    assert!(faults(&tailscale("up_args = [\"--reset\"]"))[0].contains("`--reset` is not for `up_args`"));
    let both = faults(&tailscale("auth_key_file = \"/k\"\nauth_key_credential = \"k\""));
    assert!(both[0].contains("both `auth_key_file` and `auth_key_credential`"), "{both:?}");
    let config = good(&tailscale("auth_key_credential = \"k\"\nup_args = [\"--ssh\"]"));
    let UpstreamConfig::Tailscale(config) = config.upstream else { panic!() };
    assert_eq!(config.auth_key, Some(AuthKey::Credential("k".into())));
    assert!(faults(&tailscale("socks_address = \"0.0.0.0:1\""))[0].contains("must listen on loopback"));
    assert!(faults(&tailscale("auth_key_credential = \"../k\""))[0].contains("is not the name of a credential"));
}

#[test]
fn faults_are_printed_with_their_place_and_exit_code_2() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("p.toml");
    std::fs::write(&file, "upstream = \"direct\"\nbogus = 1\n").unwrap();
    let run = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_proxy-shim"));
        let out = command.args(args).current_dir(dir.path()).env_remove("CC_CI_PROXY_CONFIG").output().unwrap();
        (out.status.code(), String::from_utf8(out.stderr).unwrap())
    };
    let (code, text) = run(&["check", "--config", "p.toml"]);
    assert_eq!(code, Some(2));
    assert!(text.starts_with("error: unknown key `bogus` at the top level\n --> "), "{text}");
    let last = format!("proxy-shim: check the config `{}`: 1 error", file.display());
    assert_eq!(text.lines().last(), Some(last.as_str()));
    let (code, text) = run(&["run"]);
    assert_eq!(code, Some(2));
    assert!(text.starts_with("proxy-shim: find a config: `--config` is not given"), "{text}");
}

#[test]
fn each_config_of_the_page_is_right() {
    let blocks: Vec<&str> = PAGE.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(blocks.len() >= 2);
    for block in blocks {
        good(block);
    }
}

#[test]
fn the_page_has_each_key_with_its_value_and_default() {
    let plain = |text: &str| text.replace('`', "");
    let rows: Vec<String> = PAGE.lines().map(plain).collect();
    for table in TABLES {
        for key in table.keys {
            let row = plain(&format!("| {} | {} | {} | ", key.name, key.form, key.default));
            assert!(rows.iter().any(|have| have.starts_with(&row)), "docs/proxy.md lacks `{row}`");
        }
    }
}

#[test]
fn each_example_of_a_key_is_of_its_form() {
    for table in TABLES {
        for key in table.keys {
            let line = format!("{} = {}\n", key.name, key.example);
            let text = match table.header {
                "" if key.name == "upstream" => line,
                "" if key.name == "socks5" => format!("upstream = \"socks5\"\n{line}"),
                "" if key.name == "tailscale" => format!("upstream = \"tailscale\"\n{line}"),
                "" => format!("upstream = \"direct\"\n{line}"),
                "[socks5]" => format!("upstream = \"socks5\"\n[socks5]\n{line}"),
                "[tailscale]" => format!("upstream = \"tailscale\"\n[tailscale]\n{line}"),
                _ if key.name == "target" => format!("upstream = \"direct\"\n[probes.x]\n{line}"),
                _ => format!("upstream = \"direct\"\n[probes.x]\ntarget = \"a:1\"\n{line}"),
            };
            good(&text);
        }
    }
}

#[test]
fn each_command_of_the_page_is_in_the_help_with_its_options() {
    let mut seen = 0;
    for line in PAGE.lines().filter(|line| line.starts_with("    ")) {
        let Some((_, rest)) = line.split_once("proxy-shim ").filter(|(before, _)| !before.contains('#')) else {
            continue;
        };
        let words: Vec<&str> = rest.split("  #").next().unwrap().split_whitespace().collect();
        let mut command = Command::new(env!("CARGO_BIN_EXE_proxy-shim"));
        let out = command.args([words[0], "--help"]).output().unwrap();
        assert!(out.status.success(), "{line}");
        let help = String::from_utf8(out.stdout).unwrap();
        for option in words.iter().filter(|word| word.starts_with("--")) {
            assert!(help.contains(option), "{line}: no `{option}` in:\n{help}");
        }
        seen += 1;
    }
    assert!(seen >= 4, "{seen}");
}

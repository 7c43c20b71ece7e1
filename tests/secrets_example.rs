//! The example in secrets/ is what the first host's machine would decrypt and place; the real file's recipients are no keys
//! until somebody puts theirs there.

#![allow(clippy::unwrap_used, reason = "a test")]

mod secrets_kit;

use regex::Regex;
use secrets_kit::{Lab, Said, USER, rights, with_stdin};
use std::fs;
use std::path::{Path, PathBuf};

fn of_project(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

fn example(file: &str) -> PathBuf {
    of_project("secrets/example").join(file)
}

/// The files of the host by their names: what they are called in sops, and their format.
fn files_of_host() -> Vec<(String, String, String)> {
    let text = fs::read_to_string(of_project("hosts/cc-ci-orchestrator/secrets.nix")).unwrap();
    let file = Regex::new(r#"(?s)([\w-]+) = \{\s+sops = "([^"]+)";.*?format = "([^"]+)";"#).unwrap();
    file.captures_iter(&text).map(|found| (found[1].into(), found[2].into(), found[3].into())).collect()
}

/// A manifest of all of these, and this file as the key of the machine.
fn lab(key: &str) -> Option<Lab> {
    let lab = Lab::new()?;
    let entries: Vec<String> = files_of_host()
        .iter()
        .map(|(name, sops, format)| {
            let pair = if name == "incus-certificate" { "\nprivate_key = \"incus-key\"" } else { "" };
            let more = format!("sops_key = \"{sops}\"\nformat = \"{format}\"{pair}");
            let entry = lab.entry(name, &format!("home/{name}"), &more);
            entry.lines().filter(|line| !line.starts_with("source")).map(|line| format!("{line}\n")).collect()
        })
        .collect();
    lab.manifest(&entries);
    let text = format!("age_key_file = \"{}\"\n{}", lab.path("keys/key.txt").display(), lab.read("m.toml"));
    fs::write(lab.path("m.toml"), text).unwrap();
    let mut command = lab.command("bootstrap-key");
    command.arg("--sops").arg(example("cc-ci-orchestrator.yaml")).arg("--key-file").arg(lab.path("keys/key.txt"));
    let said = with_stdin(command, &fs::read_to_string(example(key)).unwrap());
    assert_eq!(said.code, 0, "{said:?}");
    Some(lab)
}

#[test]
fn the_machines_key_and_the_operators_place_every_file_of_the_host() {
    for key in ["key.txt", "operator.txt"] {
        let Some(lab) = lab(key) else { return };
        let mut command = lab.command("place");
        let said = Said::of(command.arg("--sops").arg(example("cc-ci-orchestrator.yaml")).output().unwrap());
        assert_eq!(said.code, 0, "{said:?}");
        let names: Vec<String> = files_of_host().into_iter().map(|(name, ..)| name).collect();
        assert_eq!(names, ["testenv", "root-ssh-key", "incus-certificate", "incus-key"]);
        for name in names {
            assert_eq!(rights(&lab.path("home").join(&name)), (USER, USER, 0o400), "{name}");
        }
        assert_eq!(lab.read("home/testenv"), "GITEA_TOKEN=not-a-real-token\nTS_AUTH_KEY=not-a-real-key\n");
        assert!(lab.read("home/incus-key").starts_with("-----BEGIN PRIVATE KEY-----\n"));
    }
}

#[test]
fn each_value_that_the_hosts_configuration_names_is_in_the_example() {
    let encrypted = fs::read_to_string(example("cc-ci-orchestrator.yaml")).unwrap();
    let mut wanted: Vec<String> = files_of_host().into_iter().map(|(_, sops, _)| sops).collect();
    wanted.push("tailscale-auth-key".to_owned());
    for name in &wanted {
        let line = encrypted.lines().find(|line| line.starts_with(&format!("{name}: ")));
        assert!(line.is_some_and(|line| line.contains(": ENC[AES256_GCM,")), "{name}: {line:?}");
    }
    let readme = fs::read_to_string(of_project("secrets/README.md")).unwrap();
    assert!(wanted.iter().all(|name| readme.contains(&format!("`{name}`"))), "{wanted:?}");
}

#[test]
fn a_recipient_in_the_settings_of_sops_is_a_key_or_nothing_can_be_encrypted_for_it() {
    let text = fs::read_to_string(of_project("secrets/.sops.yaml")).unwrap();
    let anchors: Vec<&str> = text.lines().filter_map(|line| line.trim().strip_prefix("- &")).collect();
    assert_eq!(anchors.len(), 2, "{text}");
    for anchor in anchors {
        let (name, recipient) = anchor.split_once(' ').unwrap();
        let key = recipient.parse::<age::x25519::Recipient>().is_ok();
        // Mixed case, which no Bech32 may have: sops refuses it too (tried with 3.11.0).
        let word = recipient.starts_with("age1-PUT-THE-");
        assert!(key != word, "{name}: `{recipient}` is neither a key nor a placeholder");
        assert!(text.contains(&format!("- *{name}\n")), "{name} is in no rule");
    }
}

//! `secrets-placer bootstrap-key`, and `place --sops` with that key. (tests/sops/README.md tells of the files.)

#![allow(clippy::unwrap_used, reason = "a test")]

mod secrets_kit;

use secrets_kit::{Lab, Said, USER, picture, rights, with_stdin};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sops").join(name)
}

fn key() -> String {
    fs::read_to_string(fixture("key.txt")).unwrap()
}

fn bootstrap(lab: &Lab, stdin: &str, more: &[&str]) -> Said {
    let mut command = lab.command("bootstrap-key");
    command.arg("--sops").arg(fixture("values.yaml")).arg("--key-file").arg(lab.path("keys/key.txt")).args(more);
    let said = with_stdin(command, stdin);
    let secret = key().lines().find(|l| l.starts_with("AGE-SECRET-KEY-1")).unwrap().to_owned();
    assert!(!format!("{said:?}").contains(&secret), "{said:?}");
    said
}

#[test]
fn the_age_key_is_put_in_its_place_once() {
    let Some(lab) = Lab::new() else { return };
    let said = bootstrap(&lab, &key(), &[]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(lab.plain(&said.out).starts_with("placed: the age key at `LAB/keys/key.txt`, which decrypts `"));
    let path = lab.path("keys/key.txt");
    assert_eq!((rights(&path), lab.read("keys/key.txt")), ((0, 0, 0o400), key()));
    let inode = path.metadata().unwrap().ino();
    let said = bootstrap(&lab, &key(), &[]);
    assert!(said.code == 0 && said.out.starts_with("unchanged: "), "{said:?}");
    assert_eq!(path.metadata().unwrap().ino(), inode);
}

#[test]
fn a_key_that_is_not_this_machines_is_refused_before_anything_is_written() {
    let Some(lab) = Lab::new() else { return };
    let other = fs::read_to_string(fixture("other.txt")).unwrap();
    let public = key().lines().find_map(|l| l.strip_prefix("# public key: ")).unwrap().to_owned();
    for (stdin, expected) in [
        ("", "reading the age key from stdin: it has no age secret key; "),
        ("hunter2", "reading the age key from stdin: line 1 is no age secret key, or one with a letter wrong; "),
        (public.as_str(), "reading the age key from stdin: line 1 is an age public key, not the secret one; "),
        (other.as_str(), "is none of the file's recipients; give the key of this machine, or add it to .sops.yaml"),
    ] {
        let said = bootstrap(&lab, stdin, &[]);
        assert!(said.code == 1 && said.err.contains(expected), "{said:?}");
    }
    assert!(!lab.path("keys").exists());
}

#[test]
fn a_file_that_the_key_cannot_decrypt_is_found_at_once() {
    let Some(lab) = Lab::new() else { return };
    let text = fs::read_to_string(fixture("values.yaml")).unwrap();
    let broken = lab.path("broken.yaml");
    for (changed, expected) in [
        (text.replace("region_unencrypted: eu", "region_unencrypted: us"), "its MAC is not that of its values"),
        (text.replace("\n            SVNi", "\n            SVNj"), "none of its recipients is this machine's key"),
        ("a: b\n".to_owned(), "it is not encrypted by sops"),
    ] {
        assert_ne!(changed, text);
        fs::write(&broken, changed).unwrap();
        let mut command = lab.command("bootstrap-key");
        command.arg("--sops").arg(&broken).arg("--key-file").arg(lab.path("keys/key.txt"));
        let said = with_stdin(command, &key());
        assert!(said.code == 1 && said.err.contains(expected), "{said:?}");
    }
    assert!(!lab.path("keys").exists());
}

#[test]
fn another_key_that_is_there_is_replaced_only_when_told_to() {
    let Some(lab) = Lab::new() else { return };
    assert_eq!(bootstrap(&lab, &key(), &[]).code, 0);
    fs::write(lab.path("keys/key.txt"), "another").unwrap();
    let said = bootstrap(&lab, &key(), &[]);
    assert_eq!(
        (said.code, lab.plain(&said.err).as_str()),
        (
            1,
            "secrets-placer: placing the age key at `LAB/keys/key.txt`: a different one is there; keep it, or give \
             `--replace`\n"
        )
    );
    assert_eq!(lab.read("keys/key.txt"), "another");
    assert_eq!(bootstrap(&lab, &key(), &["--replace"]).code, 0);
    assert_eq!(lab.read("keys/key.txt"), key());
}

#[test]
fn secrets_come_straight_from_a_sops_file() {
    let Some(lab) = Lab::new() else { return };
    assert_eq!(bootstrap(&lab, &key(), &[]).code, 0);
    let without_source =
        |entry: String| entry.lines().filter(|l| !l.starts_with("source")).map(|l| format!("{l}\n")).collect();
    let entries: [String; 2] = [
        lab.entry("testenv", "home/.testenv", "format = \"dotenv\"\nrequired_keys = [\"GITEA_TOKEN\"]"),
        lab.entry("incus", "home/key", "sops_key = \"incus/client_key\""),
    ]
    .map(without_source);
    lab.manifest(&entries);
    let text = format!("age_key_file = \"{}\"\n{}", lab.path("keys/key.txt").display(), lab.read("m.toml"));
    fs::write(lab.path("m.toml"), text).unwrap();
    let place = |file: &Path| Said::of(lab.command("place").arg("--sops").arg(file).output().unwrap());
    let said = place(&fixture("values.yaml"));
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(lab.read("home/.testenv"), "GITEA_TOKEN=not-a-real-token\nTS_AUTH_KEY=not-a-real-key\n");
    assert_eq!(lab.read("home/key"), "first line\nsecond line");
    assert_eq!(rights(&lab.path("home/key")), (USER, USER, 0o400));
    // A file without one of them, and none at all.
    let home = picture(&lab.path("home"));
    let said = place(&fixture("binary.json"));
    assert!(said.code == 1 && said.err.contains("there is no `incus`; see which keys there are"), "{said:?}");
    let said = lab.run("place");
    let expected = "secrets-placer: reading the secret `incus`: the manifest has neither `source` nor `credential` for it; \
                    add one, or give `--sops FILE`\n";
    assert!(said.code == 1 && said.err.starts_with(expected), "{said:?}");
    assert_eq!(picture(&lab.path("home")), home);
}

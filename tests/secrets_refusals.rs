//! What `secrets-placer` refuses besides a target's owner's tricks: no root, no key, strangers' leftovers, a read-only disk.

#![allow(clippy::unwrap_used, reason = "a test")]

mod secrets_kit;

use secrets_kit::{Lab, Said, USER, picture, with_stdin};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// The first line of what it says of a failure.
#[track_caller]
fn told(lab: &Lab, said: &Said) -> String {
    assert_eq!(said.code, 1, "{said:?}");
    lab.plain(said.err.lines().next().unwrap())
}

#[test]
fn who_is_not_root_reads_no_source_and_becomes_nobody_else() {
    let Some(lab) = Lab::simple() else { return };
    // The user may not be able to reach where it was built.
    let program = lab.path("secrets-placer");
    fs::copy(env!("CARGO_BIN_EXE_secrets-placer"), &program).unwrap();
    let check = || {
        let mut command = Command::new(&program);
        command.args(["check", "--manifest"]).arg(lab.path("m.toml")).uid(64_200).gid(64_200);
        Said::of(command.output().unwrap())
    };
    let source =
        "secrets-placer: reading the secret `testenv` from `LAB/src/testenv`: permission denied; run it as root";
    assert_eq!(told(&lab, &check()), source);
    fs::set_permissions(lab.path("src/testenv"), Permissions::from_mode(0o644)).unwrap();
    let said = check();
    let becoming = format!("becoming the user `{USER}`: only root can become another user; run it as root");
    assert!(said.code == 1 && said.err.contains(&becoming), "{said:?}");
}

#[test]
fn a_strangers_file_in_the_temporary_files_place_is_left_alone() {
    let Some(lab) = Lab::simple() else { return };
    let temp = lab.path("home/..testenv.cc-ci-tmp");
    fs::write(&temp, "a stranger's").unwrap();
    chown(&temp, Some(64_200), None).unwrap();
    let home = picture(&lab.path("home"));
    let expected = "secrets-placer: placing the secret `testenv`: looking at `LAB/home/..testenv.cc-ci-tmp`: it belongs to \
                    the user 64200; move it away";
    assert_eq!(told(&lab, &lab.run("place")), expected);
    chown(&temp, Some(USER), None).unwrap();
    fs::hard_link(&temp, lab.path("home/other")).unwrap();
    let expected = "secrets-placer: placing the secret `testenv`: looking at `LAB/home/..testenv.cc-ci-tmp`: the file has 2 \
                    names (hard links); remove it or the others";
    assert_eq!(told(&lab, &lab.run("place")), expected);
    fs::remove_file(lab.path("home/other")).unwrap();
    chown(&temp, Some(64_200), None).unwrap();
    assert_eq!(picture(&lab.path("home")), home);
}

#[test]
fn a_read_only_disk_is_told_with_what_to_do() {
    let Some(lab) = Lab::simple() else { return };
    let mount =
        |how: &str| Command::new("mount").args(["-t", "tmpfs", "-o", how, "cc-test"]).arg(lab.path("home")).output();
    if !mount("ro,mode=755").is_ok_and(|done| done.status.success()) {
        eprintln!("skipped: mounting is not permitted");
        return;
    }
    let said = lab.run("place");
    assert!(Command::new("umount").arg(lab.path("home")).status().unwrap().success());
    let expected = format!(
        "secrets-placer: placing the secret `testenv`: writing `LAB/home/..testenv.cc-ci-tmp` as `{USER}`: read-only file \
         system; mount it writable, or let the unit write there (ReadWritePaths=)"
    );
    assert_eq!(told(&lab, &said), expected);
}

#[test]
fn a_sops_file_without_the_machines_key_is_told_with_how_it_gets_there() {
    let Some(lab) = Lab::simple() else { return };
    let values = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sops/values.yaml");
    let key = lab.path("keys/key.txt");
    let place = || {
        let mut command = lab.command("place");
        Said::of(command.arg("--sops").arg(&values).arg("--key-file").arg(&key).output().unwrap())
    };
    let expected = "secrets-placer: reading the age key `LAB/keys/key.txt`: it is not there; put the machine's key in its place \
                    with `secrets-placer bootstrap-key`";
    assert_eq!(told(&lab, &place()), expected);
    fs::create_dir(lab.path("keys")).unwrap();
    fs::write(&key, "hunter2").unwrap();
    let expected = "secrets-placer: reading the age key `LAB/keys/key.txt`: line 1 is no age secret key, or one with a letter \
                    wrong; give the file that `age-keygen` wrote, unchanged";
    assert_eq!(told(&lab, &place()), expected);
    fs::write(&key, vec![b'#'; (1 << 20) + 1]).unwrap();
    let expected = "secrets-placer: reading the age key `LAB/keys/key.txt`: it has more than 1048576 bytes, which no key has; \
                    name another with `--key-file FILE`";
    assert_eq!(told(&lab, &place()), expected);
    assert!(!lab.path("home/.testenv").exists());
}

#[test]
fn what_is_no_sops_file_is_told_with_the_option_that_names_another() {
    let Some(lab) = Lab::new() else { return };
    let key = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sops/key.txt")).unwrap();
    for (name, cause) in [("nowhere", "it is not there"), ("home", "it is a folder")] {
        let mut command = lab.command("bootstrap-key");
        command.arg("--sops").arg(lab.path(name)).arg("--key-file").arg(lab.path("key.txt"));
        let said = with_stdin(command, &key);
        let expected =
            format!("secrets-placer: reading the sops file `LAB/{name}`: {cause}; name another with `--sops FILE`");
        assert_eq!(told(&lab, &said), expected);
    }
}

#[test]
fn what_is_no_key_at_all_is_not_read_without_end() {
    let Some(lab) = Lab::new() else { return };
    let values = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sops/values.yaml");
    let mut command = lab.command("bootstrap-key");
    command.arg("--sops").arg(values).arg("--key-file").arg(lab.path("key.txt"));
    let said = with_stdin(command, &"#".repeat((1 << 20) + 1));
    let expected = "secrets-placer: reading the age key from stdin: it has more than 1048576 bytes, which no key has; give the \
                    file that `age-keygen` wrote";
    assert_eq!(told(&lab, &said), expected);
    assert!(!lab.path("key.txt").exists());
}

//! `secrets-placer` against the owner of a target's folder, and against its own secrets getting out.

#![allow(clippy::unwrap_used, reason = "a test")]

mod secrets_kit;

use rustix::fs::{CWD, FileType, Mode, mkfifoat, mknodat};
use secrets_kit::{Lab, SECRET, Said, USER, picture, rights};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

/// Refused by name, with nothing changed, by `place` and by `check`.
#[track_caller]
fn refused(lab: &Lab, expected: &str) {
    let before = picture(&lab.path("home"));
    for verb in ["place", "check"] {
        let said = lab.run(verb);
        assert_eq!(said.code, 1, "{verb}: {said:?}");
        let told = lab.plain(said.err.lines().next().unwrap());
        assert_eq!(told, format!("secrets-placer: placing the secret `testenv`: {expected}"), "{verb}");
    }
    assert_eq!(picture(&lab.path("home")), before);
}

fn own(path: &Path) {
    std::os::unix::fs::lchown(path, Some(USER), Some(USER)).unwrap();
}

#[test]
fn what_is_no_plain_file_in_the_targets_place_is_refused_by_name() {
    let Some(lab) = Lab::simple() else { return };
    let path = lab.path("home/.testenv");
    let victim = lab.path("victim");
    fs::write(&victim, "victim").unwrap();
    let makers: [(&str, &dyn Fn()); 6] = [
        ("a symlink", &|| symlink(&victim, &path).unwrap()),
        ("a symlink", &|| symlink("nowhere", &path).unwrap()),
        ("a FIFO", &|| mkfifoat(CWD, &path, Mode::RWXU).unwrap()),
        ("a device node", &|| {
            mknodat(CWD, &path, FileType::CharacterDevice, Mode::RWXU, rustix::fs::makedev(1, 3)).unwrap();
        }),
        ("a folder", &|| fs::create_dir(&path).unwrap()),
        ("a socket", &|| drop(UnixListener::bind(&path).unwrap())),
    ];
    for (what, make) in makers {
        make();
        own(&path);
        refused(&lab, &format!("looking at `LAB/home/.testenv`: it is {what}, not a file; move it away"));
        if path.is_dir() { fs::remove_dir(&path).unwrap() } else { fs::remove_file(&path).unwrap() }
    }
    assert_eq!(fs::read_to_string(victim).unwrap(), "victim");
}

#[test]
fn a_hard_link_in_the_targets_place_is_refused() {
    let Some(lab) = Lab::simple() else { return };
    fs::write(lab.path("home/other"), "x").unwrap();
    own(&lab.path("home/other"));
    fs::hard_link(lab.path("home/other"), lab.path("home/.testenv")).unwrap();
    let names = "the file has 2 names (hard links); remove it or the others";
    refused(&lab, &format!("looking at `LAB/home/.testenv`: {names}"));
}

#[test]
fn something_in_the_temporary_files_place_is_refused() {
    let Some(lab) = Lab::simple() else { return };
    let temp = lab.path("home/..testenv.cc-ci-tmp");
    symlink(lab.path("victim"), &temp).unwrap();
    refused(&lab, "looking at `LAB/home/..testenv.cc-ci-tmp`: it is a symlink, not a file; move it away");
    assert!(!lab.path("victim").exists());
}

#[test]
fn a_way_that_others_could_bend_is_refused() {
    let Some(lab) = Lab::simple() else { return };
    lab.manifest(&[lab.entry("testenv", "home/a/b/x", "")]);
    fs::create_dir(lab.path("home/a")).unwrap();
    own(&lab.path("home/a"));
    let b = lab.path("home/a/b");
    symlink(lab.path("src"), &b).unwrap();
    let going = "going through `LAB/home/a/b`:";
    refused(&lab, &format!("{going} it is a symlink; write the path that it leads to, or put a folder there"));
    fs::remove_file(&b).unwrap();
    fs::write(&b, "").unwrap();
    refused(&lab, &format!("{going} it is no folder; move away what is there, or choose another path"));
    fs::remove_file(&b).unwrap();
    fs::create_dir(&b).unwrap();
    chown(&b, Some(64_200), None).unwrap();
    let other = format!(
        "it belongs to the user 64200, who is neither root nor `{USER}`; choose another path, or make that user the `owner`"
    );
    refused(&lab, &format!("{going} {other}"));
    own(&b);
    for mode in [0o777, 0o1777] {
        fs::set_permissions(&b, Permissions::from_mode(mode)).unwrap();
        let all = "everybody can write there; choose another path, or `chmod o-w LAB/home/a/b`";
        refused(&lab, &format!("{going} {all}"));
    }
    fs::set_permissions(&b, Permissions::from_mode(0o700)).unwrap();
    fs::set_permissions(lab.path("home/a"), Permissions::from_mode(0o777)).unwrap();
    let all = "everybody can write there; choose another path, or `chmod o-w LAB/home/a`";
    refused(&lab, &format!("going through `LAB/home/a`: {all}"));
    fs::set_permissions(lab.path("home/a"), Permissions::from_mode(0o1777)).unwrap();
    lab.place();
}

#[test]
fn root_writes_nothing_into_a_users_folder() {
    let Some(lab) = Lab::simple() else { return };
    let source = lab.path("src/testenv");
    let (source, path) = (source.display(), lab.path("home/x"));
    lab.manifest(&[format!(
        "[secrets.testenv]\nsource = \"{source}\"\npath = \"{}\"\nowner = \"root\"\n",
        path.display()
    )]);
    let other = format!("it belongs to the user {USER}, who is neither root nor `root`");
    refused(&lab, &format!("going through `LAB/home`: {other}; choose another path, or make that user the `owner`"));
}

#[test]
fn a_user_gets_no_more_rights_than_the_user_has() {
    let Some(lab) = Lab::simple() else { return };
    fs::create_dir(lab.path("roots")).unwrap();
    lab.manifest(&[lab.entry("testenv", "roots/new/x", "")]);
    let said = lab.run("place");
    assert_eq!(
        lab.plain(said.err.lines().next().unwrap()),
        format!(
            "secrets-placer: placing the secret `testenv`: creating the folder `LAB/roots/new` as `{USER}`: permission \
             denied; make it beforehand, owned by that user"
        )
    );
    lab.manifest(&[lab.entry("testenv", "roots/x", "")]);
    let said = lab.run("place");
    assert!(said.err.contains("permission denied; let that user write into the folder"), "{said:?}");
    fs::set_permissions(lab.path("roots"), Permissions::from_mode(0o700)).unwrap();
    let said = lab.run("place");
    assert!(said.err.contains("permission denied"), "{said:?}");
    assert_eq!(fs::read_dir(lab.path("roots")).unwrap().count(), 0);
}

/// Runs the placer against a script of the user's, often; then nothing of root's has changed and nothing got out.
fn race(perl: &str) {
    let Some(lab) = Lab::simple() else { return };
    // Root's: a file and a folder that the user would like to have written, owned or filled.
    fs::create_dir(lab.path("victim")).unwrap();
    fs::write(lab.path("victim/shadow"), "root:x").unwrap();
    fs::set_permissions(lab.path("victim/shadow"), Permissions::from_mode(0o600)).unwrap();
    lab.source("roots", "a secret of root's");
    // The user's own from the start: what root made there would be safe from being renamed.
    fs::create_dir(lab.path("home/d")).unwrap();
    own(&lab.path("home/d"));
    let roots = format!(
        "[secrets.roots]\nsource = \"{}\"\npath = \"{}\"\nowner = \"root\"\n",
        lab.path("src/roots").display(),
        lab.path("etc/roots").display()
    );
    let entries = [
        roots,
        lab.entry("testenv", "home/.testenv", "mode = \"0600\""),
        lab.entry("key", "home/d/key", "mode = \"0600\""),
    ];
    lab.source("key", SECRET);
    lab.manifest(&entries);
    lab.place();
    let before = (picture(&lab.path("victim")), picture(&lab.path("etc")), picture(&lab.path("src")));
    // Each thing is there for a while, so that the placer meets it.
    let perl = format!("sub w {{ select(undef, undef, undef, 0.001 * rand()) }}; {perl}");
    let script = perl.replace("VICTIM", lab.path("victim").to_str().unwrap());
    let attacker = lab.attacker(&script);
    let mut codes = [0; 4];
    for round in 0..40 {
        lab.source("testenv", format!("TOKEN={SECRET}{round}\n"));
        let said = lab.run("place");
        codes[usize::try_from(said.code).unwrap()] += 1;
        assert!(matches!(said.code, 0 | 1 | 3), "{said:?}");
        assert!(!said.err.contains(SECRET) && !said.out.contains(SECRET), "{said:?}");
    }
    drop(attacker);
    lab.source("testenv", format!("TOKEN={SECRET}\n"));
    let after = (picture(&lab.path("victim")), picture(&lab.path("etc")), picture(&lab.path("src")));
    assert_eq!(after, before, "exit codes: {codes:?}");
    // What the user left in the way is the user's to move away; then it is placed.
    for name in ["home/.testenv", "home/..testenv.cc-ci-tmp", "home/d", "home/e"] {
        let path = lab.path(name);
        match path.symlink_metadata() {
            Ok(stat) if stat.is_dir() => fs::remove_dir_all(path).unwrap(),
            Ok(_) => fs::remove_file(path).unwrap(),
            Err(_) => {}
        }
    }
    lab.place();
    assert_eq!(rights(&lab.path("home/.testenv")), (USER, USER, 0o600));
    eprintln!("40 rounds, by exit code: {codes:?}");
}

#[test]
fn a_target_that_turns_into_a_symlink_all_the_time_leads_nowhere() {
    race(
        "while (1) { unlink '.testenv'; w; symlink 'VICTIM/shadow', '.testenv'; w; unlink '.testenv'; w; \
          open F, '>.testenv'; close F; w; }",
    );
}

#[test]
fn a_temporary_file_that_turns_into_a_link_all_the_time_leads_nowhere() {
    race(
        "$t = '..testenv.cc-ci-tmp'; while (1) { symlink 'VICTIM/new', $t; unlink $t; symlink 'VICTIM/shadow', $t; \
          unlink $t; link '.testenv', $t; unlink $t; w if rand() < 0.1; }",
    );
}

#[test]
fn a_folder_that_is_swapped_for_a_symlink_all_the_time_leads_nowhere() {
    race("while (1) { rename 'd', 'e'; symlink 'VICTIM', 'd'; w; unlink 'd'; rename 'e', 'd'; unlink 'd/key'; w; }");
}

#[test]
fn a_finished_file_that_is_swapped_all_the_time_leads_nowhere() {
    race(
        "$t = '..testenv.cc-ci-tmp'; while (1) { rename $t, 'stolen' and symlink 'VICTIM/shadow', $t; w if rand() < 0.1; \
          link '.testenv', 'hard'; unlink 'hard'; unlink $t; }",
    );
}

/// All that the placer and its workers did, by strace, each line with its process; `None`, with the reason printed, where there is none.
fn traced(lab: &Lab, what: &str) -> Option<String> {
    let logs = lab.path("strace");
    fs::create_dir(&logs).unwrap();
    let mut strace = Command::new("strace");
    // A file for each process: in one, their calls interrupt each other.
    strace.args(["-ff", "-y", "-v", "-s", "4096", "-e", what, "-o"]).arg(logs.join("of"));
    strace.arg(env!("CARGO_BIN_EXE_secrets-placer")).arg("place").arg("--manifest").arg(lab.path("m.toml"));
    match strace.env_clear().env("PATH", std::env::var("PATH").unwrap()).output() {
        Ok(done) => assert_eq!(Said::of(done).code, 0),
        Err(e) => {
            eprintln!("skipped: no strace: {e}");
            return None;
        }
    }
    let mut text = String::new();
    for log in fs::read_dir(logs).unwrap().map(|entry| entry.unwrap().path()) {
        let pid = log.extension().unwrap().to_str().unwrap().to_owned();
        text.extend(fs::read_to_string(&log).unwrap().lines().map(|line| format!("{pid} {line}\n")));
    }
    Some(text)
}

#[test]
fn every_open_of_a_target_is_without_symlinks_and_as_its_owner() {
    let Some(lab) = Lab::simple() else { return };
    lab.manifest(&[lab.entry("testenv", "home/deep/er/.testenv", "mode = \"0600\"")]);
    let Some(log) = traced(&lab, "trace=%file,%desc,setresuid") else { return };
    let home = lab.path("home");
    let home = home.to_str().unwrap();
    let mut seen = 0;
    for line in log.lines().filter(|l| l.contains("open") && (l.contains(home) || l.contains(".testenv"))) {
        // The source has the same name.
        if line.contains("/src/testenv") {
            continue;
        }
        let safe = line.contains("RESOLVE_NO_SYMLINKS") || line.contains("O_NOFOLLOW");
        assert!(!line.contains("openat2(") || line.contains("RESOLVE_NO_SYMLINKS"), "{line}");
        assert!(safe, "{line}");
        seen += 1;
    }
    assert!(seen > 5, "only {seen} opens seen:\n{log}");
    for call in [" chmod(", " chown(", " lchown(", " fchmodat(", " fchownat(", " rename("] {
        assert!(!log.lines().any(|l| l.contains(call) && l.contains(home)), "{call} by path:\n{log}");
    }
    // Whoever opens there has given up root before.
    let user: Vec<&str> = log.lines().filter(|l| l.contains(&format!("setresuid({USER}, {USER}, {USER})"))).collect();
    assert_eq!(user.len(), 1, "{log}");
    let pid = user[0].split(' ').next().unwrap();
    assert!(log.lines().filter(|l| l.contains(home) && l.contains("openat2")).all(|l| l.starts_with(pid)));
}

#[test]
fn content_and_names_reach_the_disk_in_the_order_that_a_power_cut_asks_for() {
    for many in [1, 20] {
        let Some(lab) = Lab::simple() else { return };
        let entries: Vec<_> = (0..many)
            .map(|n| {
                lab.source(&format!("s{n}"), SECRET);
                lab.entry(&format!("s{n}"), &format!("home/s{n}"), "")
            })
            .collect();
        lab.manifest(&entries);
        let Some(log) = traced(&lab, "trace=write,fsync,syncfs,renameat,renameat2,fchmod") else { return };
        let home = lab.path("home");
        let at = |what: &str| -> Vec<usize> {
            let marked = |l: &str| l.contains(what) && l.contains(home.to_str().unwrap());
            log.lines().enumerate().filter(|(_, l)| marked(l)).map(|(number, _)| number).collect()
        };
        let (modes, renames) = (at("fchmod("), at("renameat"));
        let (syncs, folder) = if many == 1 { (at("fsync("), 1) } else { (at("syncfs("), 0) };
        assert_eq!((modes.len(), renames.len()), (many, many), "{log}");
        assert_eq!(syncs.len(), 1 + folder, "{log}");
        assert!(modes.iter().all(|n| *n < syncs[0]), "all is written before it is synced:\n{log}");
        assert!(renames.iter().all(|n| *n > syncs[0]), "no name changes before the content is on disk:\n{log}");
        let last = at("fsync(").pop().unwrap();
        assert!(renames.iter().all(|n| *n < last), "the folder is synced after the names:\n{log}");
    }
}

#[test]
fn no_secret_is_in_any_argument_environment_message_or_state_and_no_core_is_dumped() {
    let Some(lab) = Lab::simple() else { return };
    let Some(log) = traced(&lab, "trace=execve,prctl,prlimit64,setrlimit") else { return };
    assert!(log.matches("execve(").count() >= 2, "{log}");
    assert!(!log.contains(SECRET), "{log}");
    assert!(
        log.matches("PR_SET_DUMPABLE, SUID_DUMP_DISABLE) = 0").count() >= 3,
        "the worker does so again as the user:\n{log}"
    );
    assert!(log.matches("RLIMIT_CORE, {rlim_cur=0, rlim_max=0}").count() >= 2, "{log}");
    let grep =
        Command::new("grep").args(["-r", SECRET]).arg(lab.path("state")).arg(lab.path("m.toml")).output().unwrap();
    assert_eq!(grep.status.code(), Some(1), "{grep:?}");
    lab.source("testenv", format!("TOKEN=\"{SECRET}\n"));
    for verb in ["place", "check", "status", "prune"] {
        let said = lab.run(verb);
        assert!(!said.out.contains(SECRET) && !said.err.contains(SECRET), "{verb}: {said:?}");
    }
}

use super::*;
use crate::support::durable::testing::{SmallDisk, names};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

type Record = BTreeMap<String, u64>;

fn record(epoch: u64) -> Record {
    [("epoch".to_owned(), epoch)].into()
}

#[test]
fn records_come_back_and_the_folders_are_closed_to_others() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("a/state");
    let store = Store::open(&state).unwrap();
    let name: LoopName = "builder".parse().unwrap();
    assert_eq!(store.load_loop::<Record>(&name).unwrap(), Read::Absent);
    store.save_loop(&name, &record(1)).unwrap();
    store.save_global(&record(2)).unwrap();
    store.save_gate(&record(3)).unwrap();
    let view = Store::open_readonly(&state).unwrap();
    assert_eq!(store.load_loop(&name).unwrap(), Read::Current(record(1)));
    assert_eq!(view.load_loop(&name).unwrap(), Read::Current(record(1)));
    assert_eq!(view.load_global().unwrap(), Read::Current(record(2)));
    assert_eq!(store.load_gate().unwrap(), Read::Current(record(3)));
    assert_eq!(names(&state), ["gate.json", "global.json", "logs", "loops", "supervisor.lock"]);
    for folder in ["", "loops", "logs"] {
        assert_eq!(fs::metadata(state.join(folder)).unwrap().permissions().mode() & 0o777, 0o750);
    }
    assert_eq!(store.layout().log(&name), state.join("logs/builder.log"));
}

#[test]
fn a_second_supervisor_is_refused_with_the_pid_of_the_first_until_that_ends() {
    let dir = tempfile::tempdir().unwrap();
    let first = Store::open(dir.path()).unwrap();
    let refused = Store::open(dir.path()).unwrap_err();
    let pid = std::process::id();
    assert!(matches!(refused, StoreError::Locked { pid: Some(p), .. } if p == pid));
    assert_eq!(
        refused.to_string(),
        format!(
            "locking `{}/supervisor.lock`: another supervisor (pid {pid}) is using this state; stop it first \
             (`systemctl stop cc-ci-orchestrator`, or Ctrl-C where it runs), or give this one a `state_dir` of its own",
            dir.path().display()
        )
    );
    Store::open_readonly(dir.path()).unwrap();
    drop(first);
    Store::open(dir.path()).unwrap();
}

const CHILD_STATE: &str = "CC_CI_TEST_STORE_STATE";

/// Not a test of its own: a process that holds the state until it is killed.
#[test]
fn child_that_locks() {
    let Some(state) = std::env::var_os(CHILD_STATE) else { return };
    let _store = Store::open(Path::new(&state)).unwrap_or_else(|refused| panic!("{refused}"));
    eprintln!("locked");
    std::thread::sleep(std::time::Duration::from_secs(60));
}

#[test]
fn the_lock_of_a_killed_supervisor_is_free_at_once() {
    use std::io::BufRead;
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "supervisor::store::tests::child_that_locks", "--nocapture"])
        .env(CHILD_STATE, dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let said = std::io::BufReader::new(child.stderr.take().unwrap());
    assert!(said.lines().map_while(Result::ok).any(|line| line == "locked"));
    let refused = Store::open(dir.path());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(matches!(refused, Err(StoreError::Locked { pid: Some(p), .. }) if p == child.id()));
    Store::open(dir.path()).unwrap();
}

#[test]
fn a_lock_that_a_killed_supervisor_left_for_a_moment_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let held = Store::open(dir.path()).unwrap();
    let mut dead = Command::new("true").spawn().unwrap();
    dead.wait().unwrap();
    fs::write(held.layout().lock(), format!("{}\n", dead.id())).unwrap();
    let begun = std::time::Instant::now();
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| Store::open(dir.path()));
        std::thread::sleep(std::time::Duration::from_millis(50));
        drop(held);
        let held_for = begun.elapsed();
        let opened = waits.join().unwrap();
        // This thread may have been late; the other waits for two seconds only.
        assert!(opened.is_ok() || held_for >= CHILD_OF_DEAD / 2, "{opened:?} after {held_for:?}");
    });
}

#[test]
fn a_look_changes_nothing_and_an_open_sets_a_bad_record_aside() {
    let dir = tempfile::tempdir().unwrap();
    let name: LoopName = "builder".parse().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.save_loop(&name, &record(1)).unwrap();
    store.save_loop(&name, &record(2)).unwrap();
    fs::write(store.layout().loop_record(&name), "{").unwrap();
    let view = Store::open_readonly(dir.path()).unwrap();
    let before = names(&store.layout().loops());
    assert!(matches!(view.load_loop::<Record>(&name).unwrap(), Read::Recovered { set_aside: None, .. }));
    assert_eq!(names(&store.layout().loops()), before);
    let Read::Recovered { value, set_aside: Some(_), .. } = store.load_loop::<Record>(&name).unwrap() else { panic!() };
    assert_eq!(value, record(1));
    // A record whose current version is gone is still a record.
    assert_eq!(store.recorded_loops().unwrap(), [name]);
}

#[test]
fn what_an_interrupted_write_left_is_removed_at_open() {
    let dir = tempfile::tempdir().unwrap();
    drop(Store::open(dir.path()).unwrap());
    for stale in [".global.json.x.cc-ci-tmp", "loops/.builder.json.x.cc-ci-tmp"] {
        fs::write(dir.path().join(stale), "{").unwrap();
    }
    drop(Store::open(dir.path()).unwrap());
    assert_eq!(names(dir.path()), ["logs", "loops", "supervisor.lock"]);
    assert_eq!(names(&dir.path().join("loops")).len(), 0);
}

#[test]
fn a_look_at_a_state_that_never_was_says_so() {
    let missing = Store::open_readonly(Path::new("/nonexistent/state")).unwrap_err();
    assert_eq!(
        missing.to_string(),
        "reading the state in `/nonexistent/state`: there is no such folder; start a supervisor with this config first"
    );
}

#[test]
fn a_full_disk_keeps_no_supervisor_from_starting_and_no_record_is_torn() {
    let Some(disk) = SmallDisk::mount() else { return };
    let state = disk.path().join("state");
    let name: LoopName = "builder".parse().unwrap();
    let store = Store::open(&state).unwrap();
    store.save_loop(&name, &record(1)).unwrap();
    drop(store);
    disk.fill_but(0);
    let store = Store::open(&state).unwrap();
    for refused in [store.save_loop(&name, &record(2)), store.save_global(&record(2)), store.save_gate(&record(2))] {
        let refused = refused.unwrap_err();
        assert!(refused.is_no_space() && refused.to_string().contains("; free space there"), "{refused}");
    }
    assert_eq!(store.load_loop(&name).unwrap(), Read::Current(record(1)));
    assert_eq!(store.load_global::<Record>().unwrap(), Read::Absent);
    disk.free();
    store.save_loop(&name, &record(2)).unwrap();
    assert_eq!(store.load_loop(&name).unwrap(), Read::Current(record(2)));
    // A full disk from the first start on: the lock holds, though it cannot say by whom.
    drop(store);
    fs::remove_dir_all(&state).unwrap();
    disk.fill_but(0);
    let _store = Store::open(&state).unwrap();
    assert!(matches!(Store::open(&state), Err(StoreError::Locked { pid: None, .. })));
}

#[test]
fn a_state_folder_that_cannot_be_written_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    let refused = Store::open(&dir.path().join("file")).unwrap_err();
    assert_eq!(
        refused.to_string(),
        format!(
            "creating the folder `{}/file`: File exists (os error 17); move away what is there, or name another path",
            dir.path().display()
        )
    );
    let refused = Store::open(Path::new("/proc/cc-ci-test")).unwrap_err();
    assert!(refused.to_string().starts_with("creating the folder `/proc/cc-ci-test`: "), "{refused}");
}

#[test]
fn a_folder_of_another_user_names_the_user_that_needs_it() {
    let probe = Command::new("setpriv").arg("--version").output();
    if !rustix::process::geteuid().is_root() || probe.is_err() {
        eprintln!("skipped: only root can become another user, and it takes setpriv(1)");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    drop(Store::open(&dir.path().join("state")).unwrap());
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    // A copy, since the build folder may be closed to others.
    let myself = dir.path().join("tests");
    fs::copy(std::env::current_exe().unwrap(), &myself).unwrap();
    let done = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(myself)
        .args(["--exact", "supervisor::store::tests::child_that_locks", "--nocapture"])
        .env(CHILD_STATE, dir.path().join("state"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    let expected = format!(
        "opening the lock `{}/state/supervisor.lock`: Permission denied (os error 13); make it and its folder belong to \
         uid 65534, which runs this (`chown -R 65534`)\n",
        dir.path().display()
    );
    assert!(said.contains(&expected), "{said}");
}

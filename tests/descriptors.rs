//! Descriptors are counted in a process of its own: other tests would open and close theirs meanwhile.

#![allow(clippy::unwrap_used, reason = "a test")]

use cc_ci::support::child::Task;
use std::process::Command;

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn finished_overdue_and_dropped_tasks_leave_no_descriptor_open() {
    let sh = |script: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    };
    let before = open_descriptors();
    for _ in 0..20 {
        let mut finished = Task::spawn(sh("cat"), Some(b"in".to_vec()), u64::MAX).unwrap();
        while finished.progress().unwrap().is_none() {
            std::thread::yield_now();
        }
        let mut overdue = Task::spawn(sh("sleep 1000"), None, 0).unwrap();
        assert!(overdue.kill_overdue(1).unwrap().is_some());
        drop(Task::spawn(sh("sleep 1000"), Some(Vec::new()), u64::MAX).unwrap());
        assert!(Task::spawn(Command::new("/nonexistent"), Some(Vec::new()), 0).is_err());
    }
    assert_eq!(open_descriptors(), before);
}

//! Power cuts: a move is cut off after any of its steps, what was not synced may be lost, and the next start goes on.

use super::*;
use crate::support::durable::testing::names;
use crate::support::durable::watch;
use proptest::prelude::*;
use std::cell::RefCell;
use std::fs;
use std::rc::Rc;
use tempfile::TempDir;

const PLANS: usize = 5;
const JOURNAL: &str = "journal.jsonl";

/// The two folders, which may be on different disks: the journal's and the index file's.
struct Disks {
    state: TempDir,
    index: TempDir,
}

impl Disks {
    fn new() -> Self {
        Self { state: tempfile::tempdir().unwrap(), index: tempfile::tempdir().unwrap() }
    }

    fn file(&self) -> PathBuf {
        self.index.path().join(".phase-idx")
    }
}

fn copy(from: &Path) -> TempDir {
    let to = tempfile::tempdir().unwrap();
    for name in names(from) {
        fs::copy(from.join(&name), to.path().join(&name)).unwrap();
    }
    to
}

/// What there was after a step.
struct Image {
    step: &'static str,
    index: TempDir,
    journal: Vec<u8>,
}

/// What a power cut right after step `at` may leave: of the index folder any state since its last sync, of the journal
/// everything up to its last sync and any part of the rest.
fn cut_power(images: &[Image], at: usize, folder: usize, tail: usize) -> Disks {
    let last = |step| images[..=at].iter().rposition(|i| i.step == step).unwrap_or(0);
    let folder_synced = last("durable: folder synced");
    let journal_synced = images[last("journal: synced")].journal.len();
    let index = copy(images[folder_synced + folder % (at - folder_synced + 1)].index.path());
    let journal = &images[at].journal;
    let kept = journal_synced + tail % (journal.len() - journal_synced + 1);
    let state = tempfile::tempdir().unwrap();
    fs::write(state.path().join(JOURNAL), &journal[..kept]).unwrap();
    Disks { state, index }
}

#[derive(Debug, Clone)]
struct Cut {
    at: usize,
    folder: usize,
    tail: usize,
}

fn cut() -> impl Strategy<Value = Cut> {
    (any::<usize>(), any::<usize>(), any::<usize>()).prop_map(|(at, folder, tail)| Cut { at, folder, tail })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_power_cut_in_a_move_leaves_the_index_before_or_after_it_and_never_an_older_one(
        moves in proptest::collection::vec((0..=PLANS, proptest::option::weighted(0.7, cut())), 1..8),
    ) {
        let mut disks = Disks::new();
        let mut journal = Journal::open(disks.state.path()).unwrap();
        finish(&mut journal, &disks.file(), 0, Now::default()).unwrap();
        // The model knows only what this move syncs; what came before is on disk.
        accept(&mut journal, 0, None, Now::default()).unwrap();
        let mut index = 0;
        for (to, cut) in moves {
            let images = Rc::new(RefCell::new(Vec::new()));
            let (log, from_index, from_journal) =
                (images.clone(), disks.index.path().to_owned(), disks.state.path().join(JOURNAL));
            let look = move |step| log.borrow_mut().push(Image {
                step,
                index: copy(&from_index),
                journal: fs::read(&from_journal).unwrap(),
            });
            look("before");
            watch(look, || move_to(&mut journal, &disks.file(), index, to, "a test", Now::default())).unwrap();
            let images = images.take();
            let Some(cut) = cut else {
                index = to;
                continue;
            };
            let at = cut.at % images.len();
            disks = cut_power(&images, at, cut.folder, cut.tail);
            journal = Journal::open(disks.state.path()).unwrap();
            let after = load(journal.last_phase(), &disks.file(), PLANS, Access::Owner).unwrap();
            let step = images[at].step;
            let found = match after {
                PhaseLoad::AsJournalled(found) => found,
                PhaseLoad::MoveUnfinished { from, to: target } => {
                    prop_assert_eq!((from, target), (index, to));
                    finish(&mut journal, &disks.file(), to, Now::default()).unwrap();
                    from
                }
                other => return Err(TestCaseError::fail(format!("after `{step}`: {other:?}"))),
            };
            prop_assert!(found == index || found == to, "after `{}`: {}, moving {} to {}", step, found, index, to);
            // From the sync of the folder on, the move is done, whatever is lost.
            if images[..=at].iter().any(|i| i.step == "durable: folder synced") {
                prop_assert_eq!(found, to, "after `{}`", step);
            }
            // A journalled move is finished, one that was not is not.
            index = match load(journal.last_phase(), &disks.file(), PLANS, Access::Owner).unwrap() {
                PhaseLoad::AsJournalled(now) => now,
                other => return Err(TestCaseError::fail(format!("after `{step}` and a start: {other:?}"))),
            };
            if images[..=at].iter().any(|i| i.step == "journal: synced") {
                prop_assert_eq!(index, to);
            }
        }
        // And a file that somebody tears brings back this index, not the one before.
        fs::write(disks.file(), "").unwrap();
        let torn = load(journal.last_phase(), &disks.file(), PLANS, Access::Owner).unwrap();
        prop_assert!(matches!(torn, PhaseLoad::Recovered { index: i, .. } if i == index), "{:?}, not {}", torn, index);
    }
}

#[test]
fn nothing_is_synced_after_the_folder_of_the_index_file() {
    let disks = Disks::new();
    let mut journal = Journal::open(disks.state.path()).unwrap();
    finish(&mut journal, &disks.file(), 0, Now::default()).unwrap();
    let steps = Rc::new(RefCell::new(Vec::new()));
    let log = steps.clone();
    watch(
        move |step| log.borrow_mut().push(step),
        || move_to(&mut journal, &disks.file(), 0, 1, "a test", Now::default()),
    )
    .unwrap();
    let expected = [
        "journal: written",
        "journal: synced",
        "durable: temp created",
        "durable: temp written",
        "durable: temp synced",
        "durable: old linked",
        "durable: renamed",
        "durable: previous kept",
        "durable: folder synced",
        "journal: written",
    ];
    assert_eq!(*steps.borrow(), expected);
}

//! How every target is, compared with what it should be, before anything is changed.

use super::manifest::accounts::Identity;
use super::source::Item;
use super::worker::link::{LinkError, Worker};
use super::worker::{Answer, Difference, Request, State};
use std::collections::BTreeMap;

/// All secrets of one identity, with the worker that may write them.
#[derive(Debug)]
pub struct Crew<'i> {
    /// The worker.
    pub worker: Worker,
    /// The secrets, those of one folder beside each other, and how each is.
    pub items: Vec<(&'i Item, State)>,
}

/// Why there is nothing to go on with.
#[derive(Debug)]
pub enum Stop {
    /// Some targets cannot be placed: why, for each.
    Refused(Vec<String>),
    /// A worker was lost.
    Lost(LinkError),
}

impl From<LinkError> for Stop {
    fn from(e: LinkError) -> Self {
        Self::Lost(e)
    }
}

/// Looks at every target.
///
/// # Errors
/// Everything that stands in the way of any of them.
pub fn survey(items: &[Item]) -> Result<Vec<Crew<'_>>, Stop> {
    let mut of: BTreeMap<&Identity, Vec<&Item>> = BTreeMap::new();
    for item in items {
        of.entry(&item.identity).or_default().push(item);
    }
    let (mut crews, mut refused) = (Vec::new(), Vec::new());
    for (identity, mut items) in of {
        items.sort_by_key(|item| (item.entry.path.parent(), item.entry.path.file_name()));
        let mut worker = match Worker::start(identity)? {
            Ok(worker) => worker,
            Err(told) => {
                refused.push(told);
                continue;
            }
        };
        let asked = items.iter().map(|item| (Request::Inspect(item.target()), Some(&item.content)));
        let mut found = Vec::new();
        for (item, answer) in items.iter().zip(worker.ask_all(asked)?) {
            match answer {
                Ok(Answer::Found(state)) => found.push((*item, state)),
                Ok(other) => refused.push(odd(item, &other)),
                Err(told) => refused.push(format!("placing the secret `{}`: {told}", item.name)),
            }
        }
        crews.push(Crew { worker, items: found });
    }
    if refused.is_empty() { Ok(crews) } else { Err(Stop::Refused(refused)) }
}

/// For an answer to another question.
pub(super) fn odd(item: &Item, answer: &Answer) -> String {
    format!("placing the secret `{}`: the worker answered {answer:?}; please report this", item.name)
}

/// In what a file differs from what it should be, in words.
pub fn told(state: &State, item: &Item) -> String {
    let should = item.target();
    let one = |difference: &Difference| match difference {
        Difference::Content => "another content".to_owned(),
        Difference::Unreadable => "unreadable for its owner".to_owned(),
        Difference::Owner(uid) => format!("owner {uid} instead of {}", should.uid),
        Difference::Group(gid) => format!("group {gid} instead of {}", should.gid),
        Difference::Mode(mode) => format!("mode {mode:04o} instead of {:04o}", should.mode),
        Difference::Leftover => "a temporary file of a run that was cut off".to_owned(),
    };
    match state {
        State::Missing => "missing".to_owned(),
        State::Same => "as it should be".to_owned(),
        State::Differs(differences) => differences.iter().map(one).collect::<Vec<_>>().join(", "),
    }
}

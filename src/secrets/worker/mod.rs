//! The one part that touches targets: a process of our own that has given up root for the target's owner, so that no
//! trick of a folder's owner gets more than the owner has. Gets its orders, and the contents, on a pipe.

mod file;
mod folder;
mod identity;
pub mod link;
pub use identity::{Hardening, harden};

use super::content::{Content, LARGEST};
use super::manifest::accounts::Identity;
use file::Staged;
use folder::Folders;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::PathBuf;

/// Where a content goes, and what the file must be like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// An absolute path without `.` and `..`.
    pub path: PathBuf,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its permissions.
    pub mode: u32,
}

/// What tells a placed file from another at the same path, and says nothing of its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// The inode's number.
    pub inode: u64,
    /// Modified, seconds since the Unix epoch.
    pub seconds: i64,
    /// And nanoseconds.
    pub nanoseconds: u32,
}

impl Stamp {
    /// That of a file.
    pub fn of(stat: &rustix::fs::Stat) -> Self {
        let nanoseconds = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
        Self { inode: stat.st_ino, seconds: stat.st_mtime, nanoseconds }
    }
}

/// When a staged file's content is brought to disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sync {
    /// At once, each by itself.
    Each,
    /// By [`Request::Flush`], all that are on one file system together.
    Together,
}

/// What is asked of the worker. A content follows where one is spoken of.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Request {
    /// The first: become this user.
    Become(Identity),
    /// How the target is, compared with the content. Changes nothing.
    Inspect(Target),
    /// Write the content beside the target, with all that the file must be.
    Stage(Target, Sync),
    /// Bring what was staged to disk.
    Flush,
    /// Put what was staged in place, durably.
    Commit,
    /// Remove a file if it is one of these.
    Remove {
        /// It.
        path: PathBuf,
        /// Its owner.
        uid: u32,
        /// What it may be.
        stamps: Vec<Stamp>,
    },
}

impl Request {
    fn has_content(&self) -> bool {
        matches!(self, Self::Inspect(_) | Self::Stage(..))
    }
}

/// How a target is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Nothing is there.
    Missing,
    /// As it should be.
    Same,
    /// Not as it should be.
    Differs(Vec<Difference>),
}

/// In what a file differs from what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Difference {
    /// It has another content.
    Content,
    /// Its owner-to-be cannot read it.
    Unreadable,
    /// It belongs to this user.
    Owner(u32),
    /// It has this group.
    Group(u32),
    /// It has these permissions.
    Mode(u32),
    /// A temporary file of an earlier run, which was cut short, is beside it.
    Leftover,
}

/// What became of a file that was to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Removed {
    /// It is removed.
    Now,
    /// It was not there any more.
    Before,
    /// It is not what was placed, and was left alone.
    Changed,
}

/// What the worker says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// It is done.
    Done,
    /// To [`Request::Inspect`].
    Found(State),
    /// To [`Request::Stage`].
    Staged(Stamp),
    /// To [`Request::Commit`]: what could not be put in place, and why.
    Committed(Vec<(PathBuf, String)>),
    /// To [`Request::Remove`].
    Removed(Removed),
}

/// A request and how many bytes of content follow it.
#[derive(Serialize, Deserialize)]
struct Frame {
    request: Request,
    content: u64,
}

/// Why something was not done: `<doing what> <what>: <cause>; <what to do>`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(String);

impl Refusal {
    fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// Does what stdin says until it ends, and answers on stdout.
///
/// # Errors
/// When stdin or stdout fail, or what comes is no request: nobody is there to be told.
pub fn run() -> io::Result<()> {
    harden().map_err(io::Error::other)?;
    let mut orders = BufReader::new(io::stdin().lock());
    let mut answers = io::stdout().lock();
    let mut worker = Worker { user: None, folders: Folders::default(), staged: Vec::new(), to_flush: Vec::new() };
    let mut line = String::new();
    loop {
        line.clear();
        if orders.read_line(&mut line)? == 0 {
            // What was staged and not committed is not wanted any more.
            worker.discard();
            return Ok(());
        }
        let frame: Frame = serde_json::from_str(&line).map_err(io::Error::other)?;
        let content = match frame.request.has_content() {
            true => Content::read(&mut (&mut orders).take(frame.content), frame.content, LARGEST)?,
            false => None,
        };
        let answer = worker.answer(frame.request, content).map_err(|refusal| refusal.0);
        let mut text = serde_json::to_vec(&answer).map_err(io::Error::other)?;
        text.push(b'\n');
        answers.write_all(&text)?;
        answers.flush()?;
    }
}

struct Worker {
    user: Option<String>,
    folders: Folders,
    staged: Vec<Staged>,
    /// One file of each file system that something was staged on.
    to_flush: Vec<(u64, File)>,
}

impl Worker {
    fn answer(&mut self, request: Request, content: Option<Content>) -> Result<Answer, Refusal> {
        if let Request::Become(identity) = request {
            identity::take(&identity)?;
            self.user = Some(identity.name);
            return Ok(Answer::Done);
        }
        let Some(user) = self.user.as_deref() else {
            return Err(Refusal::new("placing a secret: the worker was not told as whom; please report this"));
        };
        self.folders.user = user.to_owned();
        match (request, content) {
            (Request::Inspect(target), Some(content)) => {
                file::inspect(&mut self.folders, &target, &content).map(Answer::Found)
            }
            (Request::Stage(target, sync), Some(content)) => {
                let (staged, file) = file::stage(&mut self.folders, &target, &content, sync)?;
                let stamp = staged.stamp;
                if sync == Sync::Together && !self.to_flush.iter().any(|(device, _)| *device == staged.device) {
                    self.to_flush.push((staged.device, file));
                }
                self.staged.push(staged);
                Ok(Answer::Staged(stamp))
            }
            (Request::Flush, _) => {
                for (_, file) in std::mem::take(&mut self.to_flush) {
                    rustix::fs::syncfs(&file)
                        .map_err(|e| Refusal::new(format!("syncing a file system: {e}; check that disk (`dmesg`)")))?;
                }
                Ok(Answer::Done)
            }
            (Request::Commit, _) => {
                let staged = std::mem::take(&mut self.staged);
                Ok(Answer::Committed(file::commit(&mut self.folders, staged)))
            }
            (Request::Remove { path, uid, stamps }, _) => {
                file::remove(&mut self.folders, &path, uid, &stamps).map(Answer::Removed)
            }
            _ => Err(Refusal::new("placing a secret: its content did not come whole; please report this")),
        }
    }

    fn discard(&mut self) {
        for staged in std::mem::take(&mut self.staged) {
            file::discard(&mut self.folders, &staged);
        }
    }
}

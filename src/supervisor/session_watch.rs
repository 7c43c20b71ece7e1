//! Tells what happens in the folders of the sessions: a socket appears (the host is coming up) or is removed (SIGUSR1
//! brings it back), or an agent has left an event that it could not tell.

use super::names::LoopName;
use super::session::{MISSED_EVENTS, SOCKET, sessions_dir};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What became of a socket, or of what is beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionEvent {
    /// It is there. tmux listens on it a moment later, so a client may still be refused; then ask again.
    Appeared,
    /// It is not there any more, whether its server lives or not.
    Removed,
    /// The file of missed events was written to.
    EventLeft,
}

/// Watches `<runtime_dir>/session/` and every loop's folder in it, those included that are made later.
#[derive(Debug)]
pub struct SessionWatch {
    inotify: OwnedFd,
    root: PathBuf,
    /// `None` once the folder itself was removed, until [`SessionWatch::mend`].
    root_watch: Option<i32>,
    folders: BTreeMap<i32, LoopName>,
    /// Events that were found by looking, before the kernel told any.
    found: Vec<(LoopName, SessionEvent)>,
}

impl AsFd for SessionWatch {
    /// Readable when [`SessionWatch::read_events`] has something to tell, but for the sockets that were there at first.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

impl SessionWatch {
    /// Starts watching. Sockets that are there already come as [`SessionEvent::Appeared`] from the first
    /// [`SessionWatch::read_events`], which need not be polled for.
    ///
    /// # Errors
    /// When the folder cannot be made or watched (`fs.inotify.max_user_instances` is used up).
    pub fn new(runtime_dir: &Path) -> io::Result<Self> {
        let root = sessions_dir(runtime_dir);
        super::session::make_private_dir(&root)?;
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let mut watch = Self { inotify, root, root_watch: None, folders: BTreeMap::new(), found: Vec::new() };
        watch.watch_root()?;
        Ok(watch)
    }

    /// Makes and watches the folder again if somebody removed it; what is in it by then.
    ///
    /// # Errors
    /// When it cannot be made or watched; try again later.
    pub fn mend(&mut self) -> io::Result<Vec<(LoopName, SessionEvent)>> {
        if self.root_watch.is_none() {
            super::session::make_private_dir(&self.root)?;
            self.watch_root()?;
        }
        Ok(std::mem::take(&mut self.found))
    }

    fn watch_root(&mut self) -> io::Result<()> {
        let wanted = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
        let watch = inotify::add_watch(&self.inotify, &self.root, wanted)
            .map_err(|e| io::Error::new(e.kind(), format!("watch folder `{}`: {e}", self.root.display())))?;
        self.root_watch = Some(watch);
        self.look()
    }

    /// What happened since the last call, in order; empty when nothing did. Several events of one loop can come at once,
    /// of which the last counts.
    ///
    /// # Errors
    /// When the kernel's queue or a folder cannot be read.
    pub fn read_events(&mut self) -> io::Result<Vec<(LoopName, SessionEvent)>> {
        let mut told = std::mem::take(&mut self.found);
        for event in self.read_queue()? {
            match event {
                Raw::Overflow => {
                    // Some events are lost: what is there now is the truth.
                    for name in self.folders.values() {
                        if !self.socket_is_there(name)? {
                            told.push((name.clone(), SessionEvent::Removed));
                        }
                    }
                    self.folders.clear();
                    self.look()?;
                }
                Raw::RootGone => {
                    self.root_watch = None;
                    told.extend(
                        std::mem::take(&mut self.folders).into_values().map(|name| (name, SessionEvent::Removed)),
                    );
                }
                Raw::Folder(name) => self.watch_folder(&name)?,
                Raw::Socket(watch, event) => {
                    told.extend(self.folders.get(&watch).map(|name| (name.clone(), event)));
                }
                Raw::FolderGone(watch) => {
                    told.extend(self.folders.remove(&watch).map(|name| (name, SessionEvent::Removed)));
                }
            }
            told.append(&mut self.found);
        }
        Ok(told)
    }

    fn read_queue(&self) -> io::Result<Vec<Raw>> {
        let mut buffer = [MaybeUninit::<u8>::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        let mut events = Vec::new();
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::AGAIN) => return Ok(events),
                Err(Errno::INTR) => continue,
                Err(e) => return Err(e.into()),
            };
            let file = event.file_name().map(|f| f.to_string_lossy().into_owned()).unwrap_or_default();
            let flags = event.events();
            if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                events.push(Raw::Overflow);
            } else if Some(event.wd()) == self.root_watch && flags.contains(ReadFlags::IGNORED) {
                events.push(Raw::RootGone);
            } else if Some(event.wd()) == self.root_watch {
                // What is no loop's name was not made by us.
                events.extend(file.parse().ok().map(Raw::Folder));
            } else if flags.contains(ReadFlags::IGNORED) {
                events.push(Raw::FolderGone(event.wd()));
            } else if file == SOCKET {
                let appeared = flags.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO);
                let event_is = if appeared { SessionEvent::Appeared } else { SessionEvent::Removed };
                events.push(Raw::Socket(event.wd(), event_is));
            } else if file == MISSED_EVENTS && flags.contains(ReadFlags::CLOSE_WRITE) {
                events.push(Raw::Socket(event.wd(), SessionEvent::EventLeft));
            }
        }
    }

    /// Watches every folder that is there.
    fn look(&mut self) -> io::Result<()> {
        for entry in std::fs::read_dir(&self.root)? {
            if let Ok(name) = entry?.file_name().to_string_lossy().parse() {
                self.watch_folder(&name)?;
            }
        }
        Ok(())
    }

    fn watch_folder(&mut self, name: &LoopName) -> io::Result<()> {
        let wanted = WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::ONLYDIR;
        match inotify::add_watch(&self.inotify, self.root.join(name.as_str()), wanted) {
            Ok(watch) => drop(self.folders.insert(watch, name.clone())),
            // Gone again, or a file of that name: no session's folder.
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(e) => return Err(io::Error::new(e.kind(), format!("watch session folder of `{name}`: {e}"))),
        }
        // It may have been made before the watch was.
        if self.socket_is_there(name)? {
            self.found.push((name.clone(), SessionEvent::Appeared));
        }
        Ok(())
    }

    fn socket_is_there(&self, name: &LoopName) -> io::Result<bool> {
        self.root.join(name.as_str()).join(SOCKET).try_exists()
    }
}

enum Raw {
    Overflow,
    RootGone,
    Folder(LoopName),
    Socket(i32, SessionEvent),
    FolderGone(i32),
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags};
    use std::os::unix::net::UnixListener;

    fn events(watch: &mut SessionWatch) -> Vec<(String, SessionEvent)> {
        let timeout = rustix::event::Timespec { tv_sec: 5, tv_nsec: 0 };
        rustix::event::poll(&mut [PollFd::new(watch, PollFlags::IN)], Some(&timeout)).unwrap();
        watch.read_events().unwrap().into_iter().map(|(name, event)| (name.to_string(), event)).collect()
    }

    #[test]
    fn sockets_before_and_after_the_watch_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let socket = |name: &str| sessions_dir(dir.path()).join(name).join(SOCKET);
        std::fs::create_dir_all(socket("early").parent().unwrap()).unwrap();
        std::fs::create_dir_all(socket("empty").parent().unwrap()).unwrap();
        let listener = UnixListener::bind(socket("early")).unwrap();
        let mut watch = SessionWatch::new(dir.path()).unwrap();
        assert_eq!(watch.read_events().unwrap(), [("early".parse().unwrap(), SessionEvent::Appeared)]);
        assert_eq!(watch.read_events().unwrap(), []);

        std::fs::create_dir(socket("late").parent().unwrap()).unwrap();
        std::fs::create_dir(socket("No Loop").parent().unwrap()).unwrap();
        let another = UnixListener::bind(socket("late")).unwrap();
        assert_eq!(events(&mut watch), [("late".to_owned(), SessionEvent::Appeared)]);
        std::fs::remove_file(socket("early")).unwrap();
        assert_eq!(events(&mut watch), [("early".to_owned(), SessionEvent::Removed)]);
        std::fs::remove_dir_all(socket("late").parent().unwrap()).unwrap();
        let told = events(&mut watch);
        assert_eq!(told.last(), Some(&("late".to_owned(), SessionEvent::Removed)));
        drop((listener, another));
    }

    #[test]
    fn a_removed_folder_is_made_and_watched_again() {
        let dir = tempfile::tempdir().unwrap();
        let socket = sessions_dir(dir.path()).join("builder").join(SOCKET);
        std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
        let mut watch = SessionWatch::new(dir.path()).unwrap();
        assert_eq!(watch.mend().unwrap(), []);
        std::fs::remove_dir_all(sessions_dir(dir.path())).unwrap();
        assert_eq!(events(&mut watch), [("builder".to_owned(), SessionEvent::Removed)]);
        assert_eq!(watch.mend().unwrap(), []);
        std::fs::create_dir(socket.parent().unwrap()).unwrap();
        let _listener = UnixListener::bind(socket).unwrap();
        assert_eq!(events(&mut watch), [("builder".to_owned(), SessionEvent::Appeared)]);
    }

    #[test]
    fn other_files_in_a_session_folder_are_no_news() {
        let dir = tempfile::tempdir().unwrap();
        let folder = sessions_dir(dir.path()).join("builder");
        std::fs::create_dir_all(&folder).unwrap();
        let mut watch = SessionWatch::new(dir.path()).unwrap();
        std::fs::write(folder.join("launch.json"), "x").unwrap();
        assert_eq!(events(&mut watch), []);
        std::fs::write(folder.join(MISSED_EVENTS), "x").unwrap();
        assert_eq!(events(&mut watch), [("builder".to_owned(), SessionEvent::EventLeft)]);
    }
}

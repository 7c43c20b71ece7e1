//! A descriptor that may stop taking what is written to it (a pipe into `less`, a stopped terminal), for a program that
//! must not stop with it: lines are handed to a thread, and those that find no room are counted and said later.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Bytes that wait at most: an hour of a busy supervisor's lines.
const ROOM: usize = 256 * 1024;

/// Where lines go in. Clones share one queue and its order.
#[derive(Debug, Clone)]
pub struct Outlet(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// Something waits to be written, or everything was.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Lines that found no room since the last one that did.
    dropped: u64,
    /// Whether the thread is at one that it has taken out.
    writing: bool,
}

impl Outlet {
    /// Starts the thread. The descriptor itself stays as it is: making it non-blocking would do so for everyone who shares
    /// it, the operator's shell included.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn new(mut to: impl Write + Send + 'static) -> io::Result<Self> {
        let outlet = Self(Arc::default());
        let shared = outlet.0.clone();
        std::thread::Builder::new().name("log".to_owned()).stack_size(64 * 1024).spawn(move || {
            loop {
                let line = shared.next();
                // Whoever read it is gone; there is nobody to tell.
                let _ = to.write_all(&line).and_then(|()| to.flush());
            }
        })?;
        Ok(outlet)
    }

    /// Waits until everything is written, but no longer than `limit`.
    pub fn flush_within(&self, limit: Duration) {
        let mut queue = self.0.lock();
        queue.say_dropped();
        self.0.changed.notify_all();
        let waits = |q: &mut Queue| q.writing || !q.lines.is_empty();
        // Written or not: the program ends.
        let _ = self.0.changed.wait_timeout_while(queue, limit, waits);
    }
}

impl Write for Outlet {
    /// Takes the whole of it at once, as one line with the others before and behind it. Never waits for the descriptor.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut queue = self.0.lock();
        if queue.bytes + line.len() > ROOM {
            queue.dropped += 1;
        } else {
            queue.say_dropped();
            queue.push(line.to_owned());
            self.0.changed.notify_all();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Each change of it is whole, also where a thread panicked behind it.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next line; the one before is written.
    fn next(&self) -> Vec<u8> {
        let mut queue = self.lock();
        queue.writing = false;
        loop {
            if let Some(line) = queue.lines.pop_front() {
                queue.bytes -= line.len();
                queue.writing = true;
                return line;
            }
            self.changed.notify_all();
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Queue {
    fn push(&mut self, line: Vec<u8>) {
        self.bytes += line.len();
        self.lines.push_back(line);
    }

    fn say_dropped(&mut self) {
        if self.dropped > 0 {
            let text = format!("{} lines are missing here: nobody read them in time\n", self.dropped);
            self.dropped = 0;
            self.push(text.into_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Read;

    fn pipe() -> (File, File) {
        let (read, write) = rustix::pipe::pipe().unwrap();
        (read.into(), write.into())
    }

    /// The lines that come out, up to and with `last`.
    fn lines_until(read: &mut File, last: &str) -> Vec<String> {
        let mut text = String::new();
        let mut bytes = [0; 4096];
        while !text.ends_with(&format!("{last}\n")) {
            let n = read.read(&mut bytes).unwrap();
            assert_ne!(n, 0, "it ended without `{last}`");
            text.push_str(std::str::from_utf8(&bytes[..n]).unwrap());
        }
        text.lines().map(|line| line.trim().to_owned()).collect()
    }

    #[test]
    fn a_descriptor_that_takes_nothing_stops_no_writer_and_what_is_missing_is_said_in_its_place() {
        let (mut read, write) = pipe();
        let mut outlet = Outlet::new(write).unwrap();
        for n in 0..1000 {
            outlet.write_all(format!("{n:>1023}\n").as_bytes()).unwrap();
        }
        outlet.flush_within(Duration::from_millis(1));
        let mut seen = 0;
        let mut missing = 0;
        while seen < 1000 {
            let mut line = Vec::new();
            let mut byte = [0];
            while byte != *b"\n" {
                read.read_exact(&mut byte).unwrap();
                line.push(byte[0]);
            }
            let line = String::from_utf8(line).unwrap();
            match line.split_once(" lines are missing here: nobody read them in time") {
                Some((n, _)) => {
                    let n: usize = n.parse().unwrap();
                    (seen, missing) = (seen + n, missing + n);
                }
                None => {
                    assert_eq!(line.trim(), seen.to_string());
                    seen += 1;
                }
            }
        }
        assert!(missing > 500, "256 KiB and a pipe's 64 were to be kept of 1000, {missing} were not");
        outlet.write_all(b"later\n").unwrap();
        assert!(lines_until(&mut read, "later").len() <= 2);
    }

    #[test]
    fn what_was_written_is_out_in_its_order_when_the_program_ends() {
        let (mut read, write) = pipe();
        let mut outlet = Outlet::new(write).unwrap();
        for n in 0..100 {
            outlet.clone().write_all(format!("{n}\n").as_bytes()).unwrap();
        }
        outlet.write_all(b"the last words\n").unwrap();
        outlet.flush_within(Duration::from_secs(20));
        rustix::io::ioctl_fionbio(&read, true).unwrap();
        let lines = lines_until(&mut read, "the last words");
        assert_eq!(lines[..100], (0..100).map(|n| n.to_string()).collect::<Vec<_>>());
    }
}

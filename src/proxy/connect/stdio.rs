//! stdin to the connection and the connection to stdout, each direction to its own end.
//!
//! Where stdin or stdout is a pipe (ssh's are), splice(2) moves the bytes without a copy through this process.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, read, write};
use rustix::net::{Shutdown, shutdown};
use rustix::pipe::{SpliceFlags, splice};
use std::fs::File;
use std::io;
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::thread;

/// What is moved at once.
const CHUNK: usize = 256 * 1024;

/// Relays until the destination has ended and all of it is written, or the reader of stdout is gone. The end of stdin
/// is passed on, and the answer to it still comes.
///
/// # Errors
/// When the connection is reset, or stdout fails for another reason than a reader that left.
pub fn join_stdio(connection: &TcpStream) -> io::Result<()> {
    let up = connection.try_clone()?;
    let up = thread::Builder::new().name("stdin".to_owned()).spawn(move || {
        // An end that cannot be read is an end.
        let _ = pump(rustix::stdio::stdin(), up.as_fd(), None);
        // Closed already: then nobody is left to be told.
        let _ = shutdown(&up, Shutdown::Write);
    })?;
    let stdout = rustix::stdio::stdout();
    let down = pump(connection.as_fd(), stdout, Some(stdout));
    match down {
        Ok(()) => {
            // Whoever reads us must see the end now, though we may still have something to send.
            // (A socket, unlike a pipe, has its end also when stdin is the same one.)
            let _ = shutdown(stdout, Shutdown::Write);
            let null = File::options().write(true).open("/dev/null")?;
            rustix::stdio::dup2_stdout(&null)?;
            // Over by the end of stdin, or by what the destination no longer takes. A panic there is no failure here.
            let _ = up.join();
            Ok(())
        }
        Err(Errno::PIPE) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Until the end of `from`. A `watched` reader that leaves is an end too, though nothing is there to be written.
fn pump(from: BorrowedFd<'_>, to: BorrowedFd<'_>, watched: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
    let mut spliced = true;
    let mut buffer = Vec::new();
    loop {
        if let Some(reader) = watched {
            wait(from, reader)?;
        }
        let moved = if spliced {
            match splice(from, None, to, None, CHUNK, SpliceFlags::MOVE) {
                // Neither end is a pipe, or one is a file open for appending.
                Err(Errno::INVAL) => {
                    spliced = false;
                    buffer = vec![0; CHUNK];
                    continue;
                }
                moved => moved,
            }
        } else {
            copy(from, to, &mut buffer)
        };
        match moved {
            Ok(0) => return Ok(()),
            Ok(_) | Err(Errno::INTR) => {}
            // Whoever made stdin or stdout non-blocking shares it with us.
            Err(Errno::AGAIN) => {
                let mut fds =
                    [PollFd::from_borrowed_fd(from, PollFlags::IN), PollFd::from_borrowed_fd(to, PollFlags::OUT)];
                for fd in &mut fds {
                    ignore_interrupt(poll(std::slice::from_mut(fd), None))?;
                }
            }
            Err(e) => return Err(e),
        }
    }
}

/// Until there is something to read; fails when `reader` is gone.
fn wait(from: BorrowedFd<'_>, reader: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut fds = [PollFd::from_borrowed_fd(from, PollFlags::IN), PollFd::from_borrowed_fd(reader, PollFlags::empty())];
    ignore_interrupt(poll(&mut fds, None))?;
    // A terminal or a file never says so; the error of a pipe or a socket is a reader that is gone.
    if fds[0].revents().is_empty() && fds[1].revents().intersects(PollFlags::ERR | PollFlags::HUP) {
        return Err(Errno::PIPE);
    }
    Ok(())
}

fn ignore_interrupt(result: Result<usize, Errno>) -> Result<(), Errno> {
    match result {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(e) => Err(e),
    }
}

fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, Errno> {
    let n = read(from, &mut *buffer)?;
    let mut rest = &buffer[..n];
    while !rest.is_empty() {
        match write(to, rest) {
            Ok(written) => rest = &rest[written..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                ignore_interrupt(poll(&mut [PollFd::from_borrowed_fd(to, PollFlags::OUT)], None))?;
            }
            Err(e) => return Err(e),
        }
    }
    Ok(n)
}

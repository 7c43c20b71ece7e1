//! Two connected sockets become one: bytes both ways, half-close and reset passed on as they came.
//!
//! What a connection sends now and then goes through one buffer that all share, so that an idle one costs no memory.
//! A stream that fills that buffer goes through a pipe by splice(2) for as long as it flows: then no byte is copied
//! into this process. (benches/README.md has what that costs beside servers that copy.)

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{Interest, Ready};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

/// What is read at once; a stream that fills it is bulk.
const BUFFER: usize = 64 * 1024;
/// What a pipe is asked to hold. A user may have 64 MiB of pipes by default (pipe-user-pages-soft): when it is used up
/// pipes are smaller, and still right.
const PIPE: usize = 512 * 1024;
/// Pipes kept for the next stream.
const SPARE_PIPES: usize = 32;
/// What one direction moves before the other connections have their turn.
const TURN: usize = 1 << 20;
/// After one side is broken the other has this long to take what is still there for it.
const LAST_BYTES: Duration = Duration::from_secs(60);

thread_local! {
    static SHARED: RefCell<Vec<u8>> = RefCell::new(vec![0; BUFFER]);
    static PIPES: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
}

/// How a relayed connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Both sides were done.
    Closed,
    /// One was reset, and so the other was.
    Reset,
    /// Nothing went over it for too long.
    Idle,
}

/// Bytes so far, for the status.
#[derive(Debug, Default)]
pub struct Bytes {
    /// From clients.
    pub up: AtomicU64,
    /// To clients.
    pub down: AtomicU64,
}

/// Relays until both directions are done, one side breaks, or nothing goes over it for `idle`. `early` is what the
/// client sent for the destination before.
pub async fn relay(client: TcpStream, server: TcpStream, early: Vec<u8>, idle: Duration, bytes: &Bytes) -> End {
    let mut up = Flow::new(early);
    let mut down = Flow::new(Vec::new());
    let mut idle = idle;
    let mut last = Instant::now();
    let timer = sleep_until(last + idle);
    tokio::pin!(timer);
    loop {
        let moved = (up.pump(&client, &server), down.pump(&server, &client));
        // Whoever is told of a reset by a write is not told again by the next read.
        (up.cut, down.cut) = (up.cut || down.reset_by_reader, down.cut || up.reset_by_reader);
        bytes.up.fetch_add(moved.0, Ordering::Relaxed);
        bytes.down.fetch_add(moved.1, Ordering::Relaxed);
        if moved != (0, 0) {
            last = Instant::now();
        }
        if up.is_over() && down.is_over() {
            break;
        }
        if up.want == Want::Turn || down.want == Want::Turn {
            tokio::task::yield_now().await;
            continue;
        }
        let (of_client, of_server) = tokio::select! {
            ready = ready(&client, &up, &down) => (ready, Ok(Ready::EMPTY)),
            ready = ready(&server, &down, &up) => (Ok(Ready::EMPTY), ready),
            () = &mut timer => {
                if last.elapsed() >= idle {
                    reset(&client);
                    reset(&server);
                    return End::Idle;
                }
                timer.as_mut().reset(last + idle);
                continue;
            }
        };
        // A side that is broken takes nothing more; what it sent before may still be there.
        if of_client.map_or(true, |ready| ready.is_error()) {
            down.give_up();
            up.source_broke = true;
        }
        if of_server.map_or(true, |ready| ready.is_error()) {
            up.give_up();
            down.source_broke = true;
        }
        if (up.source_broke || down.source_broke) && idle > LAST_BYTES {
            idle = LAST_BYTES;
            timer.as_mut().reset(Instant::now() + idle);
        }
    }
    // A stream that was cut must not look like one that ended.
    if up.cut || down.stage == Stage::GivenUp {
        reset(&server);
    }
    if down.cut {
        reset(&client);
    } else if up.stage == Stage::GivenUp {
        // The server had its say and takes no more: its last bytes are not to be overtaken by a reset.
        close_after_answer(&client).await;
    }
    if up.cut || down.cut { End::Reset } else { End::Closed }
}

/// Makes the close to come a reset.
fn reset(stream: &TcpStream) {
    // Fails only on a socket that is gone, which needs no reset.
    let _ = stream.set_zero_linger();
}

/// Waits for what the socket is needed for: `reads` from it, and `writes` to it. Errors are waited for too, so that a dead
/// side is seen while the other takes nothing; but once only, since they stay.
async fn ready(socket: &TcpStream, reads: &Flow, writes: &Flow) -> io::Result<Ready> {
    let seen = reads.source_broke;
    let wanted = [
        (!seen).then_some(Interest::ERROR),
        (reads.want == Want::Read).then_some(Interest::READABLE),
        (writes.want == Want::Write).then_some(Interest::WRITABLE),
    ];
    match wanted.into_iter().flatten().reduce(Interest::add) {
        Some(interest) => socket.ready(interest).await,
        None => std::future::pending().await,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    /// The source has ended; what is held goes out, then the end is passed on.
    Ending,
    Over,
    /// The destination takes nothing more.
    GivenUp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Want {
    Read,
    Write,
    Turn,
    Nothing,
}

/// One direction.
#[derive(Debug)]
struct Flow {
    stage: Stage,
    want: Want,
    /// Read and not yet written; in the pipe if there is one, else here.
    held: Vec<u8>,
    at: usize,
    pipe: Option<(Pipe, usize)>,
    /// The source has an error that is not read yet.
    source_broke: bool,
    /// The source was reset: what came is not all.
    cut: bool,
    /// The destination said by a write that it was reset.
    reset_by_reader: bool,
}

impl Flow {
    fn new(held: Vec<u8>) -> Self {
        Self {
            stage: Stage::Open,
            want: Want::Read,
            held,
            at: 0,
            pipe: None,
            source_broke: false,
            cut: false,
            reset_by_reader: false,
        }
    }

    fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over | Stage::GivenUp)
    }

    /// The destination takes nothing more.
    fn give_up(&mut self) {
        if !self.is_over() {
            self.stage = Stage::GivenUp;
        }
        self.want = Want::Nothing;
        // Dropped, not kept for others: there may be bytes in it.
        (self.pipe, self.held, self.at) = (None, Vec::new(), 0);
    }

    /// Moves what can be moved now; how many bytes went out.
    fn pump(&mut self, from: &TcpStream, to: &TcpStream) -> u64 {
        let (mut moved, mut turn) = (0, 0);
        self.want = Want::Nothing;
        while !self.is_over() {
            let written = match self.flush(to) {
                Ok(n) => n,
                Err(e) => {
                    self.reset_by_reader = e.kind() == ErrorKind::ConnectionReset;
                    self.give_up();
                    break;
                }
            };
            moved += written as u64;
            turn += written;
            if self.holds() > 0 {
                self.want = Want::Write;
                break;
            }
            if self.stage == Stage::Ending {
                if !self.cut {
                    // The other side may have gone already, and then knows.
                    let _ = rustix::net::shutdown(to, rustix::net::Shutdown::Write);
                }
                self.stage = Stage::Over;
                break;
            }
            if turn >= TURN {
                self.want = Want::Turn;
                break;
            }
            match self.fill(from) {
                Ok(0) => self.stage = Stage::Ending,
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    self.put_pipe_back();
                    self.want = Want::Read;
                    break;
                }
                Err(_) => {
                    self.cut = true;
                    self.stage = Stage::Ending;
                }
            }
        }
        if self.is_over() {
            self.put_pipe_back();
        }
        moved
    }

    fn holds(&self) -> usize {
        self.pipe.as_ref().map_or(self.held.len() - self.at, |(_, n)| *n + self.held.len() - self.at)
    }

    fn put_pipe_back(&mut self) {
        if let Some((pipe, 0)) = self.pipe.take() {
            PIPES.with_borrow_mut(|spare| {
                if spare.len() < SPARE_PIPES {
                    spare.push(pipe)
                }
            });
        }
    }

    /// Writes what is held, as far as it goes.
    fn flush(&mut self, to: &TcpStream) -> io::Result<usize> {
        let mut written = 0;
        while self.at < self.held.len() {
            match blocked(to.try_write(&self.held[self.at..]))? {
                Some(n) => {
                    self.at += n;
                    written += n;
                }
                None => return Ok(written),
            }
        }
        if !self.held.is_empty() {
            // Freed, so that an idle connection holds nothing.
            (self.held, self.at) = (Vec::new(), 0);
        }
        if let Some((pipe, n)) = &mut self.pipe {
            while *n > 0 {
                match blocked(to.try_io(Interest::WRITABLE, || pass(&pipe.read, to, *n)))? {
                    Some(0) => return Err(ErrorKind::WriteZero.into()),
                    Some(out) => {
                        *n -= out;
                        written += out;
                    }
                    None => break,
                }
            }
        }
        Ok(written)
    }

    /// Reads once; 0 at the end.
    fn fill(&mut self, from: &TcpStream) -> io::Result<usize> {
        if let Some((pipe, held)) = &mut self.pipe {
            let n = from.try_io(Interest::READABLE, || pass(from, &pipe.write, PIPE))?;
            *held += n;
            return Ok(n);
        }
        SHARED.with_borrow_mut(|buffer| {
            let n = from.try_read(buffer)?;
            self.held.extend_from_slice(&buffer[..n]);
            if n == BUFFER {
                self.pipe = Pipe::take().map(|pipe| (pipe, 0));
            }
            Ok(n)
        })
    }
}

/// `None` when it would block.
fn blocked(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(n) => Ok(Some(n)),
        Err(e) if e.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(e) => Err(e),
    }
}

fn pass(from: &impl AsFd, to: &impl AsFd, most: usize) -> io::Result<usize> {
    loop {
        match splice(from, None, to, None, most, SpliceFlags::NONBLOCK | SpliceFlags::MOVE) {
            Ok(n) => return Ok(n),
            Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

#[derive(Debug)]
struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

impl Pipe {
    /// `None` when there are no descriptors left: then bytes are copied.
    fn take() -> Option<Self> {
        PIPES.with_borrow_mut(Vec::pop).or_else(|| {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
            // Over the user's share it stays at what it has.
            let _ = fcntl_setpipe_size(&write, PIPE);
            Some(Self { read, write })
        })
    }
}

/// Ends the client's connection so that what was written last is read: what it has sent meanwhile would otherwise make
/// the kernel send a reset, which overtakes the answer.
pub async fn close_after_answer(stream: &TcpStream) {
    // Errors mean that it is gone already.
    let _ = rustix::net::shutdown(stream, rustix::net::Shutdown::Write);
    let drained = async {
        let mut sink = [0; 4096];
        for _ in 0..64 {
            if stream.readable().await.is_err() {
                return;
            }
            match stream.try_read(&mut sink) {
                Ok(0) => return,
                Err(e) if e.kind() != ErrorKind::WouldBlock => return,
                _ => {}
            }
        }
    };
    // One that keeps it open has had its time.
    let _ = tokio::time::timeout(Duration::from_secs(1), drained).await;
}

//! What the demo is at, and what keeps it from going on.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Between two looks. Each look is a run of the real binary, some milliseconds of work.
const EVERY: Duration = Duration::from_millis(20);

/// Why a step did not happen.
#[derive(Debug)]
pub struct Broken(String);

impl Broken {
    /// With this cause.
    pub fn new(cause: impl Into<String>) -> Self {
        Self(cause.into())
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Broken {}

/// Whether somebody wants the demo to end (Ctrl-C, SIGTERM, a closed terminal). Every wait looks at it, so that what the
/// demo started is removed first.
#[derive(Debug, Clone)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// From now on these signals only leave a mark.
    pub fn catch() -> io::Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, flag.clone())?;
        }
        Ok(Self(flag))
    }

    /// Goes on unless told to end.
    pub fn check(&self) -> Result<(), Broken> {
        if self.0.load(Ordering::Relaxed) { Err(Broken::new("interrupted")) } else { Ok(()) }
    }

    /// Asks until there is an answer; tells how long that took. `what` ends the sentence "waited 10s for …".
    pub fn wait<T>(
        &self,
        what: &str,
        within: Duration,
        mut ask: impl FnMut() -> Result<Option<T>, Broken>,
    ) -> Result<(T, Duration), Broken> {
        let start = Instant::now();
        loop {
            self.check()?;
            let asked = start.elapsed();
            match ask() {
                Ok(Some(found)) => return Ok((found, start.elapsed())),
                // What cannot be asked now may be a moment later: the supervisor comes and goes here.
                Ok(None) if asked > within => {
                    return Err(Broken::new(format!("waited {}s for {what}", within.as_secs())));
                }
                Err(e) if asked > within => {
                    return Err(Broken::new(format!("waited {}s for {what}; the last look: {e}", within.as_secs())));
                }
                Ok(None) | Err(_) => std::thread::sleep(EVERY),
            }
        }
    }
}

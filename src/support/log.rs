//! Where the log lines of every program go: stderr.

use super::outlet::Outlet;
use std::time::Duration;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

/// How long the last lines of a daemon that ends are waited for, should nobody read them.
const LAST_LINES: Duration = Duration::from_secs(1);

/// What writes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Through {
    /// A thread: a stderr that nobody reads must not stop a daemon.
    Thread,
    /// Whoever has something to say.
    Nothing,
}

/// Where the log lines go; dropped, what waits is written.
#[derive(Debug)]
pub struct Log(Option<Outlet>);

impl Drop for Log {
    fn drop(&mut self) {
        if let Some(outlet) = &self.0 {
            outlet.flush_within(LAST_LINES);
        }
    }
}

/// Sends what is logged to stderr, with times unless the journal adds them.
pub fn to_stderr(through: Through) -> Log {
    let to = tracing_subscriber::fmt().with_target(false).with_max_level(tracing::Level::INFO);
    let to = to.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    let outlet = match through {
        // Without a thread it is as it is for every other program.
        Through::Thread => Outlet::new(std::io::stderr()).ok(),
        Through::Nothing => None,
    };
    let writer = match outlet.clone() {
        Some(outlet) => BoxMakeWriter::new(move || outlet.clone()),
        None => BoxMakeWriter::new(std::io::stderr),
    };
    let to = to.with_writer(writer);
    // Set by systemd exactly when stdout or stderr goes to its journal (systemd.exec(5)).
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        to.without_time().init();
    } else {
        to.init();
    }
    Log(outlet)
}

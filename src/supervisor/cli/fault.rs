//! The one place that says what went wrong, and with which exit code.

use crate::supervisor::config::{ConfigErrors, NotFound};
use crate::supervisor::control::client::ClientError;
use crate::supervisor::control::protocol::Refusal;
use std::process::ExitCode;

/// What went wrong, as far as the exit code depends on it. Anything else in an error chain is a failure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// What was asked makes no sense, or the config does not: exit code 2.
    #[error("{0}")]
    Usage(String),
    /// Not now (timeout, not safe, daemon not running): exit code 3.
    #[error("{0}")]
    NotNow(String),
    /// It failed: exit code 1.
    #[error("{0}")]
    Failed(String),
    /// All was said already; only the exit code 1 is left.
    #[error("something is wrong")]
    Said,
    /// Whoever read the output has read enough (`supervisor status | head -1`).
    #[error("the reader is gone")]
    ReaderGone,
}

impl From<(Refusal, String)> for Fault {
    fn from((kind, message): (Refusal, String)) -> Self {
        match kind {
            Refusal::Failed => Self::Failed(message),
            Refusal::Usage => Self::Usage(message),
            Refusal::NotNow => Self::NotNow(message),
        }
    }
}

/// 0 fine, 1 failed, 2 bad usage or config, 3 not now.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    let of = |cause: &(dyn std::error::Error + 'static)| {
        if let Some(fault) = cause.downcast_ref::<Fault>() {
            return Some(match fault {
                Fault::Usage(_) => 2,
                Fault::NotNow(_) => 3,
                Fault::Failed(_) | Fault::Said => 1,
                Fault::ReaderGone => 0,
            });
        }
        if cause.is::<ConfigErrors>() || cause.is::<NotFound>() {
            return Some(2);
        }
        cause.downcast_ref::<ClientError>().map(|e| match e {
            ClientError::NotRunning(_) | ClientError::TimedOut { .. } | ClientError::Closed(_) => 3,
            ClientError::Denied(_) | ClientError::Garbled { .. } | ClientError::Io { .. } => 1,
        })
    };
    error.chain().find_map(of).unwrap_or(1)
}

/// What is printed on stderr; `None` when nothing is left to be said.
fn text(error: &anyhow::Error) -> Option<String> {
    if matches!(error.downcast_ref(), Some(Fault::Said | Fault::ReaderGone)) {
        return None;
    }
    let whole = format!("{error:#}");
    // The faults of a config come each with its excerpt; our name belongs before the sentence that sums them up.
    Some(match (error.downcast_ref(), whole.rsplit_once("\n\n")) {
        (Some(ConfigErrors::Faults { .. }), Some((faults, sum))) => format!("{faults}\n\nsupervisor: {sum}"),
        _ => format!("supervisor: {whole}"),
    })
}

/// Says what went wrong and returns the exit code.
pub fn report(error: &anyhow::Error) -> ExitCode {
    if let Some(text) = text(error) {
        use std::io::Write;
        // Not eprintln!, which panics when nobody reads stderr; then nobody is left to be told, either.
        let _ = writeln!(std::io::stderr(), "{text}");
    }
    ExitCode::from(exit_code(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{Context, anyhow};

    #[test]
    fn each_kind_has_its_exit_code_also_under_contexts() {
        let running = ClientError::NotRunning("/run/x".into());
        let cases = [
            (anyhow!("anything"), 1),
            (Fault::Usage("x".into()).into(), 2),
            (Fault::NotNow("x".into()).into(), 3),
            (anyhow::Error::from(running).context("attaching to `builder`"), 3),
            (Fault::ReaderGone.into(), 0),
        ];
        for (error, code) in cases {
            assert_eq!(exit_code(&error), code, "{error:#}");
        }
    }

    #[test]
    fn the_faults_of_a_config_come_before_our_name_and_the_sum() {
        let error = crate::supervisor::config::read("bogus = 1\n", std::path::Path::new("/x.toml")).unwrap_err();
        let error = anyhow::Error::from(error);
        let text = text(&error).unwrap();
        assert!(text.starts_with("error: "), "{text}");
        assert!(text.lines().last().unwrap().starts_with("supervisor: check the config `/x.toml`: "), "{text}");
        assert_eq!(exit_code(&error), 2);
        let error = Err::<(), _>(Fault::Failed("cause".into())).context("doing").unwrap_err();
        assert_eq!(super::text(&error).unwrap(), "supervisor: doing: cause");
    }
}

//! `supervisor doctor`: everything that must be true here, a line each, with how to mend what is not. Changes nothing.

mod agents;
mod loops;
mod machine;
mod needs;
mod systemd;

use super::context::Context;
use super::fault::Fault;
use super::out::{Style, Tone, clean, print, wrap};
use crate::supervisor::config::report::Severity;
use crate::supervisor::config::{ConfigErrors, Loaded, check};
use crate::supervisor::control::protocol::{Request, Response};

/// How a fact stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// As it must be.
    Ok,
    /// It works, but is worth knowing.
    Note,
    /// It must be mended.
    Wrong,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    level: Level,
    text: String,
    mend: Option<String>,
}

impl Finding {
    /// As it must be.
    pub fn ok(text: impl Into<String>) -> Self {
        Self { level: Level::Ok, text: text.into(), mend: None }
    }

    /// Worth knowing.
    pub fn note(text: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { level: Level::Note, text: text.into(), mend: Some(mend.into()) }
    }

    /// To be mended like this.
    pub fn wrong(text: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { level: Level::Wrong, text: text.into(), mend: Some(mend.into()) }
    }

    fn show(&self, style: Style) -> String {
        let (word, tone) = match self.level {
            Level::Ok => ("ok   ", Tone::Good),
            Level::Note => ("note ", Tone::Waiting),
            Level::Wrong => ("wrong", Tone::Bad),
        };
        let mut out = wrap(&format!("{word}  {}", clean(&self.text)), 7);
        out.replace_range(..word.len(), &style.paint(tone, word));
        if let Some(mend) = &self.mend {
            out.push_str(&wrap(&format!("       -> {}", clean(mend)), 10));
        }
        out
    }
}

/// Whether a supervisor answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Daemon {
    /// It does.
    Answers,
    /// It does not.
    Silent,
}

/// Runs `doctor`.
pub fn run(context: &Context) -> anyhow::Result<()> {
    let style = Style::of_stdout();
    let mut wrong = 0;
    let mut say = |findings: Vec<Finding>| {
        wrong += findings.iter().filter(|f| f.level == Level::Wrong).count();
        // As each is known: a probe can take ten seconds.
        print(&findings.iter().map(|f| f.show(style)).collect::<String>())
    };
    say(machine::programs())?;
    match context.load() {
        Err(error) => match error.downcast_ref::<ConfigErrors>() {
            Some(errors) => say(vec![Finding::wrong(
                errors.to_string().lines().last().unwrap_or_default(),
                "`supervisor check` shows each fault with its place",
            )])?,
            None => say(vec![Finding::wrong(format!("{error:#}"), "`supervisor demo` needs no config")])?,
        },
        Ok(loaded) => {
            say(config(&loaded))?;
            let config = &loaded.config;
            say(machine::folders(config))?;
            say(systemd::examine(config))?;
            say(machine::resources(config))?;
            let (daemon, finding) = daemon(context);
            say(vec![finding])?;
            for (name, need) in &config.needs {
                say(vec![needs::probe(name, need, &config.workspace)])?;
            }
            for (name, l) in &config.loops {
                say(loops::examine(config, name, l, daemon))?;
                say(agents::examine(config, name, l, daemon))?;
            }
        }
    }
    match wrong {
        0 => print("\nEverything that must be true here is.\n"),
        n => {
            print(&format!("\n{n} {} wrong.\n", if n == 1 { "thing is" } else { "things are" }))?;
            Err(Fault::Said.into())
        }
    }
}

fn config(loaded: &Loaded) -> Vec<Finding> {
    let mut found = check::machine(&loaded.config, &loaded.source, &check::Machine::here());
    found.extend(loaded.warnings.iter().cloned());
    if found.is_empty() {
        return vec![Finding::ok(format!("the config `{}` is valid", loaded.config.file.display()))];
    }
    let finding = |d: crate::supervisor::config::report::Diagnostic| {
        let text = format!("{}:{}: {}", d.file.display(), d.line, d.message);
        match d.severity {
            Severity::Error => Finding::wrong(text, d.help),
            Severity::Warning => Finding::note(text, d.help),
        }
    };
    found.into_iter().map(finding).collect()
}

fn daemon(context: &Context) -> (Daemon, Finding) {
    match context.ask_if_running(Request::Status) {
        Ok(Some(Response::Status(status))) => match &status.unwritable {
            Some(why) => {
                let text = format!("the supervisor answers, but cannot write its state: {why}");
                (Daemon::Answers, Finding::wrong(text, "free the disk, or mend the folder's owner and mode"))
            }
            None => (Daemon::Answers, Finding::ok("the supervisor answers")),
        },
        Ok(Some(_)) => {
            let text = "the supervisor answers something else than was asked";
            (Daemon::Answers, Finding::wrong(text, "restart it, so that both are of one version"))
        }
        Ok(None) => {
            let mend = "`supervisor run`, or `systemctl start cc-ci-orchestrator`";
            (Daemon::Silent, Finding::wrong("no supervisor is running", mend))
        }
        Err(error) => {
            let mend = "see `journalctl -u cc-ci-orchestrator`";
            (Daemon::Silent, Finding::wrong(format!("{error:#}"), mend))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_has_its_word_in_front_and_its_remedy_below() {
        assert_eq!(Finding::ok("git 2.47").show(Style::Plain), "ok     git 2.47\n");
        let wrong = Finding::wrong("tmux\nis missing", "install it").show(Style::Plain);
        assert_eq!(wrong, "wrong  tmux is missing\n       -> install it\n");
        let long = Finding::note("word ".repeat(40), "x").show(Style::Coloured);
        assert!(long.starts_with("\x1b[33mnote \x1b[0m  word"), "{long}");
        assert!(long.lines().nth(1).unwrap().starts_with("       word"), "{long}");
    }
}

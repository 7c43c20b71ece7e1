//! What is printed: to a reader that may go away, for people with colours and within a width, never with control
//! characters that an agent put into a text.

use super::fault::Fault;
use std::io::{self, ErrorKind, IsTerminal, Write};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// The columns that tables and paragraphs fit into.
pub const WIDTH: usize = 100;

/// Prints a text as it is.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Err(Fault::ReaderGone.into()),
        written => written.map_err(|e| anyhow::anyhow!("writing to stdout: {e}")),
    }
}

/// Prints a value as JSON over several lines.
pub fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    print(&format!("{}\n", serde_json::to_string_pretty(value)?))
}

/// Whether colours are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// For a terminal.
    Coloured,
    /// For everything else.
    Plain,
}

/// What a colour says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// As it should be.
    Good,
    /// Waits.
    Waiting,
    /// Wrong.
    Bad,
    /// A heading.
    Strong,
}

impl Style {
    /// Colours only on a terminal that has them, for a person who did not say no (no-color.org).
    pub fn of_stdout() -> Self {
        let no = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|v| v == "dumb");
        if io::stdout().is_terminal() && !no && !dumb { Self::Coloured } else { Self::Plain }
    }

    /// The text in that tone.
    pub fn paint(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Good => "32",
            Tone::Waiting => "33",
            Tone::Bad => "31",
            Tone::Strong => "1",
        };
        match self {
            Self::Coloured => format!("\x1b[{code}m{text}\x1b[0m"),
            Self::Plain => text.to_owned(),
        }
    }
}

/// One line of text without anything that a terminal would obey: agents, probes and commits put words into what is
/// shown.
pub fn clean(text: &str) -> String {
    let spaced: String = text.chars().map(|c| if c.is_control() || is_format(c) { ' ' } else { c }).collect();
    spaced.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Characters that turn the direction of the text that follows, so that it reads as something else.
fn is_format(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// At most `width` columns of the text, cut with `…`.
pub fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut used = 0;
    for c in text.chars() {
        let wide = c.width().unwrap_or(0);
        if used + wide + 1 > width {
            break;
        }
        used += wide;
        kept.push(c);
    }
    kept.push('…');
    kept
}

/// The text with spaces behind it up to `width` columns.
pub fn pad(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(text.width())))
}

/// The text in lines of at most [`WIDTH`] columns (but for a longer word, such as a path), each after the first with
/// `indent` spaces; a newline at the end.
pub fn wrap(text: &str, indent: usize) -> String {
    let body = text.trim_start_matches(' ');
    let mut used = text.len() - body.len();
    let mut out = " ".repeat(used);
    let mut first = true;
    for word in body.split(' ') {
        let wide = word.width();
        if !first && used + 1 + wide > WIDTH {
            out.push('\n');
            out.push_str(&" ".repeat(indent));
            used = indent;
        } else if !first {
            out.push(' ');
            used += 1;
        }
        first = false;
        out.push_str(word);
        used += wide;
    }
    out.push('\n');
    out
}

/// How long ago `at` was, both in milliseconds since the Unix epoch: `3m ago`, in the largest unit only.
pub fn ago(at: i64, now: i64) -> String {
    format!("{} ago", largest(now.saturating_sub(at)))
}

/// The time from `from` to `to` in its two largest units: `2h 5m`; zero when the clock was set in between.
pub fn span(from: i64, to: i64) -> String {
    let ms = u64::try_from(to.saturating_sub(from)).unwrap_or(0);
    crate::support::units::short_duration(std::time::Duration::from_secs(ms / 1000))
}

fn largest(ms: i64) -> String {
    match u64::try_from(ms).unwrap_or(0) / 1000 {
        s @ 0..60 => format!("{s}s"),
        s @ 60..3600 => format!("{}m", s / 60),
        s @ 3600..86400 => format!("{}h", s / 3600),
        s => format!("{}d", s / 86400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_can_steer_the_terminal() {
        assert_eq!(clean("a\x1b[2J\nb\t\u{202e}c\u{9b}31m \r\0 d"), "a [2J b c 31m d");
        assert_eq!(clean("日本 – ok"), "日本 – ok");
    }

    #[test]
    fn cut_text_fits_also_with_wide_characters() {
        assert_eq!(cut("builder", 7), "builder");
        assert_eq!(cut("builder", 6), "build…");
        assert_eq!(cut("日本語", 6), "日本語");
        assert_eq!(cut("日本語", 5), "日本…");
        assert_eq!(cut("日本語", 4), "日…");
        assert_eq!(pad("日", 4), "日  ");
    }

    #[test]
    fn wrapped_text_fits_and_is_indented() {
        let text = wrap(&"word ".repeat(50), 4);
        assert!(text.lines().all(|l| l.width() <= WIDTH), "{text}");
        assert!(text.lines().skip(1).all(|l| l.starts_with("    w")), "{text}");
        assert_eq!(wrap("short", 4), "short\n");
        assert_eq!(wrap("  short", 4), "  short\n");
        let path = "p".repeat(150);
        assert_eq!(wrap(&format!("a {path} b"), 2), format!("a\n  {path}\n  b\n"), "a path is not broken");
    }

    #[test]
    fn ages_are_in_words_that_fit_a_column() {
        assert_eq!(ago(0, 59_999), "59s ago");
        assert_eq!(ago(0, 200_000), "3m ago");
        assert_eq!(ago(0, 90_000_000), "1d ago");
        assert_eq!(ago(5_000, 0), "0s ago", "a clock that was set back");
        assert_eq!(span(0, 7_500_000), "2h 5m");
    }
}

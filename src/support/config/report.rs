//! Faults of a config with their place in the text, shown as compilers do. Knows nothing of what the keys mean.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use unicode_width::UnicodeWidthChar;

/// More faults than this are one fault (a wrong file) and only their number is told.
const MOST_SHOWN: usize = 50;
/// Columns of a source line that are shown; a longer line is cut round the caret.
const WIDEST: usize = 110;

/// How bad a fault is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The config cannot be used.
    Error,
    /// It can, but it will hardly do what was meant.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// A fault at its place. Displays over several lines, without a newline at the end and without colours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// The file that it is in: the config, or a prompt that the config names.
    pub file: PathBuf,
    /// One-based.
    pub line: usize,
    /// One-based, in characters.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: String,
    excerpt: String,
    caret: Range<usize>,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { severity, file, line, column, message, help, excerpt, caret } = self;
        let line_text = line.to_string();
        let gutter = line_text.len();
        writeln!(f, "{severity}: {message}")?;
        writeln!(f, "{:gutter$}--> {}:{line}:{column}", "", clean(&file.to_string_lossy()))?;
        writeln!(f, "{:gutter$} |", "")?;
        writeln!(f, "{}", format!("{line_text} | {excerpt}").trim_end())?;
        writeln!(f, "{:gutter$} | {:before$}{:^<width$}", "", "", "", before = caret.start, width = caret.len())?;
        write!(f, "{:gutter$} = help: {help}", "")
    }
}

/// A fault whose place is still a byte range; a [`Source`] makes a [`Diagnostic`] of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// How bad it is.
    pub severity: Severity,
    /// The offending bytes.
    pub at: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: String,
}

impl Fault {
    /// A fault with which the config cannot be used.
    pub fn error(at: Range<usize>, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { severity: Severity::Error, at, message: message.into(), help: help.into() }
    }

    /// A fault with which it can.
    pub fn warning(at: Range<usize>, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(at, message, help) }
    }
}

/// Where a key and its value are in the text, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spot {
    /// The key, or for an element of a list the element itself.
    pub key: Range<usize>,
    /// The value.
    pub value: Range<usize>,
}

/// A text with where its lines begin and where its keys are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    file: PathBuf,
    text: String,
    line_starts: Vec<usize>,
    spots: BTreeMap<String, Spot>,
}

impl Source {
    /// A text in which nothing was found yet.
    pub fn new(file: &Path, text: &str) -> Self {
        let line_starts = std::iter::once(0).chain(text.match_indices('\n').map(|(i, _)| i + 1)).collect();
        Self { file: file.to_owned(), text: text.to_owned(), line_starts, spots: BTreeMap::new() }
    }

    /// Remembers where a key is: `loops.builder.workdir`, or an element of a list: `phases.plans[0]`.
    pub fn found(&mut self, path: impl Into<String>, spot: Spot) {
        self.spots.insert(path.into(), spot);
    }

    /// Whether that key is in the text, so that its value is no default.
    pub fn has(&self, path: &str) -> bool {
        self.spots.contains_key(path)
    }

    /// Where that value is; when it is not in the text, the nearest table round it; else the beginning.
    pub fn value(&self, path: &str) -> Range<usize> {
        match self.spots.get(path) {
            Some(spot) => spot.value.clone(),
            None => path.rsplit_once(['.', '[']).map_or(0..0, |(table, _)| self.key(table)),
        }
    }

    /// Where that key is; when it is not in the text, the nearest table round it; else the beginning.
    pub fn key(&self, path: &str) -> Range<usize> {
        match self.spots.get(path) {
            Some(spot) => spot.key.clone(),
            None => path.rsplit_once(['.', '[']).map_or(0..0, |(table, _)| self.key(table)),
        }
    }

    /// Where `part` stands literally in the value, else the whole value: escapes make the two differ.
    pub fn part_of(&self, value: Range<usize>, part: &str) -> Range<usize> {
        match self.text.get(value.clone()).and_then(|text| text.find(part)) {
            Some(at) => value.start + at..value.start + at + part.len(),
            None => value,
        }
    }

    /// The faults sorted by place, at most fifty, errors before warnings when some must be left out; and how many
    /// were left out.
    pub fn diagnostics(&self, mut faults: Vec<Fault>) -> (Vec<Diagnostic>, usize) {
        faults.sort_by_key(|f| (f.severity, f.at.start));
        let more = faults.len().saturating_sub(MOST_SHOWN);
        faults.truncate(MOST_SHOWN);
        faults.sort_by_key(|f| (f.at.start, f.severity));
        (faults.into_iter().map(|f| self.diagnostic(f)).collect(), more)
    }

    fn diagnostic(&self, fault: Fault) -> Diagnostic {
        // toml puts the end of input behind the last newline; the line before it is the one that is meant.
        let mut start = fault.at.start.min(self.text.len());
        if start == self.text.len() && self.text.ends_with('\n') {
            start -= 1;
        }
        while !self.text.is_char_boundary(start) {
            start -= 1;
        }
        let line = self.line_starts.partition_point(|s| *s <= start).saturating_sub(1);
        let line_start = self.line_starts.get(line).copied().unwrap_or(0);
        let text = self.text[line_start..].split('\n').next().unwrap_or_default();
        let text = text.strip_suffix('\r').unwrap_or(text);
        let in_line = (start - line_start).min(text.len());
        let end = fault.at.end.clamp(start, line_start + text.len().max(in_line)) - line_start;
        let (excerpt, caret) = excerpt(text, in_line..end.max(in_line));
        Diagnostic {
            severity: fault.severity,
            file: self.file.clone(),
            line: line + 1,
            column: text[..in_line].chars().count() + 1,
            message: clean(&fault.message),
            help: clean(&fault.help),
            excerpt,
            caret,
        }
    }
}

/// A line made fit for a terminal, cut round the caret if it is long, and the caret's columns in it.
fn excerpt(line: &str, marked: Range<usize>) -> (String, Range<usize>) {
    let width = |text: &str| text.chars().map(|c| cell(c).1).sum::<usize>();
    let caret_width = width(line.get(marked.clone()).unwrap_or_default()).max(1);
    let before = width(&line[..marked.start]);
    let skip = if before + caret_width > WIDEST { before.saturating_sub(WIDEST / 3) } else { 0 };
    let mut out = String::new();
    let (mut at, mut caret, mut used) = (0, before, 0);
    if skip > 0 {
        out.push('…');
        used = 1;
    }
    for c in line.chars() {
        let (text, columns) = cell(c);
        if at >= skip {
            if used + columns > WIDEST {
                out.push('…');
                break;
            }
            out.push_str(&text);
            used += columns;
        } else if at + columns > skip {
            // A wide character astride the cut: keep the columns right.
            out.push(' ');
            used += 1;
        }
        at += columns;
    }
    if skip > 0 {
        caret = before - skip + 1;
    }
    (out, caret..caret + caret_width.min(WIDEST.saturating_sub(caret).max(1)))
}

fn cell(c: char) -> (String, usize) {
    match c {
        '\t' => ("    ".to_owned(), 4),
        c if harmful(c) => ("\u{fffd}".to_owned(), 1),
        c => (c.to_string(), c.width().unwrap_or(0)),
    }
}

/// What would move a terminal's cursor or turn its text round: a config must not be able to hide what it says.
fn harmful(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// A message in which text of the config cannot act on the terminal.
fn clean(text: &str) -> String {
    text.chars().map(|c| if harmful(c) { c.escape_default().to_string() } else { c.to_string() }).collect()
}

/// A text of the config for a message: in backticks, and cut when it is long.
pub fn quoted(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("`{}…`", &text[..end]),
        None => format!("`{text}`"),
    }
}

/// Words for a message: `` `a`, `b`, `c` ``.
pub fn listed<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    // A hostile config can declare tens of thousands.
    let mut words = words.into_iter();
    let shown: Vec<_> = words.by_ref().take(30).map(quoted).collect();
    let more = if words.next().is_some() { ", …" } else { "" };
    shown.join(", ") + more
}

/// The candidate that was probably meant.
pub fn meant<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > 60 {
        return None;
    }
    let scored = candidates.into_iter().take(200).map(|c| (c, strsim::damerau_levenshtein(word, c)));
    let (best, distance) = scored.min_by_key(|(_, distance)| *distance)?;
    // A third of the letters wrong is another word; one slip is forgiven in any.
    (distance <= (word.chars().count() / 3).max(1)).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, at: Range<usize>) -> String {
        let source = Source::new(Path::new("f.toml"), text);
        source.diagnostics(vec![Fault::error(at, "m", "h")]).0[0].to_string()
    }

    #[test]
    fn the_caret_is_under_the_text_whatever_precedes_it() {
        assert_eq!(
            shown("a = 1\n\tkö = \"日本\" x\n", 14..20),
            "error: m\n -->f"
                .replace("-->f", "--> f.toml:2:8\n  |\n2 |     kö = \"日本\" x\n  |           ^^^^\n  = help: h")
        );
    }

    #[test]
    fn the_end_of_the_text_is_its_last_line() {
        assert!(
            shown("a = [\n", 6..6).contains("f.toml:1:6\n  |\n1 | a = [\n  |      ^\n"),
            "{}",
            shown("a = [\n", 6..6)
        );
        assert_eq!(shown("", 0..0), "error: m\n --> f.toml:1:1\n  |\n1 |\n  | ^\n  = help: h");
    }

    #[test]
    fn a_long_line_is_cut_round_the_caret() {
        let line = format!("{}BAD{}", "x".repeat(5000), "y".repeat(5000));
        let text = shown(&line, 5000..5003);
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[3].chars().count() < 120, "{text}");
        let caret = lines[4].find('^').unwrap();
        assert_eq!(lines[3].chars().skip(caret).take(3).collect::<String>(), "BAD", "{text}");
    }

    #[test]
    fn escape_sequences_of_the_config_do_not_reach_the_terminal() {
        let source = Source::new(Path::new("f\u{1b}.toml"), "a\u{1b}[2J\u{202e}");
        let text = source.diagnostics(vec![Fault::error(0..1, "\u{1b}[2J", "\u{7}")]).0[0].to_string();
        assert!(!text.contains(|c: char| harmful(c) && c != '\n'), "{text:?}");
    }

    #[test]
    fn too_many_faults_are_counted_and_errors_come_first() {
        let source = Source::new(Path::new("f"), &"x".repeat(200));
        let mut faults: Vec<_> = (0..100).map(|i| Fault::warning(i..i, "w", "h")).collect();
        faults.push(Fault::error(150..150, "e", "h"));
        let (shown, more) = source.diagnostics(faults);
        assert_eq!((shown.len(), more), (50, 51));
        assert_eq!(shown[49].severity, Severity::Error);
    }

    #[test]
    fn a_near_miss_is_recognised_and_another_word_is_not() {
        assert_eq!(meant("stall_afer", ["agent", "stall_after"]), Some("stall_after"));
        assert_eq!(meant("colour", ["agent", "stall_after"]), None);
    }
}

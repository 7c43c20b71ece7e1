//! A text to what its tables say, or all faults at once. Pure; what the keys mean is the caller's.

use super::report::{Diagnostic, Fault, Severity, Source, quoted};
use super::walk::{Dialect, Walk};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use toml::de::DeTable;

/// What a text says, and what is needed to say more about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed<T> {
    /// With every default.
    pub value: T,
    /// Where each key is.
    pub source: Source,
    /// What will hardly do what was meant, in the order of the text.
    pub warnings: Vec<Diagnostic>,
}

/// Why there is no usable config. Displays over several lines.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigErrors {
    /// There is no text to find faults in.
    #[error("read the config `{file}`: {cause}; {remedy}", file = file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        cause: String,
        /// What to do.
        remedy: String,
    },
    /// The text has faults; at least one is an error.
    #[error("{}", Rendered(diagnostics, *more, file))]
    Faults {
        /// The file.
        file: PathBuf,
        /// At most fifty, in the order of the text.
        diagnostics: Vec<Diagnostic>,
        /// How many more there are.
        more: usize,
    },
}

/// Diagnostics with an empty line between them, and how many they are.
struct Rendered<'a>(&'a [Diagnostic], usize, &'a Path);

impl fmt::Display for Rendered<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(diagnostics, more, file) = self;
        for diagnostic in *diagnostics {
            writeln!(f, "{diagnostic}\n")?;
        }
        let count = |wanted| diagnostics.iter().filter(|d| d.severity == wanted).count();
        let plural = |n, word| if n == 1 { format!("1 {word}") } else { format!("{n} {word}s") };
        write!(f, "check the config `{}`: {}", file.display(), plural(count(Severity::Error), "error"))?;
        if count(Severity::Warning) > 0 {
            write!(f, ", {}", plural(count(Severity::Warning), "warning"))?;
        }
        if *more > 0 {
            write!(f, ", and {more} more not shown")?;
        }
        Ok(())
    }
}

/// Reads a text. `file` is only for the places in the faults.
///
/// # Errors
/// [`ConfigErrors::Faults`] with everything that is wrong. Of TOML syntax errors, these only: what a broken text means
/// is a guess, and faults found in a guess mislead.
pub fn parse<T>(
    text: &str,
    file: &Path,
    dialect: &'static Dialect,
    top: impl FnOnce(&mut Walk, &DeTable<'_>) -> T,
) -> Result<Parsed<T>, ConfigErrors> {
    let mut walk = Walk { dialect, source: Source::new(file, text), faults: Vec::new() };
    let nul = text.find('\0');
    let (root, syntax) = DeTable::parse_recoverable(if nul.is_some() { "" } else { text });
    let only_duplicates = syntax.iter().all(|e| e.message() == DUPLICATE);
    match nul {
        Some(at) => {
            walk.error(at..at + 1, "the file holds a NUL byte, so it is no text", "write it anew as UTF-8 text")
        }
        None => walk.faults.extend(syntax_faults(text, &syntax)),
    }
    let value = (nul.is_none() && (syntax.is_empty() || only_duplicates)).then(|| top(&mut walk, root.get_ref()));
    let Walk { source, faults, .. } = walk;
    let failed = faults.iter().any(|f| f.severity == Severity::Error);
    let (diagnostics, more) = source.diagnostics(faults);
    match value {
        Some(value) if !failed => Ok(Parsed { value, source, warnings: diagnostics }),
        _ => Err(ConfigErrors::Faults { file: file.to_owned(), diagnostics, more }),
    }
}

/// What toml says of a key or table that is there twice; the text is whole, so the rest of it can be read.
const DUPLICATE: &str = "duplicate key";

/// One fault a line: the parser goes on after a fault, and what it finds on the same line follows from the first.
fn syntax_faults(text: &str, errors: &[toml::de::Error]) -> Vec<Fault> {
    let mut faults: BTreeMap<usize, Fault> = BTreeMap::new();
    // A file that is no TOML at all has one a few bytes, and each costs a search for its line.
    for error in errors.iter().take(1000) {
        let at = error.span().unwrap_or(0..0);
        let start = at.start.min(text.len());
        let line = text.as_bytes()[..start].iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
        let rest = text.get(start..).and_then(|t| t.lines().next()).unwrap_or_default().trim();
        let (message, help) = match error.message() {
            DUPLICATE => {
                let key = text.get(at.clone()).unwrap_or_default();
                (format!("{} is there twice", quoted(key)), "keep one of the two")
            }
            "string values must be quoted, expected literal string" if rest.is_empty() => {
                ("a key has no value".to_owned(), "write one after the `=`")
            }
            m if m.contains("must be quoted") || m.starts_with("invalid boolean") => {
                ("a value is neither a string in quotes nor a number nor `true` or `false`".to_owned(), QUOTE)
            }
            m if m.contains("recursion") || m.contains("recurse") => {
                ("the text is nested too deeply".to_owned(), "a config needs three levels at most")
            }
            m if m.starts_with("unexpected key or value") => {
                (format!("not valid TOML: {m}"), "put each key on a line of its own")
            }
            m if m.starts_with("unclosed")
                || (m.starts_with("invalid") && m.ends_with(['"', '\'', '`']) && rest.is_empty()) =>
            {
                (format!("not valid TOML: {m}"), "close it; what follows could not be judged")
            }
            m => (format!("not valid TOML: {m}"), "mend this place; what follows it could not be judged"),
        };
        let first = faults.entry(line).or_insert_with(|| Fault::error(at.clone(), message.clone(), help));
        if at.start < first.at.start {
            *first = Fault::error(at, message, help);
        }
    }
    faults.into_values().collect()
}

const QUOTE: &str = "put text, durations and sizes in quotes: `\"30m\"`";

//! Takes typed values out of parsed TOML, and for each that is not there or not right a fault with its place.

use super::keys::{Key, Table};
use super::report::{Fault, Source, Spot, listed, meant, quoted};
use crate::support::units;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A value with its place.
pub type Value<'d> = Spanned<DeValue<'d>>;

/// What one kind of config can say, for faults that name something of it elsewhere.
#[derive(Debug)]
pub struct Dialect {
    /// All of its tables.
    pub tables: &'static [&'static Table],
    /// Whether a text has something in it that is filled in elsewhere but never in a path.
    pub filled_in: fn(&str) -> bool,
}

/// What was found so far.
#[derive(Debug)]
pub struct Walk {
    /// What can be said.
    pub dialect: &'static Dialect,
    /// Where the keys are.
    pub source: Source,
    /// What is wrong.
    pub faults: Vec<Fault>,
}

/// One table of the text.
#[derive(Debug, Clone)]
pub struct Open<'d> {
    /// Its path: `loops.builder`; empty at the top level.
    pub path: String,
    /// What keys it can have.
    pub keys: &'static Table,
    /// As a person would write it: `[loops.builder]`.
    pub header: String,
    /// Where a fault of the table as a whole is shown.
    pub at: Range<usize>,
    table: &'d DeTable<'d>,
}

/// Well above what is shown.
const MANY: usize = 500;

/// `loops.builder` and `workdir` → `loops.builder.workdir`.
pub fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn form_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

impl Walk {
    /// Records something that makes the config unusable.
    pub fn error(&mut self, at: Range<usize>, message: impl Into<String>, help: impl Into<String>) {
        self.faults.push(Fault::error(at, message, help));
    }

    /// The candidate that was probably meant. After so many faults that most are not shown none is looked for: a
    /// hostile megabyte of wrong words would take minutes.
    pub fn meant<'a>(&self, word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
        if self.faults.len() > MANY { None } else { meant(word, candidates) }
    }

    /// Opens a table and reports the keys that it cannot have. Keys with names that a person chose are not for this.
    pub fn open<'d>(
        &mut self,
        table: &'d DeTable<'d>,
        keys: &'static Table,
        path: String,
        header: String,
        at: Range<usize>,
    ) -> Open<'d> {
        for (key, value) in table {
            if keys.get(key.get_ref()).is_some() {
                let spot = Spot { key: key.span(), value: value.span() };
                self.source.found(join(&path, key.get_ref()), spot);
                continue;
            }
            let place = if header.is_empty() { "at the top level".to_owned() } else { format!("in `{header}`") };
            let all = format!("the keys here are {}", listed(keys.names()));
            let help = match self.meant(key.get_ref(), keys.names()) {
                Some(name) => format!("did you mean `{name}`? {all}"),
                None => match self.dialect.tables.iter().find(|t| t.get(key.get_ref()).is_some()) {
                    Some(other) => format!("this key belongs {}; {all}", other.place()),
                    None => all,
                },
            };
            self.error(key.span(), format!("unknown key {} {place}", quoted(key.get_ref())), help);
        }
        Open { path, keys, header, at, table }
    }

    /// The value of a key, if it is there.
    pub fn get<'d>(&self, open: &Open<'d>, key: &str) -> Option<&'d Value<'d>> {
        open.table.get(key)
    }

    /// Reports a required key that is not there. What is there but wrong is reported by whoever reads it.
    pub fn require(&mut self, open: &Open<'_>, key: &str) {
        if open.table.contains_key(key) {
            return;
        }
        let place = if open.header.is_empty() { "at the top level".into() } else { format!("in `{}`", open.header) };
        let (form, example) = open.keys.get(key).map_or(("", ""), |k| (k.form, k.example));
        let help = match form {
            "tables by name" => format!("add a table under it: `[{key}.NAME]`, with a name of your own for `NAME`"),
            _ => format!("add it: `{key} = {example}`"),
        };
        self.error(open.at.clone(), format!("missing key `{key}` {place}"), help);
    }

    fn mistyped(&mut self, open: &Open<'_>, key: &str, value: &Value<'_>) {
        let known: Option<&Key> = open.keys.get(key);
        let (form, example) = known.map_or(("", ""), |k| (k.form, k.example));
        let help = match (form, value.get_ref()) {
            // As long as it may be a number; else the example says more.
            ("duration", DeValue::Integer(n)) if n.as_str().len() < 10 => {
                format!("add a unit: `{key} = \"{n}s\"` or `{key} = \"{n}m\"`")
            }
            ("size", DeValue::Integer(n)) if n.as_str().len() < 10 => {
                format!("add a unit: `{key} = \"{n}M\"` or `{key} = \"{n}G\"`")
            }
            ("argv" | "list of paths" | "list of names", DeValue::String(_)) => {
                format!("put it in brackets: `{key} = {example}`")
            }
            _ => format!("write it like `{key} = {example}`"),
        };
        let message = format!("`{key}` takes {}, not {}", with_article(form), form_of(value.get_ref()));
        self.error(value.span(), message, help);
    }

    /// A string that any system call can take.
    fn plain<'d>(&mut self, key: &str, text: &'d str, at: Range<usize>) -> Option<&'d str> {
        if text.contains('\0') {
            let help = "take the `\\u0000` out: no argument, path or name can hold it";
            self.error(at, format!("`{key}` holds a NUL character"), help);
            return None;
        }
        Some(text)
    }

    /// A string.
    pub fn text<'d>(&mut self, open: &Open<'d>, key: &str) -> Option<(&'d str, Range<usize>)> {
        let value = self.get(open, key)?;
        let DeValue::String(text) = value.get_ref() else {
            self.mistyped(open, key, value);
            return None;
        };
        Some((self.plain(key, text, value.span())?, value.span()))
    }

    /// A string that stands for one of several values.
    pub fn choice<T: Copy>(&mut self, open: &Open<'_>, key: &str, choices: &[(&'static str, T)]) -> Option<T> {
        let (text, at) = self.text(open, key)?;
        if let Some((_, value)) = choices.iter().find(|(name, _)| *name == text) {
            return Some(*value);
        }
        let names = || choices.iter().map(|(name, _)| *name);
        let all = format!("the values are {}", listed(names()));
        let help = self.meant(text, names()).map_or(all.clone(), |name| format!("did you mean `{name}`? {all}"));
        self.error(at, format!("unknown value {} for `{key}`", quoted(text)), help);
        None
    }

    /// `true` or `false`.
    pub fn flag(&mut self, open: &Open<'_>, key: &str) -> Option<bool> {
        let value = self.get(open, key)?;
        let DeValue::Boolean(flag) = value.get_ref() else {
            self.mistyped(open, key, value);
            return None;
        };
        Some(*flag)
    }

    /// A whole number within limits.
    pub fn count(&mut self, open: &Open<'_>, key: &str, limits: RangeInclusive<u32>) -> Option<u32> {
        let value = self.get(open, key)?;
        let DeValue::Integer(number) = value.get_ref() else {
            self.mistyped(open, key, value);
            return None;
        };
        let read = i64::from_str_radix(number.as_str(), number.radix()).ok().and_then(|n| u32::try_from(n).ok());
        if let Some(n) = read.filter(|n| limits.contains(n)) {
            return Some(n);
        }
        let help = format!("use {} to {}", limits.start(), limits.end());
        self.error(value.span(), format!("`{key}` cannot be {}", quoted(&number.to_string())), help);
        None
    }

    /// A duration within limits.
    pub fn duration(&mut self, open: &Open<'_>, key: &str, limits: RangeInclusive<Duration>) -> Option<Duration> {
        let value = self.get(open, key)?;
        let DeValue::String(text) = value.get_ref() else {
            self.mistyped(open, key, value);
            return None;
        };
        let duration = match units::parse_duration(text) {
            Ok(duration) => duration,
            Err(e) => {
                self.error(value.span(), format!("bad duration for `{key}`: {}", e.fault()), e.remedy());
                return None;
            }
        };
        if limits.contains(&duration) {
            return Some(duration);
        }
        let (message, help) = if duration.is_zero() {
            (format!("`{key}` cannot be zero"), zero_help(open, key))
        } else if duration < *limits.start() {
            let least = units::short_duration(*limits.start());
            (format!("`{key}` is too short: {}", quoted(text)), format!("use at least `{least}`"))
        } else {
            let most = units::short_duration(*limits.end());
            (format!("`{key}` is too long: {}", quoted(text)), format!("use at most `{most}`"))
        };
        self.error(value.span(), message, help);
        None
    }

    /// Bytes.
    pub fn size(&mut self, open: &Open<'_>, key: &str) -> Option<u64> {
        let value = self.get(open, key)?;
        let DeValue::String(text) = value.get_ref() else {
            self.mistyped(open, key, value);
            return None;
        };
        match units::parse_size(text) {
            Ok(bytes) => Some(bytes),
            Err(e) => {
                self.error(value.span(), format!("bad size for `{key}`: {}", e.fault()), e.remedy());
                None
            }
        }
    }

    /// A list of strings, each with its place; also remembers the places as `key[0]`, ….
    pub fn strings<'d>(&mut self, open: &Open<'d>, key: &str) -> Option<Vec<(&'d str, Range<usize>)>> {
        let value = self.get(open, key)?;
        let DeValue::Array(list) = value.get_ref() else {
            self.mistyped(open, key, value);
            return None;
        };
        let mut out = Vec::with_capacity(list.len());
        for (index, element) in list.iter().enumerate() {
            let DeValue::String(text) = element.get_ref() else {
                let message = format!("`{key}` takes strings, not {}", form_of(element.get_ref()));
                self.error(element.span(), message, "put it in quotes");
                continue;
            };
            let at = element.span();
            let spot = Spot { key: at.clone(), value: at.clone() };
            self.source.found(format!("{}[{index}]", join(&open.path, key)), spot);
            out.extend(self.plain(key, text, at.clone()).map(|text| (text, at)));
        }
        Some(out)
    }

    /// A program and its arguments.
    pub fn argv(&mut self, open: &Open<'_>, key: &str) -> Option<Vec<String>> {
        Some(self.strings(open, key)?.into_iter().map(|(text, _)| text.to_owned()).collect())
    }

    /// A path; a relative one is taken from `base`, and without a base it is an error.
    pub fn path(&mut self, open: &Open<'_>, key: &str, base: Option<&Path>) -> Option<PathBuf> {
        let (text, at) = self.text(open, key)?;
        self.as_path(key, text, at, base)
    }

    /// A list of paths.
    pub fn paths(&mut self, open: &Open<'_>, key: &str, base: &Path) -> Option<Vec<PathBuf>> {
        let texts = self.strings(open, key)?;
        Some(texts.into_iter().filter_map(|(text, at)| self.as_path(key, text, at, Some(base))).collect())
    }

    fn as_path(&mut self, key: &str, text: &str, at: Range<usize>, base: Option<&Path>) -> Option<PathBuf> {
        let fault = if text.is_empty() {
            Some(("is an empty path", "write a path, `.` for the folder itself"))
        } else if text.starts_with('~') || text.starts_with('$') {
            Some(("is no path: neither `~` nor variables are filled in", "write the path itself"))
        } else if text.contains(char::is_control) {
            Some(("has a control character in its path", "use a path without line breaks and the like"))
        } else if (self.dialect.filled_in)(text) {
            Some(("has a placeholder in its path", "placeholders are filled in in argv, nudges and prompts only"))
        } else if base.is_none() && !text.starts_with('/') {
            Some(("must be an absolute path", "start it with `/`"))
        } else {
            None
        };
        if let Some((fault, help)) = fault {
            self.error(at, format!("`{key}` {fault}: {}", quoted(text)), help);
            return None;
        }
        Some(tidy(&base.unwrap_or(Path::new("/")).join(text)))
    }

    /// A table under a key.
    pub fn table<'d>(&mut self, open: &Open<'d>, key: &str, keys: &'static Table, header: &str) -> Option<Open<'d>> {
        let value = self.get(open, key)?;
        let DeValue::Table(table) = value.get_ref() else {
            self.mistyped(open, key, value);
            return None;
        };
        let path = join(&open.path, key);
        let at = self.source.key(&path);
        Some(self.open(table, keys, path, header.to_owned(), at))
    }

    /// The tables under a key whose names a person chose, with the name's place.
    pub fn named<'d>(
        &mut self,
        open: &Open<'d>,
        key: &str,
        keys: &'static Table,
    ) -> Vec<(&'d str, Range<usize>, Open<'d>)> {
        let Some(value) = self.get(open, key) else { return Vec::new() };
        let DeValue::Table(tables) = value.get_ref() else {
            let header = keys.header;
            let help = format!("write a table for each, `{header}` with a name of your own for `NAME`");
            let message = format!("`{key}` takes tables by name, not {}", form_of(value.get_ref()));
            self.error(value.span(), message, help);
            return Vec::new();
        };
        let mut out = Vec::new();
        for (name, value) in tables {
            let (at, name) = (name.span(), name.get_ref().as_ref());
            let path = join(key, name);
            self.source.found(path.clone(), Spot { key: at.clone(), value: value.span() });
            let DeValue::Table(table) = value.get_ref() else {
                let message = format!("{} must be a table, not {}", quoted(&path), form_of(value.get_ref()));
                self.error(value.span(), message, format!("write it as `{}`", keys.header));
                continue;
            };
            let header = format!("[{}]", quoted(&path).replace('`', ""));
            out.push((name, at.clone(), self.open(table, keys, path, header, at)));
        }
        out
    }
}

fn zero_help(open: &Open<'_>, key: &str) -> String {
    match open.keys.get(key) {
        Some(k) if k.default == "none" => format!("leave `{key}` out for never, or write it like `{}`", k.example),
        Some(k) => format!("write it like `{}`", k.example),
        None => String::new(),
    }
}

fn with_article(form: &str) -> String {
    match form {
        "absolute path" => format!("an {form}"),
        "argv" => "a list of strings".to_owned(),
        form if form.starts_with("name of") => format!("the {form}"),
        form if form.starts_with('`') || form.starts_with("tables") => form.to_owned(),
        form => format!("a {form}"),
    }
}

/// Without `.` and doubled slashes. `..` stays: what it means depends on symlinks.
pub fn tidy(path: &Path) -> PathBuf {
    path.components().collect()
}

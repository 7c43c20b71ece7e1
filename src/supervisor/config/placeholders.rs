//! `{phase}`, `{phase_index}`, `{plan}`, `{loop}` and `{workspace}` in argv, nudges and prompts. Pure.
//!
//! A placeholder is one of a-z and `_` in braces, with no space. Everything else stays as it is, byte for byte, so that
//! shell (`${HOME}`, `{ cmd; }`, `{1..3}`) and JSON (`{"a":{"b":1}}`) can be written plainly. Doubled braces round such
//! a word give it literally: `{{phase}}` is `{phase}`. Braces that come after a `$` belong to the shell.

use std::ops::Range;

/// Every placeholder's name.
pub const NAMES: &[&str] = &["phase", "phase_index", "plan", "loop", "workspace"];

/// Those that have a value only while a phase is current.
pub const PHASE_NAMES: &[&str] = &["phase", "phase_index", "plan"];

/// What the placeholders stand for in one start of one loop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Values {
    /// `{loop}`: the loop's name.
    pub loop_name: String,
    /// `{workspace}`: the workspace's absolute path.
    pub workspace: String,
    /// `{phase}`, `{phase_index}` and `{plan}`; `None` for a loop that follows no phases.
    pub phase: Option<PhaseValues>,
}

/// The current phase, as placeholders give it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PhaseValues {
    /// `{phase}`: the plan's file name without its last extension.
    pub name: String,
    /// `{phase_index}`: zero-based.
    pub index: usize,
    /// `{plan}`: the plan's absolute path.
    pub plan: String,
}

impl PhaseValues {
    /// The values for the plan at that zero-based index.
    pub fn of(index: usize, plan: &std::path::Path) -> Self {
        // Plans come out of a checked config, where each has a file name and is UTF-8.
        let name = plan.file_stem().unwrap_or(plan.as_os_str()).to_string_lossy().into_owned();
        Self { name, index, plan: plan.to_string_lossy().into_owned() }
    }
}

/// A placeholder that cannot be filled in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnknownPlaceholder {
    /// No placeholder has this name.
    #[error("`{{{name}}}` is no placeholder; use one of {}, or write `{{{{{name}}}}}` for the text itself", known())]
    NoSuchName {
        /// The name between the braces.
        name: String,
    },
    /// It stands for something of the current phase, and there is none.
    #[error("`{{{name}}}` has no value without a phase; take it out, or let the loop follow `[phases]`")]
    NoPhase {
        /// The name between the braces.
        name: String,
    },
}

/// The placeholders as a list for people: `{phase}`, ….
pub fn known() -> String {
    NAMES.iter().map(|n| format!("`{{{n}}}`")).collect::<Vec<_>>().join(", ")
}

/// A placeholder found in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placeholder<'t> {
    /// The name between the braces, known or not.
    pub name: &'t str,
    /// Where it is in the text, braces included; in bytes.
    pub at: Range<usize>,
}

/// Whether a text has a placeholder that is filled in.
pub fn any(text: &str) -> bool {
    scan(text).iter().any(|p| NAMES.contains(&p.name))
}

/// All placeholders of a text, in order.
pub fn scan(text: &str) -> Vec<Placeholder<'_>> {
    let mut found = Vec::new();
    pieces(text, |piece| {
        if let Piece::Placeholder(p) = piece {
            found.push(p);
        }
    });
    found
}

/// Fills in every placeholder.
///
/// # Errors
/// [`UnknownPlaceholder`] for the first that has no value.
pub fn render(text: &str, values: &Values) -> Result<String, UnknownPlaceholder> {
    let mut out = String::with_capacity(text.len());
    let mut fault = None;
    pieces(text, |piece| match piece {
        Piece::Text(text) => out.push_str(text),
        Piece::Placeholder(Placeholder { name, .. }) => match value(name, values) {
            Ok(value) => out.push_str(&value),
            Err(e) => fault = fault.take().or(Some(e)),
        },
    });
    fault.map_or(Ok(out), Err)
}

fn value(name: &str, values: &Values) -> Result<String, UnknownPlaceholder> {
    match (name, &values.phase) {
        ("loop", _) => Ok(values.loop_name.clone()),
        ("workspace", _) => Ok(values.workspace.clone()),
        ("phase", Some(phase)) => Ok(phase.name.clone()),
        ("phase_index", Some(phase)) => Ok(phase.index.to_string()),
        ("plan", Some(phase)) => Ok(phase.plan.clone()),
        (name, None) if PHASE_NAMES.contains(&name) => Err(UnknownPlaceholder::NoPhase { name: name.to_owned() }),
        (name, _) => Err(UnknownPlaceholder::NoSuchName { name: name.to_owned() }),
    }
}

enum Piece<'t> {
    Text(&'t str),
    Placeholder(Placeholder<'t>),
}

fn pieces<'t>(text: &'t str, mut take: impl FnMut(Piece<'t>)) {
    let mut done = 0;
    let mut from = 0;
    while let Some(open) = text[from..].find('{').map(|i| from + i) {
        let word = open + run(&text[open..], |b| b == b'{');
        let end = word + run(&text[word..], |b| b.is_ascii_lowercase() || b == b'_');
        let closing = run(&text[end..], |b| b == b'}');
        // Never inside a `$…{`, and an odd brace more on one side than on the other is text.
        let pairs = (word - open).min(closing);
        if text[..open].ends_with('$') || end == word || pairs == 0 {
            from = word;
            continue;
        }
        // As in format strings two braces are one brace, and an odd number has the placeholder innermost.
        let literal = pairs / 2;
        take(Piece::Text(&text[done..word - pairs]));
        take(Piece::Text(&text[word - literal..word]));
        let name = &text[word..end];
        if pairs % 2 == 1 {
            take(Piece::Placeholder(Placeholder { name, at: word - 1..end + 1 }));
        } else {
            take(Piece::Text(name));
        }
        take(Piece::Text(&text[end..end + literal]));
        done = end + pairs;
        from = done;
    }
    take(Piece::Text(&text[done..]));
}

fn run(text: &str, wanted: impl Fn(u8) -> bool) -> usize {
    text.bytes().take_while(|b| wanted(*b)).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn values() -> Values {
        let phase = PhaseValues::of(1, "/w/plans/plan-2.md".as_ref());
        Values { loop_name: "builder".into(), workspace: "/w".into(), phase: Some(phase) }
    }

    #[test]
    fn placeholders_are_filled_in_and_doubled_braces_are_braces() {
        for (text, want) in [
            ("{loop} in {workspace}", "builder in /w"),
            ("{phase} {phase_index} {plan}", "plan-2 1 /w/plans/plan-2.md"),
            ("{{loop}}", "{loop}"),
            ("{{{loop}}}", "{builder}"),
            ("{{{{loop}}}}", "{{loop}}"),
            (r#"{"k":{phase_index}}"#, r#"{"k":1}"#),
            ("{{loop}", "{builder"),
            ("{{nonsense}}", "{nonsense}"),
        ] {
            assert_eq!(render(text, &values()).unwrap(), want, "{text:?}");
        }
    }

    #[test]
    fn shell_and_json_stay_as_they_are() {
        for text in [
            "${HOME} ${loop} ${{loop}} $${loop}",
            "f() { echo hi; }",
            r#"{"a":{"b":{}}}"#,
            "{1..3} {a,b} { loop } {Loop} {}",
            "{{ github.sha }}",
            "${X:-${Y}}",
            "{",
            "}",
            "{{",
            "}}",
            "{loop",
            "loop}",
            "{ä}",
        ] {
            assert_eq!(render(text, &values()).unwrap(), text);
            assert_eq!(scan(text), []);
        }
    }

    #[test]
    fn what_has_no_value_is_an_error_that_says_what_to_write() {
        assert_eq!(
            render("x {print} y", &values()).unwrap_err().to_string(),
            "`{print}` is no placeholder; use one of `{phase}`, `{phase_index}`, `{plan}`, `{loop}`, `{workspace}`, \
             or write `{{print}}` for the text itself"
        );
        assert_eq!(
            render("{plan}", &Values { phase: None, ..values() }).unwrap_err().to_string(),
            "`{plan}` has no value without a phase; take it out, or let the loop follow `[phases]`"
        );
    }

    #[test]
    fn a_scan_says_where_each_placeholder_is() {
        let text = "ä {loop} {{x}} {{{nope}}}";
        let found: Vec<_> = scan(text).into_iter().map(|p| (p.name, &text[p.at])).collect();
        assert_eq!(found, [("loop", "{loop}"), ("nope", "{nope}")]);
    }

    proptest! {
        #[test]
        fn text_without_braces_is_never_changed_and_nothing_panics(text in "\\PC{0,30}", odd in "[{}$a-z_ ä]{0,30}") {
            if !text.contains('{') {
                prop_assert_eq!(&render(&text, &values()).unwrap(), &text);
            }
            if scan(&odd).is_empty() {
                prop_assert!(render(&odd, &values()).is_ok());
            }
        }
    }
}

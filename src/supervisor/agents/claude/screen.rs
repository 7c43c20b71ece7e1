//! A usage limit as the screen shows it: the last resort. An agent's own text may have the same words in it, so only the
//! beginning of a line counts.

use super::super::Signal;
use super::refusal;

/// What the CLI draws before a message.
const MARKS: &[char] = &['⎿', '●', '⏺', '✻', '⚠', '│'];
/// How the texts of a limit begin, in lower case.
const TEXTS: [&str; 8] = [
    "you've hit your session limit",
    "you've hit your weekly limit",
    "you've hit your usage limit",
    "you've hit your limit",
    "you've reached your usage limit",
    "5-hour limit reached",
    "weekly limit reached",
    "claude ai usage limit reached",
];
const EXTRA: &str = "you're out of extra usage";

/// Reads the last line that begins with the text of a limit.
pub fn read(screen: &str, now: i64) -> Vec<Signal> {
    let line = screen.lines().rev().find_map(|line| {
        let line = line.trim_start().trim_start_matches(MARKS).trim();
        // The CLI sets either apostrophe.
        let lower = line.to_lowercase().replace('\u{2019}', "'");
        TEXTS.iter().chain([&EXTRA]).any(|text| begins(&lower, text)).then_some(line)
    });
    line.map(|line| refusal::read("rate_limit", line, now)).unwrap_or_default()
}

/// The text, and then nothing or what separates it from the reset: a sentence that goes on is somebody's own words.
fn begins(lower: &str, text: &str) -> bool {
    let Some(rest) = lower.strip_prefix(text) else { return false };
    let rest = rest.trim_start();
    rest.is_empty() || rest.starts_with(['·', '∙', '-', '|', '.'])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-22 (a Sunday) 15:40:10 UTC.
    const NOW: i64 = 1_795_362_010_000;

    fn resets(screen: &str) -> Option<Option<String>> {
        match &read(screen, NOW)[..] {
            [Signal::UsageLimit { resets_at, .. }] => Some(resets_at.map(crate::support::clock::format_time)),
            [] => None,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_text_of_a_limit_is_known_with_each_separator_zone_and_time() {
        let at = |day: &str| Some(Some(format!("2026-11-{day}Z")));
        for (line, told) in [
            ("You've hit your session limit · resets 3:45pm (UTC)", at("22 15:46:00")),
            ("  ⎿  You\u{2019}ve hit your session limit · resets 5pm (Europe/Berlin)", at("22 16:01:00")),
            ("● You've hit your weekly limit · resets Mon 12:00am (UTC)", at("23 00:01:00")),
            ("5-hour limit reached ∙ resets 7pm (UTC)", at("22 19:01:00")),
            ("5-hour limit reached - resets 1pm (America/New_York)", at("22 18:01:00")),
            ("Claude AI usage limit reached|1795365610", at("22 16:40:10")),
            ("Claude AI usage limit reached|1795365610000", at("22 16:40:10")),
            ("You're out of extra usage | resets 7pm (UTC)", at("22 19:01:00")),
            ("You've hit your usage limit", Some(None)),
        ] {
            assert_eq!(resets(&format!("> go on\n\n{line}\n\n> \n  ? for shortcuts\n")), told, "{line}");
        }
    }

    #[test]
    fn a_limit_in_the_middle_of_a_line_or_sentence_is_somebodys_words() {
        for line in [
            "the docs say: You've hit your session limit · resets 3:45pm (UTC)",
            "● You've hit your usage limit in the test on line 3, so I changed it",
            "5-hour limit reached is the text to look for",
            "Approaching usage limit · resets at 7pm",
        ] {
            assert_eq!(resets(line), None, "{line}");
        }
    }

    #[test]
    fn of_several_the_last_one_counts() {
        let screen = "5-hour limit reached ∙ resets 4pm (UTC)\n> go on\n5-hour limit reached ∙ resets 7pm (UTC)";
        assert_eq!(resets(screen), Some(Some("2026-11-22 19:01:00Z".into())));
    }
}

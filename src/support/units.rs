//! Durations and sizes as an operator writes and reads them: `1h 30m`, `300M`. A number always has its unit.

use std::time::Duration;

/// Why a text is no duration or size. Displays as `<what is wrong>; <what to write>`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{fault}; {remedy}")]
pub struct BadUnit {
    fault: String,
    remedy: String,
}

impl BadUnit {
    fn new(fault: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { fault: fault.into(), remedy: remedy.into() }
    }

    /// What is wrong, naming the text.
    pub fn fault(&self) -> &str {
        &self.fault
    }

    /// What to write instead.
    pub fn remedy(&self) -> &str {
        &self.remedy
    }
}

/// humantime also takes months (`M`, so that `15M` is more than a year), years and everything below a millisecond,
/// which no clock here resolves.
const TIME_UNITS: &[&str] = &[
    "ms", "s", "sec", "secs", "second", "seconds", "m", "min", "mins", "minute", "minutes", "h", "hr", "hrs", "hour",
    "hours", "d", "day", "days", "w", "wk", "wks", "week", "weeks",
];

/// Up to what a `u64` of bytes can be multiplied from [`MAX_DIGITS`] digits without a doubt.
const SIZE_UNITS: &[&str] = &["b", "k", "kb", "kib", "m", "mb", "mib", "g", "gb", "gib", "t", "tb", "tib"];

/// More digits are a slip, and both parsing crates can overflow on them (humantime 2.4 panics on
/// `18446744073709551615s 1000ms`, parse-size 1.1 on a mantissa of `u64::MAX`).
const MAX_DIGITS: usize = 9;

/// Reads `5s`, `15m`, `1h 30m`, `1.5h`, `250ms`, `2d`.
///
/// # Errors
/// [`BadUnit`] when a number has no unit, the unit is not one of time, or the text is no duration at all.
pub fn parse_duration(text: &str) -> Result<Duration, BadUnit> {
    let text = text.trim();
    let like = "write it like `30s`, `15m` or `1h 30m`";
    for part in parts(text).ok_or_else(|| BadUnit::new(format!("`{}` is not a duration", shown(text)), like))? {
        let Part { number, unit } = part;
        too_many_digits(number)?;
        if unit.is_empty() {
            let remedy = format!("add one: `{number}s`, `{number}m` or `{number}h`");
            return Err(BadUnit::new(format!("`{number}` has no unit"), remedy));
        }
        if !TIME_UNITS.contains(&unit) {
            let remedy = match unit {
                "M" => "minutes are a small `m`",
                _ => "the units are `ms`, `s`, `m`, `h`, `d` and `w`",
            };
            return Err(BadUnit::new(format!("`{}` is not a unit of time", shown(unit)), remedy));
        }
    }
    humantime::parse_duration(text)
        .map_err(|e| BadUnit::new(format!("`{}` is not a duration: {e}", shown(text)), like.to_owned()))
}

/// Reads `300M`, `2G`, `1.5GiB`, `512B` into bytes. Units are binary, as systemd has them: `1M` is 1024 × 1024.
///
/// # Errors
/// [`BadUnit`] when the number has no unit, the unit is not one of size, or the text is no size at all.
pub fn parse_size(text: &str) -> Result<u64, BadUnit> {
    let text = text.trim();
    let like = "write it like `300M` or `2G`";
    let wrong = || BadUnit::new(format!("`{}` is not a size", shown(text)), like);
    let parts = parts(text).ok_or_else(wrong)?;
    let [Part { number, unit }] = parts.as_slice() else { return Err(wrong()) };
    too_many_digits(number)?;
    if unit.is_empty() {
        let remedy = format!("add one: `{number}M`, `{number}G` or, for bytes, `{number}B`");
        return Err(BadUnit::new(format!("`{number}` has no unit"), remedy));
    }
    if !SIZE_UNITS.contains(&unit.to_ascii_lowercase().as_str()) {
        let remedy = "the units are `B`, `K`, `M`, `G` and `T`";
        return Err(BadUnit::new(format!("`{}` is not a unit of size", shown(unit)), remedy));
    }
    parse_size::Config::new()
        .with_binary()
        .parse_size(text)
        .map_err(|e| BadUnit::new(format!("`{}` is not a size: {e}", shown(text)), like))
}

struct Part<'a> {
    number: &'a str,
    unit: &'a str,
}

/// Splits into numbers with their units; `None` when the text has any other shape. Stricter than the crates: humantime
/// reads `1 5s` as 15 s, and parse-size `1_0M` and `1e3M`.
fn parts(text: &str) -> Option<Vec<Part<'_>>> {
    let mut parts = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let number = leading(rest, |c| c.is_ascii_digit() || c == '.');
        let well_formed = match number.split_once('.') {
            Some((whole, part)) => !whole.is_empty() && !part.is_empty() && !part.contains('.'),
            None => !number.is_empty(),
        };
        if !well_formed {
            return None;
        }
        rest = rest[number.len()..].trim_start_matches(' ');
        let unit = leading(rest, |c| c.is_ascii_alphabetic());
        if unit.is_empty() && !rest.is_empty() {
            return None;
        }
        rest = rest[unit.len()..].trim_start_matches(' ');
        parts.push(Part { number, unit });
    }
    (!parts.is_empty()).then_some(parts)
}

fn leading(text: &str, wanted: impl Fn(char) -> bool) -> &str {
    &text[..text.find(|c| !wanted(c)).unwrap_or(text.len())]
}

fn too_many_digits(number: &str) -> Result<(), BadUnit> {
    let digits = number.split('.').map(str::len).max().unwrap_or(0);
    if digits <= MAX_DIGITS {
        return Ok(());
    }
    let fault = format!("`{}` has {digits} digits, of at most {MAX_DIGITS}", shown(number));
    Err(BadUnit::new(fault, "write it in a larger unit"))
}

fn shown(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A duration in its two largest units, rest dropped: `1d 2h`, `1h 30m`, `5s`; milliseconds only below one second.
pub fn short_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds == 0 && duration.subsec_millis() > 0 {
        return format!("{}ms", duration.subsec_millis());
    }
    let (large, small) = match seconds {
        0..60 => return format!("{seconds}s"),
        60..3600 => ((seconds / 60, "m"), (seconds % 60, "s")),
        3600..86400 => ((seconds / 3600, "h"), (seconds % 3600 / 60, "m")),
        _ => ((seconds / 86400, "d"), (seconds % 86400 / 3600, "h")),
    };
    match small.0 {
        0 => format!("{}{}", large.0, large.1),
        _ => format!("{}{} {}{}", large.0, large.1, small.0, small.1),
    }
}

/// Bytes in their largest unit with at most three digits before the point: `512B`, `312M`, `1.5G`.
pub fn short_size(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    // Tenths of the unit, so that rounding can carry into the next one: 1023.97K is 1M and not 1024K.
    let (mut tenths, mut units) = (u128::from(bytes) * 10, ["K", "M", "G", "T", "P", "E"].iter());
    let mut unit = "B";
    while tenths >= 10_235 {
        let Some(next) = units.next() else { break };
        (tenths, unit) = ((tenths + 512) / 1024, next);
    }
    match (tenths / 10, tenths % 10) {
        (whole @ 1..10, tenth @ 1..) => format!("{whole}.{tenth}{unit}"),
        _ => format!("{}{unit}", (tenths + 5) / 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seconds(text: &str) -> f64 {
        parse_duration(text).unwrap().as_secs_f64()
    }

    #[test]
    fn durations_are_read_with_their_units() {
        for (text, want) in [
            ("5s", 5.0),
            ("15m", 900.0),
            ("1h 30m", 5400.0),
            ("1h30m", 5400.0),
            (" 2 d ", 172_800.0),
            ("250ms", 0.25),
            ("1.5h", 5400.0),
            ("0s", 0.0),
            ("1 week", 604_800.0),
        ] {
            assert_eq!(seconds(text), want, "{text:?}");
        }
    }

    #[test]
    fn sizes_are_binary_like_systemds() {
        for (text, want) in [
            ("300M", 300 << 20),
            ("2G", 2 << 30),
            ("2 GiB", 2 << 30),
            ("2GB", 2 << 30),
            ("1.5K", 1536),
            ("512B", 512),
            ("0B", 0),
            ("300m", 300 << 20),
        ] {
            assert_eq!(parse_size(text), Ok(want), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_duration_says_what_to_write() {
        for (text, want) in [
            ("30", "`30` has no unit; add one: `30s`, `30m` or `30h`"),
            ("0", "`0` has no unit; add one: `0s`, `0m` or `0h`"),
            ("1h 30", "`30` has no unit; add one: `30s`, `30m` or `30h`"),
            ("", "`` is not a duration; write it like `30s`, `15m` or `1h 30m`"),
            ("soon", "`soon` is not a duration; write it like `30s`, `15m` or `1h 30m`"),
            ("-5s", "`-5s` is not a duration; write it like `30s`, `15m` or `1h 30m`"),
            ("1 5s", "`1 5s` is not a duration; write it like `30s`, `15m` or `1h 30m`"),
            ("1..5s", "`1..5s` is not a duration; write it like `30s`, `15m` or `1h 30m`"),
            ("15M", "`M` is not a unit of time; minutes are a small `m`"),
            ("2 years", "`years` is not a unit of time; the units are `ms`, `s`, `m`, `h`, `d` and `w`"),
            ("1234567890s", "`1234567890` has 10 digits, of at most 9; write it in a larger unit"),
            (
                "18446744073709551615s 1000ms",
                "`18446744073709551615` has 20 digits, of at most 9; write it in a larger unit",
            ),
        ] {
            assert_eq!(parse_duration(text).unwrap_err().to_string(), want, "{text:?}");
        }
    }

    #[test]
    fn what_is_no_size_says_what_to_write() {
        for (text, want) in [
            ("300", "`300` has no unit; add one: `300M`, `300G` or, for bytes, `300B`"),
            ("", "`` is not a size; write it like `300M` or `2G`"),
            ("10%", "`10%` is not a size; write it like `300M` or `2G`"),
            ("1e3M", "`1e3M` is not a size; write it like `300M` or `2G`"),
            ("1G 5M", "`1G 5M` is not a size; write it like `300M` or `2G`"),
            ("3X", "`X` is not a unit of size; the units are `B`, `K`, `M`, `G` and `T`"),
            ("18446744073709551615B", "`18446744073709551615` has 20 digits, of at most 9; write it in a larger unit"),
        ] {
            assert_eq!(parse_size(text).unwrap_err().to_string(), want, "{text:?}");
        }
    }

    #[test]
    fn durations_are_shown_in_two_units() {
        for (millis, want) in [
            (0, "0s"),
            (250, "250ms"),
            (5_900, "5s"),
            (60_000, "1m"),
            (90_000, "1m 30s"),
            (5_400_000, "1h 30m"),
            (5_420_000, "1h 30m"),
            (93_600_000, "1d 2h"),
            (86_400_000 * 400, "400d"),
        ] {
            assert_eq!(short_duration(Duration::from_millis(millis)), want);
        }
    }

    #[test]
    fn sizes_are_shown_in_one_unit() {
        for (bytes, want) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1K"),
            (1536, "1.5K"),
            (312 << 20, "312M"),
            ((1 << 20) - 1, "1M"),
            (3 << 29, "1.5G"),
            (u64::MAX, "16E"),
        ] {
            assert_eq!(short_size(bytes), want);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_value_or_an_error(text in "\\PC{0,20}|[0-9.]{0,22} ?[a-zA-Z]{0,4}( ?[0-9.]{1,22}[a-z]{0,3})?") {
            let _ = (parse_duration(&text), parse_size(&text));
        }

        #[test]
        fn what_is_shown_reads_back_as_nearly_the_same(millis in 1u64..3_000_000_000, bytes in 0u64..1 << 49) {
            let shown = parse_duration(&short_duration(Duration::from_millis(millis))).unwrap().as_millis() as f64;
            prop_assert!((millis as f64 - shown).abs() <= millis as f64 * 0.5, "{millis} {shown}");
            let shown = parse_size(&short_size(bytes)).unwrap() as f64;
            prop_assert!((bytes as f64 - shown).abs() <= bytes as f64 * 0.06, "{bytes} {shown}");
        }
    }
}

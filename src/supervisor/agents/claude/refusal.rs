//! Why a turn ended without an answer: the `error` of `StopFailure` and the text that the CLI shows. Reads reset times
//! in the zone that they name.

use super::super::Signal;
use jiff::civil::{Date, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

const HOUR_MS: i64 = 3_600_000;
/// A reset further away than its window is none; the slack is for a window that began while it was asked.
const FIVE_HOURS: i64 = 5 * HOUR_MS + HOUR_MS / 4;
const WEEK: i64 = 7 * 24 * HOUR_MS + HOUR_MS / 4;
/// Numbers above this are milliseconds: as seconds it is the year 5138.
const SECONDS_MAX: f64 = 1e11;

/// What a refusal means.
pub fn read(error: &str, text: &str, now: i64) -> Vec<Signal> {
    let lower = text.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let person = || vec![Signal::NeedsPerson { what: format!("{error}: {text}") }];
    let evidence = || if text.is_empty() { error.to_owned() } else { text.to_owned() };
    // These do not reset by waiting.
    if error == "billing_error" || says(&["credit balance", "spend limit", "spending limit", "spending cap"]) {
        return person();
    }
    match error {
        "authentication_failed" | "oauth_org_not_allowed" => vec![Signal::LoggedOut { evidence: evidence() }],
        // The text is what tells a plan's limit from a server that is short of room.
        "rate_limit" if says(&["not your usage limit", "temporarily limiting"]) => vec![Signal::Overloaded],
        "rate_limit"
            if says(&[
                "hit your",
                "limit reached",
                "usage limit",
                "session limit",
                "weekly limit",
                "extra usage",
                "quota",
            ]) =>
        {
            vec![Signal::UsageLimit { resets_at: resets_at(text, now), evidence: evidence() }]
        }
        "rate_limit" | "overloaded" | "server_error" | "unknown" | "" => vec![Signal::Overloaded],
        _ if says(&["prompt is too long", "context window", "context limit"]) => {
            // The turn is over, so that it is acted on now.
            vec![Signal::TurnEnded, Signal::ContextFull]
        }
        // It said as much as it may in one turn: idle, like any other end.
        "max_output_tokens" => vec![Signal::TurnEnded],
        _ => person(),
    }
}

/// The same of a refusal that was written down at `at` and is read at `now`: a limit that has reset since holds nobody,
/// but its turn is over all the same.
pub fn read_later(error: &str, text: &str, at: i64, now: i64) -> Vec<Signal> {
    let over = |signal: &Signal| matches!(signal, Signal::UsageLimit { resets_at: Some(reset), .. } if *reset <= now);
    let signals = read(error, text, at);
    if signals.iter().any(over) { vec![Signal::Waiting] } else { signals }
}

/// When a limit resets, in milliseconds since the Unix epoch; `None` if that is not said, not understood, past, or
/// further away than its window. Rounded up to the minute's end: the text has minutes only.
pub fn resets_at(text: &str, now: i64) -> Option<i64> {
    let lower = text.to_lowercase();
    let window = if lower.contains("week") || lower.contains("7-day") { WEEK } else { FIVE_HOURS };
    let at = match text.split_once('|').map(|(_, number)| number.trim().parse::<f64>()) {
        // `Claude AI usage limit reached|1787412000`
        Some(Ok(number)) => moment(number)?,
        _ => {
            let said = &text[lower.find("resets")? + "resets".len()..];
            let (said, zone) = zone(said)?;
            clock_time(&said.to_lowercase(), &zone, now)?
        }
    };
    // A text without a word for its window may be of the longest one if it names a day.
    let window = if days(&lower) { WEEK } else { window };
    (at > now && at <= now.saturating_add(window)).then_some(at)
}

/// A number that may be seconds or milliseconds since the Unix epoch, as milliseconds.
pub fn moment(number: f64) -> Option<i64> {
    let ms = if number > SECONDS_MAX { number } else { number * 1000.0 };
    // Beyond this is no date; within it the cast is exact.
    #[allow(clippy::cast_possible_truncation)]
    (ms.is_finite() && (0.0..1e15).contains(&ms)).then_some(ms as i64)
}

/// Splits off `(Area/City)`. Without one it is the machine's own zone, as everything that the CLI prints.
fn zone(said: &str) -> Option<(&str, TimeZone)> {
    match said.split_once('(') {
        None => Some((said, TimeZone::system())),
        Some((before, rest)) => {
            let name = rest.split_once(')')?.0.trim();
            Some((before, TimeZone::get(name).ok()?))
        }
    }
}

fn days(lower: &str) -> bool {
    lower.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| weekday(word).is_some() || month(word).is_some())
}

/// The next moment that `3:45pm`, `3am`, `15:45`, `mon 12:00am` or `nov 24, 3pm` (`at` and commas in between) names.
fn clock_time(said: &str, zone: &TimeZone, now: i64) -> Option<i64> {
    let now = Timestamp::from_millisecond(now).ok()?;
    let here = now.to_zoned(zone.clone());
    let words: Vec<&str> =
        said.split(|c: char| c.is_whitespace() || c == ',').filter(|word| !word.is_empty() && *word != "at").collect();
    let (day, time) = words.split_at(words.iter().position(|word| time_of_day(word).is_some())?);
    let time = time_of_day(time.first()?)?;
    let date = match day {
        [] => None,
        [name] => {
            let wanted = weekday(name)?;
            let today = here.date();
            let ahead = (0..7_i32).find(|n| today.checked_add(n.days()).is_ok_and(|d| d.weekday() == wanted))?;
            Some((today.checked_add(ahead.days()).ok()?, 7))
        }
        [name, number, ..] => {
            let date = Date::new(here.year(), month(name)?, number.parse().ok()?).ok()?;
            Some((date, 365))
        }
    };
    let (date, period) = date.unwrap_or((here.date(), 1));
    let at = |date: Date| zone.to_zoned(date.to_datetime(time)).ok().map(|at| at.timestamp());
    // The whole of that minute may still be before the reset.
    let end = |at: Timestamp| at.as_millisecond() + 60_000;
    let first = end(at(date)?);
    if first > now.as_millisecond() {
        return Some(first);
    }
    at(date.checked_add(period.days()).ok()?).map(end)
}

/// `3pm`, `3:45pm`, `15:45`.
fn time_of_day(word: &str) -> Option<Time> {
    let word = word.trim_end_matches('.');
    let (digits, half) = match (word.strip_suffix("am"), word.strip_suffix("pm")) {
        (Some(digits), _) => (digits, Some(0)),
        (_, Some(digits)) => (digits, Some(12)),
        _ => (word, None),
    };
    let (hour, minute) = match digits.split_once(':') {
        Some((hour, minute)) => (hour.parse::<i8>().ok()?, minute.parse::<i8>().ok()?),
        // A bare number is a day of the month.
        None => (half.and(digits.parse::<i8>().ok())?, 0),
    };
    let hour = match half {
        Some(_) if !(1..=12).contains(&hour) => return None,
        Some(half) => hour % 12 + half,
        None => hour,
    };
    Time::new(hour, minute, 0, 0).ok()
}

fn weekday(word: &str) -> Option<Weekday> {
    use Weekday::*;
    let all = [Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday];
    let names = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
    names.iter().position(|name| word == *name || word == &name[..3]).map(|at| all[at])
}

fn month(word: &str) -> Option<i8> {
    let names = [
        "january",
        "february",
        "march",
        "april",
        "may",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
    ];
    let at = names.iter().position(|name| word == *name || word == &name[..3])?;
    i8::try_from(at + 1).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-22 (a Sunday) 15:40:10 UTC.
    const NOW: i64 = 1_795_362_010_000;

    fn at(text: &str) -> Option<String> {
        resets_at(text, NOW).map(crate::support::clock::format_time)
    }

    #[test]
    fn a_reset_is_read_in_the_zone_that_it_names_and_rounded_up() {
        let day = |time: &str| Some(format!("2026-11-22 {time}Z"));
        assert_eq!(at("You've hit your session limit · resets 3:53pm (UTC)"), day("15:54:00"));
        assert_eq!(at("You've hit your session limit ∙ resets 3:40pm (UTC)"), day("15:41:00"), "this very minute");
        assert_eq!(at("5-hour limit reached - resets 5pm (Europe/Berlin)"), day("16:01:00"));
        assert_eq!(at("You're out of extra usage | resets 12:30pm (America/New_York)"), day("17:31:00"));
        assert_eq!(at("5-hour limit reached ∙ resets 18:00 (UTC)"), day("18:01:00"));
    }

    #[test]
    fn a_day_is_read_by_its_name_or_date() {
        let told = |date: &str| Some(format!("2026-11-{date}Z"));
        assert_eq!(at("You've hit your weekly limit · resets Mon 12:00am (UTC)"), told("23 00:01:00"));
        assert_eq!(at("weekly limit · resets Sun 3pm (UTC)"), told("29 15:01:00"));
        assert_eq!(at("weekly limit reached · resets Nov 24, 3pm (UTC)"), told("24 15:01:00"));
        assert_eq!(at("weekly limit reached · resets Nov 24 at 3:15am (UTC)"), told("24 03:16:00"));
    }

    #[test]
    fn seconds_and_milliseconds_are_told_apart() {
        assert_eq!(at("Claude AI usage limit reached|1795365610"), at("Claude AI usage limit reached|1795365610000"));
        assert_eq!(resets_at("Claude AI usage limit reached|1795365610", NOW), Some(1_795_365_610_000));
    }

    #[test]
    fn a_reset_beyond_its_window_in_the_past_or_without_sense_is_none() {
        assert_eq!(at("You've hit your session limit · resets 3:30pm (UTC)"), None, "a session is five hours");
        assert_eq!(at("weekly limit · resets Dec 24, 3pm (UTC)"), None);
        assert_eq!(at("Claude AI usage limit reached|1700000000"), None);
        for text in
            ["", "resets", "resets soon", "resets 25pm (UTC)", "resets 3pm (Middle/Earth)", "resets 3pm (", "x|y"]
        {
            assert_eq!(at(text), None, "{text}");
        }
    }

    #[test]
    fn a_plans_limit_is_told_from_a_busy_server_and_an_empty_purse() {
        let of = |error: &str, text: &str| read(error, text, NOW);
        let limit = "You've hit your session limit · resets 3:53pm (UTC)";
        let told = Signal::UsageLimit { resets_at: Some(1_795_362_840_000), evidence: limit.into() };
        assert_eq!(of("rate_limit", limit), [told]);
        let unknown = "You've reached your usage limit";
        let told = Signal::UsageLimit { resets_at: None, evidence: unknown.into() };
        assert_eq!(of("rate_limit", unknown), [told]);
        let busy = "API Error: Server is temporarily limiting requests (not your usage limit) · rate limited";
        assert_eq!(of("rate_limit", busy), [Signal::Overloaded]);
        assert_eq!(of("overloaded", "Repeated 529 Overloaded errors"), [Signal::Overloaded]);
        for (error, text) in
            [("billing_error", "x"), ("rate_limit", "Credit balance is too low"), ("rate_limit", "Spend limit reached")]
        {
            assert!(matches!(&of(error, text)[..], [Signal::NeedsPerson { .. }]), "{error} {text}");
        }
    }

    #[test]
    fn a_lost_login_a_full_context_and_what_is_new_are_told() {
        let text = "Not logged in · Please run /login";
        assert_eq!(read("authentication_failed", text, NOW), [Signal::LoggedOut { evidence: text.into() }]);
        assert_eq!(read("invalid_request", "Prompt is too long", NOW), [Signal::TurnEnded, Signal::ContextFull]);
        assert!(matches!(&read("invalid_request", "bad", NOW)[..], [Signal::NeedsPerson { .. }]));
    }
}

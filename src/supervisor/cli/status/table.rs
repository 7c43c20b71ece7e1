//! How a status looks: what concerns all loops in lines, then a table. Pure.

use super::super::out::{Style, Tone, WIDTH, ago, clean, cut, pad, span, wrap};
use crate::supervisor::core::view::{DaemonState, LoopView, StatusView};
use crate::support::units::short_size;
use unicode_width::UnicodeWidthStr;

const HEAD: [&str; 9] = ["LOOP", "STATE", "SINCE", "PHASE", "EPOCH", "RESTARTS", "MEMORY", "LAST SIGN", "WAITS FOR"];
/// Columns between two columns.
const GAP: usize = 2;
/// What a loop waits for is never cut below this; its name is instead.
const LEAST_WAITS: usize = 24;
/// No column of numbers needs more, and a broken one must not push the others out.
const WIDEST: usize = 9;

/// The whole text.
pub fn text(status: &StatusView, notes: &[String], style: Style) -> String {
    let mut out = String::new();
    for (tone, line) in lines(status, notes) {
        let wrapped = wrap(&line, 2);
        for line in wrapped.lines() {
            match tone {
                Some(tone) => out.push_str(&style.paint(tone, line)),
                None => out.push_str(line),
            }
            out.push('\n');
        }
    }
    if !out.is_empty() {
        out.push('\n');
    }
    table(status, style, &mut out);
    out
}

/// What concerns all loops.
fn lines(status: &StatusView, notes: &[String]) -> Vec<(Option<Tone>, String)> {
    let mut lines = Vec::new();
    if status.daemon == DaemonState::Down {
        let running = status.loops.iter().filter(|l| l.pid.is_some()).count();
        let agents = match running {
            0 => "no agent runs".to_owned(),
            1 => "1 agent still runs, unwatched".to_owned(),
            n => format!("{n} agents still run, unwatched"),
        };
        let start = "start it with `supervisor run`, or `systemctl start cc-ci-orchestrator`";
        let line = format!("The supervisor is not running; this is what it wrote last; {agents}; {start}");
        lines.push((Some(Tone::Bad), line));
    }
    lines.extend(notes.iter().map(|note| (Some(Tone::Bad), clean(note))));
    if let Some(why) = &status.unwritable {
        lines.push((Some(Tone::Bad), format!("The state cannot be written, so no agent is started: {}", clean(why))));
    }
    if let Some(since) = status.frozen {
        let line = format!("Frozen since {}: nothing starts; `supervisor thaw` ends it", span(since, status.at));
        lines.push((Some(Tone::Waiting), line));
    }
    if let Some(until) = status.draining_until {
        let left = span(status.at, until);
        let line = format!("Draining, for {left} more: each loop is held at its next safe point");
        lines.push((Some(Tone::Waiting), line));
    }
    if let Some(phase) = &status.phase {
        lines.push((None, sentence(&phase.text())));
    }
    if let Some(gate) = &status.gate {
        lines.push((None, format!("Gate of {}", clean(&gate.text()))));
    }
    for account in &status.accounts {
        let line = format!("All loops of account {} wait: {}", clean(&account.name), clean(&account.text));
        lines.push((Some(Tone::Waiting), line));
    }
    for need in status.needs.iter().filter(|need| need.state == "missing") {
        let since = need.since.map(|since| format!(" for {}", span(since, status.at))).unwrap_or_default();
        let why = need.why.as_deref().map(|why| format!(": {}", clean(why))).unwrap_or_default();
        lines.push((Some(Tone::Waiting), format!("Need {} is missing{since}{why}", clean(&need.name))));
    }
    lines
}

fn sentence(text: &str) -> String {
    let text = clean(text);
    let mut chars = text.chars();
    chars.next().map(|first| format!("{}{}", first.to_uppercase(), chars.as_str())).unwrap_or_default()
}

fn table(status: &StatusView, style: Style, out: &mut String) {
    let rows: Vec<[String; 9]> = status.loops.iter().map(|l| cells(l, status.at)).collect();
    let mut widths = HEAD.map(UnicodeWidthStr::width);
    for row in &rows {
        for (index, cell) in row.iter().enumerate() {
            let most = if index == 0 { WIDTH } else { WIDEST };
            widths[index] = widths[index].max(cell.width().min(most));
        }
    }
    let others: usize = widths[1..8].iter().sum::<usize>() + GAP * 8;
    widths[0] = widths[0].min(WIDTH - others - LEAST_WAITS);
    widths[8] = WIDTH - others - widths[0];
    let line = |cells: &[String; 9], paint: &dyn Fn(usize, &str) -> String| {
        let columns =
            cells.iter().enumerate().map(|(index, cell)| paint(index, &pad(&cut(cell, widths[index]), widths[index])));
        let joined = columns.collect::<Vec<_>>().join("  ");
        format!("{}\n", joined.trim_end())
    };
    out.push_str(&line(&HEAD.map(str::to_owned), &|_, cell| style.paint(Tone::Strong, cell)));
    for (row, l) in rows.iter().zip(&status.loops) {
        let tone = tone(l);
        out.push_str(&line(row, &|index, cell| if index == 1 { style.paint(tone, cell) } else { cell.to_owned() }));
    }
    if rows.is_empty() {
        out.push_str("no loops\n");
    }
}

fn tone(l: &LoopView) -> Tone {
    match l.state.as_str() {
        "up" if l.waits_for.is_none() => Tone::Good,
        "down" => Tone::Bad,
        _ => Tone::Waiting,
    }
}

fn cells(l: &LoopView, now: i64) -> [String; 9] {
    let none = || "-".to_owned();
    [
        l.name.to_string(),
        clean(&l.state),
        l.since.map_or_else(none, |since| span(since, now)),
        l.phase.map_or_else(none, |phase| phase.to_string()),
        l.epoch.to_string(),
        l.restarts.to_string(),
        l.memory.map_or_else(none, short_size),
        l.last_sign.map_or_else(none, |at| ago(at, now)),
        l.waits_for.as_deref().map(clean).unwrap_or_default(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::config::AdvanceOn;
    use crate::supervisor::core::gates::{Gate, GateState};
    use crate::supervisor::core::view::{AccountView, GateView, NeedView, PhaseView, STATUS_VERSION};

    const NOW: i64 = 1_774_000_000_000;

    fn a_loop(name: &str, state: &str) -> LoopView {
        LoopView {
            name: name.parse().unwrap(),
            state: state.into(),
            since: Some(NOW - 7_500_000),
            phase: Some(1),
            epoch: 12,
            restarts: 3,
            memory: Some(420 << 20),
            pid: Some(4711),
            server_pid: Some(4700),
            last_sign: Some(NOW - 200_000),
            sign: Some("output".into()),
            turn: Some("busy".into()),
            waits_for: None,
            holds: Vec::new(),
            older_definition: false,
            last_death: None,
        }
    }

    fn status(loops: Vec<LoopView>) -> StatusView {
        StatusView {
            version: STATUS_VERSION,
            at: NOW,
            daemon: DaemonState::Running,
            frozen: None,
            draining_until: None,
            unwritable: None,
            phase: None,
            gate: None,
            accounts: Vec::new(),
            needs: Vec::new(),
            loops,
        }
    }

    #[test]
    fn a_status_looks_like_this() {
        let held = LoopView {
            since: Some(NOW - 61_000),
            phase: None,
            memory: None,
            last_sign: None,
            waits_for: Some("needs proxy: connection refused by 127.0.0.1:1055, as it was before".into()),
            ..a_loop("adversary", "held")
        };
        let mut status = status(vec![a_loop("builder", "up"), held]);
        status.frozen = Some(NOW - 60_000);
        status.draining_until = Some(NOW + 300_000);
        let plan = Some("/srv/plan-2.md".into());
        status.phase = Some(PhaseView { index: Some(1), total: 3, plan, complete: false });
        let state = GateState::Claimed {
            by: "builder".into(),
            commit: Some("abc".into()),
            at: NOW,
            patience: Default::default(),
        };
        status.gate = Some(GateView { gate: Gate { phase: 1, state }, advance_on: AdvanceOn::GatePass });
        let text = "usage limit reached (You've hit your session limit); tried again at 2026-03-20 15:53:00Z".into();
        status.accounts = vec![AccountView { name: "default".into(), text, release_at: NOW }];
        let missing = NeedView { name: "proxy".into(), state: "missing".into(), since: Some(NOW - 61_000), why: None };
        status.needs = vec![missing];
        let want = "\
Frozen since 1m: nothing starts; `supervisor thaw` ends it
Draining, for 5m more: each loop is held at its next safe point
Phase 1 (of 0 to 2): /srv/plan-2.md
Gate of phase 1: claimed by builder at abc
All loops of account default wait: usage limit reached (You've hit your session limit); tried again
  at 2026-03-20 15:53:00Z
Need proxy is missing for 1m 1s

LOOP       STATE  SINCE  PHASE  EPOCH  RESTARTS  MEMORY  LAST SIGN  WAITS FOR
builder    up     2h 5m  1      12     3         420M    3m ago
adversary  held   1m 1s  -      12     3         -       -          needs proxy: connection refused…
";
        assert_eq!(super::text(&status, &[], Style::Plain), want);
    }

    #[test]
    fn nothing_makes_it_wider_than_a_hundred_columns_or_steers_the_terminal() {
        let long = "日本語\x1b[2J\n".repeat(99);
        let worst = LoopView {
            epoch: u64::MAX,
            restarts: u64::MAX,
            phase: Some(usize::MAX),
            memory: Some(u64::MAX),
            since: Some(i64::MIN),
            last_sign: Some(i64::MAX),
            waits_for: Some(long.clone()),
            ..a_loop(&"a".repeat(32), &"starting".repeat(9))
        };
        let mut status = status(vec![worst, a_loop("b", "up")]);
        status.daemon = DaemonState::Down;
        status.unwritable = Some(long.replace('語', " "));
        let text = super::text(&status, &["note ".repeat(99)], Style::Plain);
        for line in text.lines() {
            assert!(line.width() <= WIDTH, "{} columns: {line}", line.width());
        }
        assert!(!text.contains('\x1b'));
        assert!(text.contains("2 agents still run, unwatched"), "{text}");
        assert!(super::text(&status, &[], Style::Coloured).contains("\x1b[31mThe supervisor is not running"));
    }
}

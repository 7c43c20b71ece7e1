//! Random histories on a fake machine: agents die and hang, tmux servers too, the supervisor is killed between any two
//! of its actions, the power goes, the disk is full, the operator and the loops ask for things. After every decision
//! [`super::testing`] checks what must always hold; at the end, with no more faults, every wished loop comes up.

use super::event::{Caller, Event, Leave};
use super::stage::StageKind;
use super::testing::machine::Machine;
use super::testing::place::{Hosts, Mood, Storage};
use super::testing::{acknowledging, everything, name};
use super::world::{DeathCause, Wish};
use crate::supervisor::agents::Signal;
use crate::supervisor::control::protocol::{Request, Which};
use crate::supervisor::names::LoopName;
use proptest::prelude::*;
use std::time::Duration;

const LOOPS: [&str; 3] = ["adversary", "builder", "health"];

fn some_loop() -> impl Strategy<Value = LoopName> {
    prop::sample::select(&LOOPS[..]).prop_map(name)
}

/// Which epoch comes with a signal.
#[derive(Debug, Clone, Copy)]
enum Said {
    Right,
    Old,
    None,
}

#[derive(Debug, Clone)]
enum Step {
    Wait(u64),
    Wake,
    Dies(LoopName, DeathCause),
    Mood(Mood),
    AllMoods(Mood),
    Children(LoopName),
    Signal(LoopName, Said, Signal),
    Output(LoopName),
    Memory(LoopName, u64),
    ServerDies(LoopName),
    ServerHangs(LoopName, bool),
    PaneGone(LoopName),
    PaneDrains(LoopName, u32),
    /// Its session's file tells that the last text was taken within its turn.
    Steered(LoopName),
    PipeCloses(LoopName),
    Hosts(Hosts),
    Need(bool),
    Free(u64),
    Clone(LoopName, bool),
    Storage(Storage),
    Ask(Caller, Request),
    Kill {
        after: usize,
    },
    KillNow {
        down: u64,
    },
    Reboot,
    Shutdown(Leave),
    OtherDefinition(LoopName),
    WallJumps(i64),
}

fn signal() -> impl Strategy<Value = Signal> {
    prop_oneof![
        1 => Just(Signal::Ready),
        1 => Just(Signal::Alive),
        1 => Just(Signal::PromptAccepted),
        3 => Just(Signal::TurnEnded),
        1 => Just(Signal::ToolStarted),
        1 => Just(Signal::ToolEnded),
        1 => Just(Signal::NeedsPerson { what: "a permission".into() }),
        // Relative here; made absolute when it is told.
        2 => prop::option::of(-1000i64..20_000_000)
            .prop_map(|resets_at| Signal::UsageLimit { resets_at, evidence: "429".into() }),
        2 => Just(Signal::LoggedOut { evidence: "401".into() }),
        1 => Just(Signal::Overloaded),
        1 => Just(Signal::ContextFull),
        1 => Just(Signal::Ending),
        1 => Just(Signal::Waiting),
        2 => (-1000i64..20_000_000).prop_map(|resets_at| Signal::WindowFull { resets_at }),
        1 => Just(Signal::Session { uuid: "another".into(), transcript: Some("/t".into()) }),
    ]
}

fn request() -> impl Strategy<Value = Request> {
    let which = prop_oneof![Just(Which::All), some_loop().prop_map(|n| Which::Loops(vec![n]))];
    prop_oneof![
        1 => Just(Request::Status),
        1 => some_loop().prop_map(|name| Request::Explain { name }),
        4 => which.clone().prop_map(|which| Request::Start { which }),
        4 => which.clone().prop_map(|which| Request::Stop { which }),
        3 => which.prop_map(|which| Request::Restart { which }),
        2 => Just(Request::Freeze),
        3 => Just(Request::Thaw),
        2 => (0u64..200_000).prop_map(|timeout_ms| Request::Drain { timeout_ms }),
        2 => some_loop().prop_map(|name| Request::Attach { name }),
        1 => some_loop().prop_map(|name| Request::Nudge { name, text: "hello".into() }),
        1 => Just(Request::PhaseShow),
        2 => (0usize..5).prop_map(|index| Request::PhaseSet { index }),
        1 => Just(Request::PhaseAdvance),
        3 => Just(Request::GateClaim { commit: Some("abc".into()) }),
        2 => Just(Request::GatePass),
        1 => Just(Request::GateFail { reason: None }),
        1 => Just(Request::GateShow),
    ]
}

fn caller() -> impl Strategy<Value = Caller> {
    prop_oneof![
        4 => Just(Caller::Operator { names: None, epoch: None }),
        1 => some_loop().prop_map(|n| Caller::Operator { names: Some(n), epoch: None }),
        2 => some_loop().prop_map(|name| Caller::Inside { name, epoch: None }),
    ]
}

fn mood() -> impl Strategy<Value = Mood> {
    prop_oneof![3 => Just(Mood::Good), 1 => Just(Mood::Silent), 1 => Just(Mood::Stubborn)]
}

fn step() -> impl Strategy<Value = Step> {
    let cause = prop_oneof![
        (0i32..3).prop_map(|status| DeathCause::Exited { status }),
        Just(DeathCause::Killed { signal: 9 }),
        Just(DeathCause::Oom { limit: Some(1 << 30), peak: None }),
    ];
    let said = prop_oneof![4 => Just(Said::Right), 2 => Just(Said::Old), 1 => Just(Said::None)];
    let storage = prop_oneof![Just(Storage::Fine), Just(Storage::Flaky), Just(Storage::Full)];
    let hosts = prop_oneof![2 => Just(Hosts::Fine), 1 => Just(Hosts::Broken), 1 => Just(Hosts::Mute)];
    prop_oneof![
        8 => prop_oneof![0u64..3000, 0u64..60_000, 0u64..900_000, 0u64..7_200_000].prop_map(Step::Wait),
        8 => Just(Step::Wake),
        8 => (some_loop(), cause).prop_map(|(n, c)| Step::Dies(n, c)),
        1 => mood().prop_map(Step::Mood),
        1 => mood().prop_map(Step::AllMoods),
        1 => some_loop().prop_map(Step::Children),
        8 => (some_loop(), said, signal()).prop_map(|(n, said, s)| Step::Signal(n, said, s)),
        1 => some_loop().prop_map(Step::Output),
        1 => (some_loop(), prop_oneof![Just(1u64 << 20), Just(2u64 << 30)]).prop_map(|(n, b)| Step::Memory(n, b)),
        2 => some_loop().prop_map(Step::ServerDies),
        2 => (some_loop(), any::<bool>()).prop_map(|(n, hung)| Step::ServerHangs(n, hung)),
        1 => some_loop().prop_map(Step::PaneGone),
        1 => (some_loop(), 1u32..4).prop_map(|(n, times)| Step::PaneDrains(n, times)),
        1 => some_loop().prop_map(Step::PipeCloses),
        1 => some_loop().prop_map(Step::Steered),
        2 => hosts.prop_map(Step::Hosts),
        2 => any::<bool>().prop_map(Step::Need),
        1 => prop_oneof![Just(1u64 << 20), Just(1u64 << 30)].prop_map(Step::Free),
        1 => (some_loop(), any::<bool>()).prop_map(|(n, b)| Step::Clone(n, b)),
        2 => storage.prop_map(Step::Storage),
        12 => (caller(), request()).prop_map(|(c, r)| Step::Ask(c, r)),
        4 => (0usize..25).prop_map(|after| Step::Kill { after }),
        2 => (0u64..100_000).prop_map(|down| Step::KillNow { down }),
        2 => Just(Step::Reboot),
        1 => prop_oneof![Just(Leave::Sessions), Just(Leave::Nothing)].prop_map(Step::Shutdown),
        1 => some_loop().prop_map(Step::OtherDefinition),
        1 => (-100_000i64..10_000_000).prop_map(Step::WallJumps),
    ]
}

fn apply(m: &mut Machine, step: Step) {
    let at_once = Duration::ZERO;
    match step {
        Step::Wait(ms) => m.run(Duration::from_millis(ms)),
        Step::Wake => m.run_to_wake(),
        Step::Dies(name, cause) => m.place(name.as_str()).agent_dies(cause),
        Step::Mood(mood) => m.outside.mood = mood,
        Step::AllMoods(mood) => {
            for place in m.places.values_mut() {
                if let Some(agent) = place.pane().and_then(|pane| pane.agent.as_mut()) {
                    agent.mood = mood;
                }
            }
        }
        Step::Children(name) => m.place(name.as_str()).children += 1,
        Step::Signal(name, said, signal) => {
            let live = m.world.as_ref().and_then(|w| w.loops[&name].live_epoch());
            let epoch = match said {
                Said::Right => live,
                Said::Old => Some(live.unwrap_or(1).saturating_sub(1)),
                Said::None => None,
            };
            let signal = match signal {
                Signal::UsageLimit { resets_at, evidence } => {
                    Signal::UsageLimit { resets_at: resets_at.map(|ms| m.now.wall + ms), evidence }
                }
                Signal::WindowFull { resets_at } => Signal::WindowFull { resets_at: m.now.wall + resets_at },
                other => other,
            };
            m.feed(Event::Signals { name, epoch, signals: vec![signal] });
        }
        Step::Output(name) => m.place(name.as_str()).output_at = Some(m.now.boot),
        Step::Memory(name, bytes) => m.place(name.as_str()).memory = bytes,
        Step::ServerDies(name) => m.place(name.as_str()).server_dies(),
        Step::ServerHangs(name, hung) => {
            if let Some(server) = &mut m.place(name.as_str()).server {
                server.hung = hung;
            }
        }
        Step::PaneGone(name) => {
            let place = m.place(name.as_str());
            place.agent_dies(DeathCause::Killed { signal: 1 });
            if let Some(server) = &mut place.server {
                server.pane = None;
            }
        }
        Step::Steered(name) => {
            if let Some(text) = m.typed(name.as_str()).last().map(|text| (*text).to_owned()) {
                m.outside.steered.insert(name, (m.now.wall, text));
            }
        }
        Step::PaneDrains(name, times) => {
            if let Some(pane) = m.place(name.as_str()).pane() {
                pane.drains = times;
            }
        }
        Step::PipeCloses(name) => {
            if let Some(pane) = m.place(name.as_str()).pane() {
                pane.piped = false;
                m.feed(Event::PipeClosed { name });
            }
        }
        Step::Hosts(hosts) => m.outside.hosts = hosts,
        Step::Need(true) => m.outside.missing.clear(),
        Step::Need(false) => drop(m.outside.missing.insert("proxy".parse().unwrap())),
        Step::Free(bytes) => m.outside.free = bytes,
        Step::Clone(name, true) => drop(m.outside.unsafe_clones.remove(&name)),
        Step::Clone(name, false) => drop(m.outside.unsafe_clones.insert(name)),
        Step::Storage(storage) => m.outside.storage = storage,
        Step::Ask(caller, request) => drop(m.ask_as(caller, request)),
        Step::Kill { after } => m.kill_after = Some(after),
        Step::KillNow { down } => m.kill_supervisor(Duration::from_millis(down)),
        Step::Reboot => m.reboot(),
        Step::Shutdown(leave) => m.feed(Event::Shutdown(leave)),
        Step::OtherDefinition(name) => m.redefine(&name),
        Step::WallJumps(ms) => m.now.wall += ms,
    }
    m.run(at_once);
}

/// Without more faults, and with every hold of the operator's lifted, every wished loop comes up.
fn comes_up(m: &mut Machine) {
    m.outside.hosts = Hosts::Fine;
    m.outside.storage = Storage::Fine;
    m.outside.missing.clear();
    m.outside.free = 1 << 30;
    m.outside.mood = Mood::Good;
    m.kill_after = None;
    for place in m.places.values_mut() {
        if let Some(server) = &mut place.server {
            server.hung = false;
        }
        if let Some(pane) = place.pane() {
            pane.drains = 0;
        }
    }
    m.run(Duration::from_secs(150));
    m.order(Request::Thaw);
    m.order(Request::PhaseSet { index: 0 });
    m.run(Duration::from_secs(5));
    m.order(Request::Start { which: Which::All });
    let is_up =
        |m: &Machine| m.world.as_ref().is_some_and(|w| w.loops.values().all(|l| l.stage.kind() == StageKind::Up));
    // Two trials of five minutes, a stall ladder, an end after stop_timeout.
    for _ in 0..90 {
        if is_up(m) {
            break;
        }
        m.run(Duration::from_secs(60));
    }
    let world = m.world.as_ref().unwrap();
    for (name, l) in &world.loops {
        assert_eq!(l.record.wish, Wish::Run);
        let held = super::holds::holds(world, name, m.now);
        assert_eq!(l.stage.kind(), StageKind::Up, "{name} stays {:?}, held by {held:?}, {:?}", l.stage, l.host);
    }
}

/// Nothing runs once the operator stopped it all, whatever the supervisor and the machine go through.
fn stays_stopped(m: &mut Machine) {
    m.ask(Request::Stop { which: Which::All });
    m.run(Duration::from_secs(60));
    m.kill_supervisor(Duration::from_secs(1));
    m.run(Duration::from_secs(600));
    let agents: usize = m.places.values().map(|place| place.agents().len()).sum();
    assert_eq!(agents, 0, "agents run although everything is stopped");
    m.reboot();
    m.run(Duration::from_secs(600));
    let agents: usize = m.places.values().map(|place| place.agents().len()).sum();
    assert_eq!(agents, 0, "a reboot undid the stop");
}

proptest! {
    // Enough to meet what a change breaks; PROPTEST_CASES asks for more.
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 4000, ..ProptestConfig::default() })]
    #[test]
    fn whatever_happens_the_promises_hold(
        seed: u64,
        latency in prop_oneof![Just(0u64), Just(50), Just(3000)],
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut machine = Machine::new(acknowledging(everything(), "builder"), seed, latency);
        for step in steps {
            apply(&mut machine, step);
        }
        comes_up(&mut machine);
        stays_stopped(&mut machine);
    }
}

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(150)
}

//! What the core's tests share: a config, an agent that talks, and a machine with a virtual clock ([`machine`]) on
//! which every decision is checked ([`checks`]).

mod asking;
mod carry;
mod checks;
pub mod machine;
pub mod place;

use crate::supervisor::agents::{Adapter, Capabilities, Evidence, Launch, LaunchRequest, Signal, by_name};
use crate::supervisor::config::{
    AdvanceOn, Config, CrashLoop, HostKind, LoopConfig, NeedConfig, OnChange, OnIdle, OnPhase, PhasesConfig, Role,
};
use crate::supervisor::names::LoopName;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// An agent whose sessions can be resumed.
pub struct Talker;

impl Adapter for Talker {
    fn name(&self) -> &'static str {
        "talker"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { resumes: true, own_program: true, takes_prompt: true, ..Capabilities::default() }
    }

    fn launch(&self, _: &LaunchRequest) -> Launch {
        Launch::default()
    }

    fn read_event(&self, event: &serde_json::Value, now: i64) -> Vec<Signal> {
        by_name("command").unwrap().read_event(event, now)
    }
}

/// A loop's name.
pub fn name(text: &str) -> LoopName {
    text.parse().unwrap()
}

pub const MINUTE: Duration = Duration::from_secs(60);
pub const HOUR: Duration = Duration::from_secs(3600);
pub const GIB: u64 = 1 << 30;

/// A loop that talks, of the account `default`, which nothing but its deaths ever holds.
pub fn talker() -> LoopConfig {
    LoopConfig {
        adapter: &Talker,
        capabilities: Talker.capabilities(),
        command: Vec::new(),
        args: Vec::new(),
        workdir: PathBuf::from("/ws"),
        kickoff: None,
        handoff: None,
        env_files: Vec::new(),
        needs: Vec::new(),
        account: "default".parse().unwrap(),
        role: None,
        follows_phases: true,
        on_phase: OnPhase::Nudge,
        stall_after: Some(30 * MINUTE),
        stable_after: 10 * MINUTE,
        attention_after: 5 * MINUTE,
        crash_loop: CrashLoop { deaths: 5, within: 15 * MINUTE },
        stop_timeout: Duration::from_secs(10),
        restart_above: None,
        on_change: OnChange::NextStart,
        on_idle: None,
        hash: "v1".to_owned(),
    }
}

/// A program that tells nothing of itself.
pub fn program() -> LoopConfig {
    let adapter = by_name("command").unwrap();
    LoopConfig {
        adapter,
        capabilities: adapter.capabilities(),
        command: vec!["./watch.sh".to_owned()],
        account: "none".parse().unwrap(),
        follows_phases: false,
        stall_after: None,
        ..talker()
    }
}

/// No loops, three plans, no stagger, no limit of memory.
pub fn empty() -> Config {
    Config {
        file: PathBuf::from("/etc/supervisor.toml"),
        workspace: PathBuf::from("/ws"),
        state_dir: PathBuf::from("/state"),
        runtime_dir: PathBuf::from("/run/s"),
        host: HostKind::Direct,
        notify: Vec::new(),
        min_free_memory: 0,
        start_stagger: Duration::ZERO,
        phases: Some(PhasesConfig {
            index_file: PathBuf::from("/ws/.phase-idx"),
            plans: ["one.md", "two.md", "three.md"].map(|p| PathBuf::from("/ws").join(p)).to_vec(),
            advance_on: AdvanceOn::GatePass,
            gate_patience: HOUR,
        }),
        loops: BTreeMap::new(),
        needs: BTreeMap::new(),
    }
}

/// The pair that the project is for: a builder that claims and an adversary that verifies.
pub fn pair() -> Config {
    let builder = LoopConfig { role: Some(Role::Claims), ..talker() };
    let adversary = LoopConfig { role: Some(Role::Verifies), ..talker() };
    Config {
        loops: BTreeMap::from([(name("adversary"), adversary.into()), (name("builder"), builder.into())]),
        ..empty()
    }
}

/// One loop, `builder`.
pub fn single(config: LoopConfig) -> Config {
    Config { loops: BTreeMap::from([(name("builder"), config.into())]), ..empty() }
}

/// The same loop, of a kind that says when it is up and acknowledges what reaches it, with a file for its session.
pub fn acknowledging(mut config: Config, text: &str) -> Config {
    if let Some(l) = config.loops.get_mut(&name(text)).map(Arc::make_mut) {
        l.capabilities.says_ready = true;
        l.capabilities.acknowledges = true;
        l.capabilities.evidence = Evidence::Records;
        l.kickoff = Some(PathBuf::from("/ws/kickoff.md"));
    }
    config
}

/// Everything at once: needs, memory, stagger, both roles, a program, every policy that ends agents by itself.
pub fn everything() -> Config {
    let mut config = pair();
    config.min_free_memory = 300 << 20;
    config.start_stagger = Duration::from_secs(5);
    config.needs.insert("proxy".parse().unwrap(), NeedConfig::Tcp("127.0.0.1:1055".to_owned()));
    config.needs.insert("secrets".parse().unwrap(), NeedConfig::Unit("cc-ci-secrets.service".to_owned()));
    if let Some(builder) = config.loops.get_mut(&name("builder")).map(Arc::make_mut) {
        builder.needs = vec!["proxy".parse().unwrap(), "secrets".parse().unwrap()];
        builder.restart_above = Some(GIB);
        builder.on_idle = Some(OnIdle { nudge: "go on".to_owned(), after: 2 * MINUTE });
    }
    if let Some(adversary) = config.loops.get_mut(&name("adversary")).map(Arc::make_mut) {
        adversary.on_phase = OnPhase::Restart;
        adversary.on_change = OnChange::TurnEnd;
        adversary.needs = vec!["proxy".parse().unwrap()];
    }
    config.loops.insert(name("health"), program().into());
    config
}

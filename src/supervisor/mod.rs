//! The supervisor: keeps every loop's agent running, or says why it is not.

pub mod agents;
pub mod cgroup;
pub mod cli;
pub mod config;
pub mod control;
pub mod core;
pub mod daemon;
pub mod env_file;
pub mod environment;
pub mod journal;
pub mod launch;
pub mod leftovers;
pub mod names;
pub mod needs;
pub mod own_link;
pub mod pane_log;
pub mod phase_file;
pub mod records;
pub mod seeds;
pub mod session;
pub mod session_watch;
pub mod store;
pub mod tmux;

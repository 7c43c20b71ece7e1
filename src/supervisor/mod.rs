//! The supervisor: keeps every loop's agent running, or says why it is not.

pub mod agents;
pub mod config;
pub mod control;
pub mod core;
pub mod journal;
pub mod names;
pub mod phase_file;
pub mod store;

//! Keeps autonomous coding agents running through reboots, power cuts, upgrades, OOM kills and lost networks.
//!
//! Modules that decide (no file, process, thread, environment or clock is touched in them):
//! [`supervisor::core`], [`supervisor::agents`], and of [`supervisor::config`] all that takes a text: what looks at the
//! machine is in its `read_file`, `find`, `check` and `programs`; [`secrets::format`], and of [`secrets::manifest`] what
//! takes a text. Of [`proxy`] the list is in its own page.
//!
//! Modules that act: [`support`] (durable files, process identity, clock), [`supervisor::daemon`] (carries out what
//! the core decides, and nothing else), [`supervisor::cli`], and of [`proxy`] all that carries bytes or runs programs.

pub mod proxy;
pub mod secrets;
pub mod supervisor;
pub mod support;

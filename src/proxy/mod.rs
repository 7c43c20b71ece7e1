//! The proxy shim: one loopback port that is always there, in front of the way out that is not.
//!
//! Modules that decide and touch nothing: [`target`], [`socks`], [`http`], [`handshake`], [`client`], [`allow`],
//! [`tailscale`], [`network`], and of [`config`] all that takes a text. `serve` is what `proxy-shim run` does, with an
//! async runtime of one thread; `connect`, `check` and `status` are plain blocking code.

pub mod allow;
pub mod cli;
pub mod client;
pub mod config;
mod connect;
pub mod control;
mod guard;
pub mod handshake;
pub mod http;
pub mod network;
mod probe;
pub mod relay;
mod serve;
pub mod socks;
pub mod state;
pub mod tailscale;
pub mod target;
pub mod upstream;

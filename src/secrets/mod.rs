//! The secrets placer: decrypted secrets at the places that programs want, whoever owns these.
//!
//! Deciding modules: [`mod@format`], [`sops`], and of [`manifest`] all that takes a text. [`worker`] alone touches targets,
//! as their owner.

pub mod bootstrap;
pub mod cli;
pub mod content;
pub mod format;
pub mod manifest;
pub mod place;
pub mod prune;
pub mod record;
pub mod services;
pub mod sops;
pub mod source;
pub mod status;
pub mod survey;
pub mod worker;

/// What a target's file name may have, in bytes, so that there is room for what its temporary file's name has more.
pub const LONGEST_NAME: usize = 240;

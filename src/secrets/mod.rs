//! The secrets placer: decrypted secrets at the places that programs want, whoever owns these.
//!
//! Deciding modules: [`format`], and of [`manifest`] all that takes a text.

pub mod content;
pub mod format;
pub mod manifest;

/// What a target's file name may have, in bytes, so that there is room for what its temporary file's name has more.
pub const LONGEST_NAME: usize = 240;

//! The control socket: what is said over it, who may say it, and both ends.

pub mod protocol;

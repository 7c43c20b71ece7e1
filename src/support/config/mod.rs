//! Configs in TOML, for every program of this package: read strictly, all faults told at once with their places. Knows
//! no key of any program.

pub mod keys;
pub mod parse;
pub mod report;
pub mod text;
pub mod walk;

//! What every binary of this package needs from the operating system.

pub mod child;
pub mod clock;
pub mod config;
pub mod durable;
pub mod notify;
pub mod outlet;
pub mod private_file;
pub mod process;
pub mod units;

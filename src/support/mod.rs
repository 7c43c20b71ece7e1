//! What every binary of this package needs from the operating system.

pub mod clock;
pub mod durable;

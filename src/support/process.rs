//! stub until the host branch lands
use serde::{Deserialize, Serialize};
/// p
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, PartialOrd, Ord, Hash)]
pub struct ProcId {
    /// p
    pub pid: i32,
    /// s
    pub start: u64,
}
/// b
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootId(pub String);

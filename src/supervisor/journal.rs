//! stub until the durable branch lands
use crate::supervisor::names::LoopName;
use crate::support::clock::Now;
/// e
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// a
    pub at: Now,
    /// a
    pub loop_name: Option<LoopName>,
    /// a
    pub epoch: Option<u64>,
    /// a
    pub decision: String,
    /// a
    pub why: String,
    /// a
    pub evidence: serde_json::Value,
    /// a
    pub next: Option<String>,
}

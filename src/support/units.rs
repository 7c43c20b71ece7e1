//! stub until config branch lands
use std::time::Duration;
/// d
pub fn format_duration(d: Duration) -> String {
    humantime::format_duration(d).to_string()
}
/// s
pub fn format_size(b: u64) -> String {
    format!("{}M", b >> 20)
}

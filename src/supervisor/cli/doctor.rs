//! x
use super::context::Context;
/// x
pub fn run(_context: &Context) -> anyhow::Result<()> {
    Ok(())
}

//! The hash of a loop's definition: tells whether a running agent was started from what the config says now.

use super::LoopConfig;
use serde_json::json;
use sha2::{Digest, Sha256};
use std::path::Path;

/// SHA-256, in hex, of everything that makes a running agent differ. Policy (when to restart, what to wait for, what to
/// say when idle) acts from outside and is not in it, so changing it never restarts an agent. Neither is what the
/// prompt and env files hold: only a fresh start reads those, and an edited prompt must not restart a loop.
///
/// The workspace is in it because `{workspace}` may be in the argv.
pub fn definition(workspace: &Path, l: &LoopConfig) -> String {
    // A list in JSON is canonical and cannot be read two ways. The first element changes when the list's meaning does.
    let canonical = json!([
        "loop-definition-1",
        l.adapter.name(),
        l.command,
        l.args,
        workspace.to_string_lossy(),
        l.workdir.to_string_lossy(),
        l.kickoff.as_ref().map(|p| p.to_string_lossy()),
        l.handoff.as_ref().map(|p| p.to_string_lossy()),
        l.env_files.iter().map(|p| p.to_string_lossy()).collect::<Vec<_>>(),
        l.account.as_str(),
    ]);
    Sha256::digest(canonical.to_string()).iter().map(|byte| format!("{byte:02x}")).collect()
}

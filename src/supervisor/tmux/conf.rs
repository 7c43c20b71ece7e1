//! The tmux.conf of a session host.

use super::{PANE, pipe_command, quote};
use crate::supervisor::names::LoopName;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The one key that does something in a session: it detaches. Ctrl-B, tmux's own, is a key that agents use.
pub const DETACH_KEY: &str = "C-]";

/// The whole file. Bytes, since a path need not be UTF-8.
pub fn conf(name: &LoopName, log: &Path) -> Vec<u8> {
    let mut out = format!(
        "\
# Written by `supervisor session {name}` at each start; changes are lost.
# The server outlives its agents: it holds the screen, the log and the attached operators.
set -s exit-empty off
set -g remain-on-exit on
set -g destroy-unattached off
# The size while nobody is attached.
set -g default-size 200x50
set -g default-terminal tmux-256color
set -g default-shell /bin/sh
# 2000 lines of 200 columns are at most some 3 MB; the whole output is in the log.
set -g history-limit 2000
set -g status off
set -g mouse off
set -g set-titles off
set -g allow-rename off
set -g automatic-rename off
set -s set-clipboard off
# Agents use Escape and the focus; a delay would make Escape part of the next key.
set -s escape-time 0
set -s focus-events on
# An operator who attaches brings no variable in.
set -g update-environment ''
# No key makes, kills, splits or opens anything: one detaches, all others reach the agent.
set -g prefix None
set -g prefix2 None
unbind-key -a -T root
unbind-key -a -T prefix
unbind-key -a -T copy-mode
unbind-key -a -T copy-mode-vi
bind-key -T root {DETACH_KEY} detach-client
"
    )
    .into_bytes();
    // Empty lines first: tmux scrolls the first line out of sight when it draws "Pane is dead".
    let placeholder = format!(
        "echo; echo; echo '{name}: no agent runs here yet; `supervisor explain {name}` says what it waits for'"
    );
    out.extend(format!("new-session -d -s {name} -n agent -x 200 -y 50 -c / ").into_bytes());
    out.extend(quote::config(placeholder.as_bytes()));
    out.extend(format!("\npipe-pane -t {PANE} ").into_bytes());
    out.extend(quote::config(pipe_command(name, log).as_bytes()));
    out.push(b'\n');
    out
}

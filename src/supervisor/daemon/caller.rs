//! Who is at the other end of a control connection: a process inside a loop's session, or somebody else.

use super::Daemon;
use crate::supervisor::control::protocol::Call;
use crate::supervisor::core::event::Caller;
use crate::support::process::tree;

impl Daemon {
    /// Found by the caller's pid, which it cannot choose, and that wins over what it says. By the unit's cgroup, and
    /// without one by descent from a loop's tmux server, which double-forked children keep: the server is their subreaper.
    pub(super) fn caller(&self, pid: i32, call: &Call) -> Caller {
        let Call { from, epoch, .. } = call;
        if let Some(name) = self.unit_with(pid) {
            return Caller::Inside { name: name.clone(), epoch: *epoch };
        }
        for (name, (server, _)) in &self.servers {
            // A caller that is gone already has no parents to look at; what it says of itself must do then.
            if tree::is_descendant(pid, server.pid).unwrap_or(false) {
                return Caller::Inside { name: name.clone(), epoch: *epoch };
            }
        }
        match from {
            // It says that it is inside and is gone: it gets the lesser rights of that.
            Some(name) if !alive(pid) => Caller::Inside { name: name.clone(), epoch: *epoch },
            _ => Caller::Operator { names: from.clone(), epoch: *epoch },
        }
    }
}

fn alive(pid: i32) -> bool {
    crate::support::process::ProcId::of(pid).is_ok_and(|id| id.is_some())
}

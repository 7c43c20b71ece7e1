//! How much memory processes use together.

use super::{ProcId, about, is_gone, read_unless_gone};
use procfs::FromRead;
use std::io;

/// What the number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// Proportional set size of all: a page shared by n processes counts a n-th for each.
    Pss,
    /// Resident set size of at least one: pages shared between them count more than once.
    Rss,
}

/// Memory in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// In bytes; swapped-out pages are not in it.
    pub bytes: u64,
    /// What the number counts.
    pub counted: Counted,
}

/// The memory of these processes; those that ended count nothing. PSS costs the kernel a walk of each page table
/// (milliseconds for a big process): for samples, not for the restart path.
///
/// # Errors
/// When a living process's `statm` cannot be read.
pub fn memory(processes: &[ProcId]) -> io::Result<Memory> {
    let mut sum = Memory { bytes: 0, counted: Counted::Pss };
    for id in processes {
        if !id.is_alive()? {
            continue;
        }
        if let Some(bytes) = pss(*id)? {
            sum.bytes += bytes;
        } else {
            sum.bytes += rss(*id)?;
            sum.counted = Counted::Rss;
        }
    }
    Ok(sum)
}

/// `None` when the kernel does not let us see it (another user's process, hardened kernel, old kernel).
fn pss(id: ProcId) -> io::Result<Option<u64>> {
    let path = format!("/proc/{}/smaps_rollup", id.pid);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if is_gone(&e) || e.kind() == io::ErrorKind::PermissionDenied => return Ok(None),
        Err(e) => return Err(about(&path, &e)),
    };
    Ok(text.lines().find_map(|l| l.strip_prefix("Pss:")).and_then(kilobytes))
}

fn kilobytes(field: &str) -> Option<u64> {
    field.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kb| kb * 1024)
}

fn rss(id: ProcId) -> io::Result<u64> {
    let path = format!("/proc/{}/statm", id.pid);
    let Some(bytes) = read_unless_gone(&path)? else { return Ok(0) };
    let statm = procfs::process::StatM::from_read(bytes.as_slice())
        .map_err(|e| about(&path, &io::Error::new(io::ErrorKind::InvalidData, e.to_string())))?;
    Ok(statm.resident * rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::super::own_pid;
    use super::*;

    #[test]
    fn own_memory_is_counted_as_pss_and_is_not_more_than_rss() {
        let me = ProcId::of(own_pid()).unwrap().unwrap();
        let used = memory(&[me]).unwrap();
        assert_eq!(used.counted, Counted::Pss);
        assert!(used.bytes > 100_000 && used.bytes <= rss(me).unwrap() + 1_000_000, "{used:?}");
    }

    #[test]
    fn a_process_that_ended_counts_nothing() {
        let gone = ProcId { pid: own_pid(), start: 1 };
        assert_eq!(memory(&[gone]).unwrap(), Memory { bytes: 0, counted: Counted::Pss });
    }

    #[test]
    fn a_line_of_smaps_rollup_is_read_in_kilobytes() {
        assert_eq!(kilobytes("               2048 kB"), Some(2048 * 1024));
        assert_eq!(kilobytes("  2048"), None);
    }
}

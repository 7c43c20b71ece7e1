//! How much memory processes use together.

use super::{ProcId, about, read_unless_gone};
use procfs::FromRead;
use std::io;

/// What the number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// No page twice: the resident set size of one process, or the proportional set sizes of several (a page that n
    /// processes share counts an n-th for each).
    Once,
    /// Pages that several of them share count more than once: the resident set size of at least one of several.
    Shared,
}

/// Memory in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// In bytes; swapped-out pages are not in it.
    pub bytes: u64,
    /// What the number counts.
    pub counted: Counted,
}

/// The memory of these processes; those that ended count nothing. A PSS costs the kernel a walk of the page table
/// (milliseconds for a big process), so a process that is alone is not asked for it: for samples, not for the restart path.
///
/// # Errors
/// When a living process's `statm` cannot be read.
pub fn memory(processes: &[ProcId]) -> io::Result<Memory> {
    let mut sum = Memory { bytes: 0, counted: Counted::Once };
    for id in processes {
        if !id.is_alive()? {
            continue;
        }
        let alone = processes.len() == 1;
        if let Some(bytes) = if alone { None } else { pss(*id)? } {
            sum.bytes += bytes;
            continue;
        }
        sum.bytes += rss(*id)?;
        if !alone {
            sum.counted = Counted::Shared;
        }
    }
    Ok(sum)
}

/// `None` when the kernel does not let us see it (another user's process, hardened kernel, old kernel).
fn pss(id: ProcId) -> io::Result<Option<u64>> {
    let path = format!("/proc/{}/smaps_rollup", id.pid);
    let read = match read_unless_gone(&path) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => None,
        read => read?,
    };
    let Some(bytes) = read else { return Ok(None) };
    Ok(String::from_utf8_lossy(&bytes).lines().find_map(|l| l.strip_prefix("Pss:")).and_then(kilobytes))
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
    fn several_processes_count_the_pages_that_they_share_once() {
        let me = ProcId::of(own_pid()).unwrap().unwrap();
        // What it shares with other processes of this program changes when one of them comes or goes between two looks.
        let mut looks = (0..100).map(|_| {
            let used = memory(&[me, me]).unwrap();
            assert_eq!(used.counted, Counted::Once);
            used.bytes.abs_diff(2 * pss(me).unwrap().unwrap())
        });
        assert!(looks.any(|bytes| bytes < 500_000), "the sums differ each time");
    }

    #[test]
    fn a_process_alone_counts_all_that_it_has() {
        let me = ProcId::of(own_pid()).unwrap().unwrap();
        let used = memory(&[me]).unwrap();
        assert_eq!(used.counted, Counted::Once);
        // The C library alone, which other processes share, is more than this.
        assert!(used.bytes.abs_diff(rss(me).unwrap()) < 500_000 && used.bytes > 100_000, "{used:?}");
    }

    #[test]
    fn a_process_that_ended_counts_nothing() {
        let gone = ProcId { pid: own_pid(), start: 1 };
        assert_eq!(memory(&[gone]).unwrap(), Memory { bytes: 0, counted: Counted::Once });
    }

    #[test]
    fn a_line_of_smaps_rollup_is_read_in_kilobytes() {
        assert_eq!(kilobytes("               2048 kB"), Some(2048 * 1024));
        assert_eq!(kilobytes("  2048"), None);
    }
}

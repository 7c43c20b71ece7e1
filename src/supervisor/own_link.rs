//! The name by which agents' hooks call this program: a link in the runtime folder, which each supervisor points to
//! itself as it begins. What is started at once (session hosts, agents, probes) goes by the program's own file.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// The link. An agent outlives the supervisor that started it, and after an upgrade that one's file may be gone: on NixOS
/// it is in a folder of its own, which a garbage collection takes while nothing but a hook's text names it.
pub fn path(runtime_dir: &Path) -> PathBuf {
    runtime_dir.join("supervisor")
}

/// Points it to `program`; at no moment is it missing.
///
/// # Errors
/// When something else has that name, or the folder is missing or cannot be written to.
pub fn point(runtime_dir: &Path, program: &Path) -> io::Result<()> {
    let link = path(runtime_dir);
    let within = |e: io::Error| io::Error::new(e.kind(), format!("make the link `{}`: {e}", link.display()));
    match fs::symlink_metadata(&link) {
        Ok(kind) if kind.is_symlink() => {}
        Ok(_) => {
            let cause = "something that is no link has this name; move it away";
            return Err(within(io::Error::new(ErrorKind::AlreadyExists, cause)));
        }
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        Err(e) => return Err(within(e)),
    }
    // The caller holds the lock of the state: one that is there is what a supervisor left that died just here.
    let new = runtime_dir.join(".supervisor.new");
    match fs::remove_file(&new) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(within(e)),
        _ => {}
    }
    symlink(program, &new).map_err(within)?;
    fs::rename(&new, &link).map_err(within)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_link_leads_to_the_last_program_also_after_one_that_died_on_the_way() {
        let dir = tempfile::tempdir().unwrap();
        point(dir.path(), Path::new("/old/supervisor")).unwrap();
        symlink("/nowhere", dir.path().join(".supervisor.new")).unwrap();
        point(dir.path(), Path::new("/new/supervisor")).unwrap();
        assert_eq!(fs::read_link(path(dir.path())).unwrap(), Path::new("/new/supervisor"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_of_somebody_elses_with_that_name_stays() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(path(dir.path()), "mine").unwrap();
        let error = point(dir.path(), Path::new("/new/supervisor")).unwrap_err();
        assert!(error.to_string().ends_with("something that is no link has this name; move it away"), "{error}");
        assert_eq!(fs::read_to_string(path(dir.path())).unwrap(), "mine");
    }
}

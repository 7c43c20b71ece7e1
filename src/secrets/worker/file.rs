//! A target's file: how it is, written beside, put in place, removed. Everything by descriptor of its folder.

use super::folder::{Folder, Folders, Id, Missing, STRICT, kind, said, sync};
use super::{Difference, Refusal, Removed, Stamp, State, Sync, Target};
use crate::secrets::content::{Content, LARGEST};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, fstat, openat2, renameat, unlinkat};
use rustix::io::Errno;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// What the temporary file's name has more than `.` and the target's; see [`super::super::LONGEST_NAME`].
const SUFFIX: &str = ".cc-ci-tmp";

/// A content that is written beside its target.
#[derive(Debug)]
pub(super) struct Staged {
    target: Target,
    folder: Id,
    pub(super) device: u64,
    pub(super) stamp: Stamp,
}

/// The folder of a path and the name in it.
fn split(path: &Path) -> Result<(&Path, &str), Refusal> {
    match (path.parent(), path.file_name().and_then(|name| name.to_str())) {
        (Some(folder), Some(name)) => Ok((folder, name)),
        _ => Err(Refusal::new(format!("placing `{}`: it is no path of a file; write one", path.display()))),
    }
}

/// One name for each target, so that what a cut-off run left is found by the next.
fn temporary(name: &str) -> String {
    format!(".{name}{SUFFIX}")
}

/// What has that name, if it is nothing or a plain file with this one name.
fn look(folder: &Folder, name: &str) -> Result<Option<Stat>, Refusal> {
    let path = folder.path.join(name);
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let stat = match openat2(&folder.fd, name, flags, Mode::empty(), STRICT).and_then(fstat) {
        Err(Errno::NOENT) => return Ok(None),
        other => {
            other.map_err(|e| Refusal::new(format!("looking at `{}`: {}; look at it", path.display(), said(e))))?
        }
    };
    in_the_way(&path, &stat)?;
    Ok(Some(stat))
}

fn in_the_way(path: &Path, stat: &Stat) -> Result<(), Refusal> {
    let shown = path.display();
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        let text = format!("looking at `{shown}`: it is {}, not a file; move it away", kind(stat));
        return Err(Refusal::new(text));
    }
    if stat.st_nlink > 1 {
        let names = stat.st_nlink;
        let text = format!("looking at `{shown}`: the file has {names} names (hard links); remove it or the others");
        return Err(Refusal::new(text));
    }
    Ok(())
}

pub(super) fn inspect(folders: &mut Folders, target: &Target, content: &Content) -> Result<State, Refusal> {
    let (path, name) = split(&target.path)?;
    let Some(folder) = folders.find(path, target.uid, Missing::Leave)? else { return Ok(State::Missing) };
    let leftover = look(folder, &temporary(name))?.is_some();
    let Some(stat) = look(folder, name)? else { return Ok(State::Missing) };
    let mut found = Vec::new();
    if stat.st_uid != target.uid {
        found.push(Difference::Owner(stat.st_uid));
    }
    if stat.st_gid != target.gid {
        found.push(Difference::Group(stat.st_gid));
    }
    if stat.st_mode & 0o7777 != target.mode {
        found.push(Difference::Mode(stat.st_mode & 0o7777));
    }
    match current(folder, name)? {
        None => found.push(Difference::Unreadable),
        Some(current) if current != Some(content.clone()) => found.push(Difference::Content),
        Some(_) => {}
    }
    if leftover {
        found.push(Difference::Leftover);
    }
    Ok(if found.is_empty() { State::Same } else { State::Differs(found) })
}

/// The content that is there now: `None` when it may not be read, `Some(None)` when it is larger than any secret.
fn current(folder: &Folder, name: &str) -> Result<Option<Option<Content>>, Refusal> {
    let path = folder.path.join(name);
    // It was a plain file a moment ago. Should it be a FIFO by now, opening it must not wait.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let failed = |cause: String| Refusal::new(format!("reading `{}`: {cause}; look at it", path.display()));
    let fd = match openat2(&folder.fd, name, flags, Mode::empty(), STRICT) {
        Err(Errno::ACCESS) => return Ok(None),
        other => other.map_err(|e| failed(said(e)))?,
    };
    let stat = fstat(&fd).map_err(|e| failed(said(e)))?;
    in_the_way(&path, &stat)?;
    let about = u64::try_from(stat.st_size).unwrap_or(0);
    Ok(Some(Content::read(&mut File::from(fd), about, LARGEST).map_err(|e| failed(e.to_string()))?))
}

pub(super) fn stage(
    folders: &mut Folders,
    target: &Target,
    content: &Content,
    when: Sync,
) -> Result<(Staged, File), Refusal> {
    let (path, name) = split(&target.path)?;
    let user = folders.user.clone();
    let Some(folder) = folders.find(path, target.uid, Missing::Create)? else {
        return Err(Refusal::new(format!("creating the folder `{}`: it is gone again; try again", path.display())));
    };
    look(folder, name)?;
    let temp = temporary(name);
    let shown = path.join(&temp);
    let shown = shown.display();
    let failed = |e: Errno| {
        let remedy = match e {
            Errno::NOSPC | Errno::DQUOT => "free space there",
            Errno::ROFS => "mount it writable, or let the unit write there (ReadWritePaths=)",
            Errno::ACCESS | Errno::PERM => "let that user write into the folder, or choose another path",
            Errno::EXIST => "somebody changes that folder meanwhile; end that, and try again",
            _ => "check that disk (`dmesg`), then try again",
        };
        Refusal::new(format!("writing `{shown}` as `{user}`: {}; {remedy}", said(e)))
    };
    if let Some(stat) = look(folder, &temp)? {
        if stat.st_uid != target.uid {
            let text = format!("looking at `{shown}`: it belongs to the user {}; move it away", stat.st_uid);
            return Err(Refusal::new(text));
        }
        unlinkat(&folder.fd, &temp, AtFlags::empty()).map_err(failed)?;
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = openat2(&folder.fd, temp.as_str(), flags, Mode::RUSR | Mode::WUSR, STRICT).map_err(failed)?;
    let mut file = File::from(fd);
    let filled = fill(&mut file, target, content, when).and_then(|()| fstat(&file));
    let stat = match filled {
        Ok(stat) => stat,
        Err(e) => {
            // A second failure adds nothing; the next run finds the file by its name.
            let _ = unlinkat(&folder.fd, &temp, AtFlags::empty());
            return Err(failed(e));
        }
    };
    if (stat.st_uid, stat.st_gid, stat.st_mode & 0o7777) != (target.uid, target.gid, target.mode) {
        // As above.
        let _ = unlinkat(&folder.fd, &temp, AtFlags::empty());
        return Err(Refusal::new(format!(
            "writing `{shown}` as `{user}`: the file system does not keep owner, group and mode; choose another path"
        )));
    }
    let staged = Staged { target: target.clone(), folder: folder.id, device: stat.st_dev, stamp: Stamp::of(&stat) };
    Ok((staged, file))
}

fn fill(file: &mut File, target: &Target, content: &Content, when: Sync) -> rustix::io::Result<()> {
    let lost = |e: std::io::Error| Errno::from_io_error(&e).unwrap_or(Errno::IO);
    file.write_all(content.bytes()).map_err(lost)?;
    // It is created with the owner's group, or with that of a folder with setgid.
    if fstat(&*file)?.st_gid != target.gid {
        rustix::fs::fchown(&*file, None, Some(rustix::fs::Gid::from_raw(target.gid)))?;
    }
    rustix::fs::fchmod(&*file, Mode::from_raw_mode(target.mode))?;
    match when {
        Sync::Each => rustix::fs::fsync(&*file),
        Sync::Together => Ok(()),
    }
}

/// Renames all, folder by folder, and syncs each folder once.
pub(super) fn commit(folders: &mut Folders, staged: Vec<Staged>) -> Vec<(PathBuf, String)> {
    let mut failed = Vec::new();
    let mut folder_of: Vec<(PathBuf, Vec<Staged>)> = Vec::new();
    for one in staged {
        let path = one.target.path.parent().unwrap_or(Path::new("/")).to_owned();
        match folder_of.last_mut().filter(|(last, _)| *last == path) {
            Some((_, all)) => all.push(one),
            None => folder_of.push((path, vec![one])),
        }
    }
    for (path, all) in folder_of {
        let mut done = Vec::new();
        for one in all {
            match rename(folders, &path, &one) {
                Ok(()) => done.push(one),
                Err(refusal) => {
                    discard(folders, &one);
                    failed.push((one.target.path, refusal.0));
                }
            }
        }
        if let Some(first) = done.first()
            && let Err(refusal) = settle(folders, &path, first)
        {
            failed.extend(done.into_iter().map(|one| (one.target.path, refusal.0.clone())));
        }
    }
    failed
}

fn swapped(path: &Path) -> Refusal {
    let text = "somebody swapped the folder meanwhile; end that, and try again";
    Refusal::new(format!("going through `{}`: {text}", path.display()))
}

fn rename(folders: &mut Folders, path: &Path, one: &Staged) -> Result<(), Refusal> {
    let (_, name) = split(&one.target.path)?;
    let folder = folders.find(path, one.target.uid, Missing::Leave)?.ok_or_else(|| swapped(path))?;
    if folder.id != one.folder {
        return Err(swapped(path));
    }
    let temp = temporary(name);
    look(folder, name)?;
    if look(folder, &temp)?.is_none_or(|stat| Stamp::of(&stat) != one.stamp) {
        let text = "somebody took it away meanwhile; end that, and try again";
        return Err(Refusal::new(format!("looking at `{}`: {text}", path.join(temp).display())));
    }
    renameat(&folder.fd, &temp, &folder.fd, name).map_err(|e| {
        let text = format!("putting `{}` in place: {}; look at that folder", one.target.path.display(), said(e));
        Refusal::new(text)
    })?;
    if look(folder, name)?.is_none_or(|stat| Stamp::of(&stat) != one.stamp) {
        let text = "somebody put something else there meanwhile; end that, and try again";
        return Err(Refusal::new(format!("looking at `{}`: {text}", one.target.path.display())));
    }
    Ok(())
}

/// The folder's names are on disk, and it still is where the path leads.
fn settle(folders: &mut Folders, path: &Path, one: &Staged) -> Result<(), Refusal> {
    let folder = folders.find(path, one.target.uid, Missing::Leave)?.ok_or_else(|| swapped(path))?;
    sync(&folder.fd, path)?;
    let anew = folders.find_anew(path, one.target.uid, Missing::Leave)?;
    if anew.is_none_or(|folder| folder.id != one.folder) { Err(swapped(path)) } else { Ok(()) }
}

/// Removes a staged file that will not be put in place.
pub(super) fn discard(folders: &mut Folders, one: &Staged) {
    let Ok((path, name)) = split(&one.target.path) else { return };
    let temp = temporary(name);
    if let Ok(Some(folder)) = folders.find(path, one.target.uid, Missing::Leave)
        && let Ok(Some(stat)) = look(folder, &temp)
        && Stamp::of(&stat) == one.stamp
    {
        // What stays is found by the next run.
        let _ = unlinkat(&folder.fd, &temp, AtFlags::empty());
    }
}

pub(super) fn remove(folders: &mut Folders, path: &Path, uid: u32, stamps: &[Stamp]) -> Result<Removed, Refusal> {
    let (parent, name) = split(path)?;
    let Some(folder) = folders.find_anew(parent, uid, Missing::Leave)? else { return Ok(Removed::Before) };
    let Some(stat) = look(folder, name)? else { return Ok(Removed::Before) };
    if stat.st_uid != uid || !stamps.contains(&Stamp::of(&stat)) {
        return Ok(Removed::Changed);
    }
    unlinkat(&folder.fd, name, AtFlags::empty())
        .map_err(|e| Refusal::new(format!("removing `{}`: {}; remove it by hand", path.display(), said(e))))?;
    sync(&folder.fd, parent)?;
    Ok(Removed::Now)
}

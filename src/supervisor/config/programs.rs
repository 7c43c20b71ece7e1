//! Whether a program could be started: found as execvp(3) finds it, executable, its interpreter there.

use super::report::quoted;
use rustix::fs::{Access, AtFlags, CWD, accessat};
use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Why a program could not be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoProgram {
    /// No file of that path.
    Missing(PathBuf),
    /// In none of the folders of PATH.
    NotInPath,
    /// A file without permission to execute it, or a folder.
    NotExecutable(PathBuf),
    /// A script whose first line names an interpreter that is not there.
    NoInterpreter {
        /// The script.
        script: PathBuf,
        /// What its first line names.
        interpreter: PathBuf,
    },
}

/// Finds the program of an argv: with a `/` in its name relative to `base`, without one in the folders of `path`.
///
/// # Errors
/// [`NoProgram`].
pub fn find(program: &str, base: &Path, path: Option<&OsStr>) -> Result<PathBuf, NoProgram> {
    let found = if program.contains('/') {
        let file: PathBuf = base.join(program).components().collect();
        // A file that cannot be looked at cannot be started either.
        if !file.exists() {
            return Err(NoProgram::Missing(file));
        }
        if !executable(&file) {
            return Err(NoProgram::NotExecutable(file));
        }
        file
    } else {
        let folders = path.map(std::env::split_paths).into_iter().flatten();
        let candidates: Vec<PathBuf> = folders.filter(|f| f.is_absolute()).map(|f| f.join(program)).collect();
        match candidates.iter().find(|c| executable(c)) {
            Some(file) => file.clone(),
            None => {
                let there = candidates.into_iter().find(|c| c.is_file());
                return Err(there.map_or(NoProgram::NotInPath, NoProgram::NotExecutable));
            }
        }
    };
    match interpreter(&found) {
        Some(interpreter) if interpreter.is_absolute() && !interpreter.exists() => {
            Err(NoProgram::NoInterpreter { script: found, interpreter })
        }
        _ => Ok(found),
    }
}

fn executable(file: &Path) -> bool {
    // Any error means that it cannot be executed, whatever its cause.
    file.is_file() && accessat(CWD, file, Access::EXEC_OK, AtFlags::EACCESS).is_ok()
}

/// What the first line of a script names. A program that may be executed and not read has none that can be known.
fn interpreter(file: &Path) -> Option<PathBuf> {
    let mut head = Vec::new();
    // The kernel looks at the first 256 bytes (BINPRM_BUF_SIZE).
    std::fs::File::open(file).ok()?.take(256).read_to_end(&mut head).ok()?;
    let line = head.strip_prefix(b"#!")?.split(|b| *b == b'\n').next()?;
    let word = std::str::from_utf8(line).ok()?.split_whitespace().next()?;
    Some(PathBuf::from(word))
}

impl NoProgram {
    /// The fault and its remedy for people; `relative` says what a relative path is relative to.
    pub fn explain(&self, program: &str, relative: &str) -> (String, String) {
        let shown = |path: &Path| quoted(&path.to_string_lossy());
        match self {
            Self::Missing(file) if program.starts_with('/') => {
                (format!("the program {} is not there", shown(file)), "install it, or mend the path".to_owned())
            }
            Self::Missing(file) => {
                let message = format!("the program {} is not there: {} is {relative}", shown(file), quoted(program));
                (message, "put it there, or write its absolute path".to_owned())
            }
            Self::NotInPath => {
                let message = format!("the program {} is in no folder of PATH", quoted(program));
                (message, "install it, or write its absolute path; the supervisor's own PATH counts".to_owned())
            }
            Self::NotExecutable(file) if file.is_file() => {
                let message = format!("the program {} is not executable", shown(file));
                (message, format!("`chmod +x {}`", file.display()))
            }
            Self::NotExecutable(file) => (format!("{} is no program", shown(file)), "name a file".to_owned()),
            Self::NoInterpreter { script, interpreter } => {
                let message =
                    format!("the first line of {} names {}, which is not there", shown(script), shown(interpreter));
                let name = interpreter.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let help =
                    if name == "env" { "install it".to_owned() } else { format!("write `#!/usr/bin/env {name}`") };
                (message, help)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn script(dir: &Path, name: &str, text: &str, mode: u32) -> PathBuf {
        let file = dir.join(name);
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        file
    }

    #[test]
    fn programs_are_found_as_exec_finds_them() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let (a, b) = (dir.join("a"), dir.join("b"));
        std::fs::create_dir_all(&a).unwrap();
        std::fs::create_dir_all(&b).unwrap();
        let path = std::env::join_paths([&a, &b]).unwrap();
        let find = |program: &str| find(program, dir, Some(&path));
        let plain = script(&a, "tool", "#!/bin/sh\n", 0o644);
        assert_eq!(find("tool"), Err(NoProgram::NotExecutable(plain)));
        let good = script(&b, "tool", "#!/bin/sh\n", 0o755);
        assert_eq!(find("tool"), Ok(good.clone()));
        assert_eq!(find("./b/tool"), Ok(good.clone()));
        assert_eq!(find(good.to_str().unwrap()), Ok(good));
        assert_eq!(find("other"), Err(NoProgram::NotInPath));
        assert_eq!(find("./other"), Err(NoProgram::Missing(dir.join("other"))));
        assert_eq!(find("./a"), Err(NoProgram::NotExecutable(a)));
        let broken = script(&b, "broken", "#! /no/such/bash -e\n", 0o755);
        let fault = find("broken").unwrap_err();
        let interpreter = PathBuf::from("/no/such/bash");
        assert_eq!(fault, NoProgram::NoInterpreter { script: broken.clone(), interpreter });
        assert_eq!(
            fault.explain("broken", ""),
            (
                format!("the first line of `{}` names `/no/such/bash`, which is not there", broken.display()),
                "write `#!/usr/bin/env bash`".into()
            )
        );
    }
}

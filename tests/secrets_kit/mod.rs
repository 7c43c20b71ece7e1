//! A folder with sources, a manifest and the home of a user who is nobody else, for the real `secrets-placer`.

#![allow(dead_code, clippy::unwrap_used, reason = "a test kit, of which each test binary uses a part")]

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// No account has it.
pub const USER: u32 = 64_123;
/// What each test's secrets contain, and nothing else may.
pub const SECRET: &str = "correct-horse-battery-staple";

pub struct Lab {
    dir: TempDir,
}

impl Lab {
    /// `None`, with the reason printed, where nobody can become another user.
    pub fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: only root can become another user");
            return None;
        }
        let lab = Self { dir: TempDir::with_prefix("cc-secrets.").unwrap() };
        fs::set_permissions(lab.path(""), Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(lab.path("src")).unwrap();
        fs::create_dir(lab.path("home")).unwrap();
        fs::set_permissions(lab.path("home"), Permissions::from_mode(0o750)).unwrap();
        chown(lab.path("home"), Some(USER), Some(USER)).unwrap();
        Some(lab)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A source, readable by root only.
    pub fn source(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path("src").join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// An entry of the user's, at `home/…`, from `src/NAME`.
    pub fn entry(&self, name: &str, path: &str, more: &str) -> String {
        format!(
            "[secrets.{name}]\nsource = \"{}\"\npath = \"{}\"\nowner = \"{USER}\"\n{}{more}\n",
            self.path("src").join(name).display(),
            self.path(path).display(),
            if more.contains("group =") { String::new() } else { format!("group = \"{USER}\"\n") },
        )
    }

    pub fn manifest(&self, entries: &[String]) {
        let text = format!("state_dir = \"{}\"\n{}", self.path("state").display(), entries.concat());
        fs::write(self.path("m.toml"), text).unwrap();
    }

    /// One dotenv secret, at `home/.testenv`.
    pub fn simple() -> Option<Self> {
        let lab = Self::new()?;
        lab.source("testenv", format!("TOKEN={SECRET}\n"));
        lab.manifest(&[lab.entry("testenv", "home/.testenv", "mode = \"0600\"\nformat = \"dotenv\"")]);
        Some(lab)
    }

    pub fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_secrets-placer"));
        command.arg(verb).stdin(Stdio::null()).env_remove("CREDENTIALS_DIRECTORY");
        if verb != "bootstrap-key" {
            command.arg("--manifest").arg(self.path("m.toml"));
        }
        command
    }

    pub fn run(&self, verb: &str) -> Said {
        Said::of(self.command(verb).output().unwrap())
    }

    /// Places, which must succeed.
    #[track_caller]
    pub fn place(&self) -> Said {
        let said = self.run("place");
        assert_eq!(said.code, 0, "{said:?}");
        said
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// The text without this lab's folder.
    pub fn plain(&self, text: &str) -> String {
        text.replace(self.dir.path().to_str().unwrap(), "LAB")
    }

    /// A script of sh, or of perl, as the user; ended when dropped.
    pub fn attacker(&self, perl: &str) -> Attacker {
        use std::os::unix::process::CommandExt;
        let mut command = Command::new("perl");
        command.args(["-e", perl]).current_dir(self.path("home")).uid(USER).gid(USER).stdin(Stdio::null());
        Attacker(command.stderr(Stdio::null()).spawn().unwrap())
    }
}

pub struct Attacker(std::process::Child);

impl Drop for Attacker {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    pub fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let code = output.status.code().unwrap_or_else(|| panic!("{output:?}"));
        Self { code, out: text(output.stdout), err: text(output.stderr) }
    }
}

pub fn with_stdin(mut command: Command, text: &str) -> Said {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    Said::of(child.wait_with_output().unwrap())
}

/// Owner, group and permissions.
pub fn rights(path: &Path) -> (u32, u32, u32) {
    let stat = path.symlink_metadata().unwrap();
    (stat.uid(), stat.gid(), stat.mode() & 0o7777)
}

/// Every path below a folder with its rights and content, to see that nothing changed.
pub fn picture(folder: &Path) -> Vec<String> {
    let mut all = Vec::new();
    let mut todo = vec![folder.to_owned()];
    while let Some(path) = todo.pop() {
        let stat = path.symlink_metadata().unwrap();
        let content = if stat.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        all.push(format!("{} {} {:?} {content:?}", path.display(), stat.ino(), rights(&path)));
        if stat.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    all.sort();
    all
}

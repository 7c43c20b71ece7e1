//! Seeds: values of a user's own JSON files that spare an agent a dialog which nobody would answer. Written where
//! nothing is, durably and under the lock that the files' owner takes; never over a value that is there.

use super::agents::Seed;
use super::environment::Variables;
use crate::support::durable::{self, DurableError};
use serde_json::{Map, Value};
use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The files may hold what nobody else should read.
const MODE: u32 = 0o600;
/// A lock as old as this was left by a process that died: its holder renews it every five seconds.
const STALE: Duration = Duration::from_secs(10);
/// How long another writer is waited for: the writers hold it for milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// How a seed stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// The value is there.
    There,
    /// There is none.
    Missing,
    /// The user has another one.
    Other(Value),
}

/// Why a seed was not written.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// No variable says where the file is.
    #[error("write `{0}`: none of the variables that say where it is is set; set HOME")]
    Nowhere(String),
    /// The file is no JSON object.
    #[error("write a seed into `{}`: it is no JSON object ({cause}); mend it, or move it away", path.display())]
    Torn {
        /// Which.
        path: PathBuf,
        /// How.
        cause: String,
    },
    /// The file cannot be read or locked.
    #[error("{doing} `{}`: {cause}; check its owner and mode", path.display())]
    Io {
        /// Begins the sentence.
        doing: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// The file cannot be written.
    #[error(transparent)]
    Write(#[from] DurableError),
}

/// Where a file is, in the environment that the agent will have.
pub fn place(file: &[(String, PathBuf)], env: &Variables) -> Option<PathBuf> {
    let set = |key: &str| env.get(OsStr::new(key)).filter(|value| !value.is_empty());
    file.iter().find_map(|(key, path)| Some(Path::new(set(key)?).join(path)))
}

/// How a seed stands; changes nothing.
///
/// # Errors
/// When the file is nowhere, torn or not readable.
pub fn look(seed: &Seed, env: &Variables) -> Result<Standing, SeedError> {
    let path = path_of(seed, env)?;
    Ok(standing(&read(&path)?, seed))
}

/// Writes what is missing; says which files it changed.
///
/// # Errors
/// The first file that cannot be used; those before it are written.
pub fn write(seeds: &[Seed], env: &Variables) -> Result<Vec<PathBuf>, SeedError> {
    let mut changed = Vec::new();
    for seed in seeds {
        let path = path_of(seed, env)?;
        // Most starts find everything there and need no lock.
        if standing(&read(&path)?, seed) != Standing::Missing {
            continue;
        }
        if let Some(folder) = path.parent() {
            durable::create_folder(folder)?;
        }
        let _lock = Lock::take(&path)?;
        let mut root = read(&path)?;
        if standing(&root, seed) == Standing::Missing && put(&mut root, &seed.keys, &seed.value) {
            let text = format!("{:#}\n", Value::Object(root));
            durable::write(&path, text.as_bytes(), MODE)?;
            changed.push(path);
        }
    }
    changed.dedup();
    Ok(changed)
}

fn path_of(seed: &Seed, env: &Variables) -> Result<PathBuf, SeedError> {
    let path = place(&seed.file, env);
    let path = path.ok_or_else(|| {
        SeedError::Nowhere(seed.file.last().map_or_else(String::new, |(_, f)| f.display().to_string()))
    })?;
    match fs::canonicalize(&path) {
        // A link stays one: what it leads to is replaced.
        Ok(real) => Ok(real),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(path),
        Err(cause) => Err(SeedError::Io { doing: "find", path, cause }),
    }
}

fn read(path: &Path) -> Result<Map<String, Value>, SeedError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Map::new()),
        Err(cause) => return Err(SeedError::Io { doing: "read", path: path.to_owned(), cause }),
    };
    serde_json::from_slice(&bytes).map_err(|e| SeedError::Torn { path: path.to_owned(), cause: e.to_string() })
}

fn standing(root: &Map<String, Value>, seed: &Seed) -> Standing {
    let Some((last, way)) = seed.keys.split_last() else { return Standing::There };
    let mut at = root;
    for key in way {
        match at.get(key) {
            None => return Standing::Missing,
            Some(Value::Object(next)) => at = next,
            Some(other) => return Standing::Other(other.clone()),
        }
    }
    match at.get(last) {
        None => Standing::Missing,
        Some(found) if *found == seed.value => Standing::There,
        Some(other) => Standing::Other(other.clone()),
    }
}

/// Says whether it could be put there.
fn put(root: &mut Map<String, Value>, keys: &[String], value: &Value) -> bool {
    match keys {
        [] => false,
        [last] => {
            root.insert(last.clone(), value.clone());
            true
        }
        [first, rest @ ..] => match root.entry(first.clone()).or_insert_with(|| Value::Object(Map::new())) {
            Value::Object(next) => put(next, rest, value),
            _ => false,
        },
    }
}

/// The lock that the claude CLI takes on its files too: a folder beside the file, which only one can make.
struct Lock(PathBuf);

impl Lock {
    fn take(file: &Path) -> Result<Self, SeedError> {
        let mut name = file.as_os_str().to_owned();
        name.push(".lock");
        let path = PathBuf::from(name);
        let begun = std::time::Instant::now();
        loop {
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                Err(cause) => return Err(SeedError::Io { doing: "lock", path, cause }),
            }
            if is_stale(&path) {
                // Whoever removes it first, the next round makes it anew.
                let _ = fs::remove_dir(&path);
            } else if begun.elapsed() > PATIENCE {
                let cause = io::Error::new(ErrorKind::TimedOut, "another program holds it");
                return Err(SeedError::Io { doing: "lock", path, cause });
            } else {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Left behind, it is stale after ten seconds.
        let _ = fs::remove_dir(&self.0);
    }
}

/// A lock that is gone is not stale: it is tried for again.
fn is_stale(path: &Path) -> bool {
    let renewed = fs::metadata(path).and_then(|meta| meta.modified()).ok();
    renewed.and_then(|at| SystemTime::now().duration_since(at).ok()).is_some_and(|age| age > STALE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn env(home: &Path) -> Variables {
        Variables::from([("HOME".into(), home.into())])
    }

    fn seed(keys: &[&str]) -> Seed {
        let file = vec![("CLAUDE_CONFIG_DIR".into(), "state.json".into()), ("HOME".into(), "state.json".into())];
        Seed { file, keys: keys.iter().map(|key| (*key).to_owned()).collect(), value: json!(true) }
    }

    fn json_of(path: &Path) -> Value {
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    }

    #[test]
    fn what_is_missing_is_written_and_everything_else_stays() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("state.json");
        fs::write(&file, r#"{"a":1,"projects":{"/x":{"b":2}}}"#).unwrap();
        let seeds = [seed(&["done"]), seed(&["projects", "/x", "trusted"]), seed(&["projects", "/y", "trusted"])];
        assert_eq!(write(&seeds, &env(dir.path())).unwrap(), std::slice::from_ref(&file));
        let wanted = json!({ "a": 1, "done": true,
            "projects": { "/x": { "b": 2, "trusted": true }, "/y": { "trusted": true } } });
        assert_eq!(json_of(&file), wanted);
        assert!(write(&seeds, &env(dir.path())).unwrap().is_empty(), "written twice");
        assert!(!dir.path().join("state.json.lock").exists());
    }

    #[test]
    fn a_value_of_the_users_own_is_never_changed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("state.json");
        let text = r#"{"done": false, "projects": "none"}"#;
        fs::write(&file, text).unwrap();
        let seeds = [seed(&["done"]), seed(&["projects", "/x", "trusted"])];
        assert!(write(&seeds, &env(dir.path())).unwrap().is_empty());
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
        assert_eq!(look(&seeds[0], &env(dir.path())).unwrap(), Standing::Other(json!(false)));
    }

    #[test]
    fn a_torn_file_is_left_alone_and_said() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("state.json");
        fs::write(&file, "{\"a\":").unwrap();
        let error = write(&[seed(&["done"])], &env(dir.path())).unwrap_err().to_string();
        assert!(error.contains("state.json") && error.contains("no JSON object"), "{error}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "{\"a\":");
    }

    #[test]
    fn a_missing_file_is_made_for_its_owner_only_where_the_first_variable_says() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let mut env = env(dir.path());
        env.insert("CLAUDE_CONFIG_DIR".into(), dir.path().join("new/folder").into());
        let file = dir.path().join("new/folder/state.json");
        assert_eq!(write(&[seed(&["done"])], &env).unwrap(), std::slice::from_ref(&file));
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn writers_at_once_lose_nothing() {
        let dir = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for n in 0..8 {
                let env = env(dir.path());
                scope.spawn(move || {
                    let end = std::time::Instant::now() + Duration::from_secs(60);
                    loop {
                        match write(&[seed(&["projects", &n.to_string(), "trusted"])], &env) {
                            // The lock knows no queue, so seven others may be luckier for longer than it is waited for.
                            Err(e) if e.to_string().contains("another program holds it") => {
                                assert!(std::time::Instant::now() < end, "{e}");
                            }
                            done => return done.unwrap(),
                        }
                    }
                });
            }
        });
        assert_eq!(json_of(&dir.path().join("state.json"))["projects"].as_object().unwrap().len(), 8);
    }

    #[test]
    fn a_link_stays_one() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("real.json"), "{}").unwrap();
        std::os::unix::fs::symlink("real.json", dir.path().join("state.json")).unwrap();
        write(&[seed(&["done"])], &env(dir.path())).unwrap();
        assert!(fs::symlink_metadata(dir.path().join("state.json")).unwrap().is_symlink());
        assert_eq!(json_of(&dir.path().join("real.json")), json!({ "done": true }));
    }
}

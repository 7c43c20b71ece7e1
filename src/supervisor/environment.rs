//! Which variables pass from the supervisor to a session host and from there to an agent: an allow-list, so that what
//! is not known cannot leak. (`CLAUDECODE`, `TMUX` and a user bus have each broken or moved agents elsewhere.)

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// Variables by name.
pub type Variables = BTreeMap<OsString, OsString>;

/// Passed on as they are; every `LC_*` besides.
const ALLOWED: &[&str] = &["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "TERM", "COLORTERM"];

/// What `execvp` itself would search, and NixOS's own; for a parent that had no PATH at all.
const DEFAULT_PATH: &str = "/run/wrappers/bin:/run/current-system/sw/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";

/// The allowed ones of `vars`.
pub fn allowed(vars: impl IntoIterator<Item = (OsString, OsString)>) -> Variables {
    vars.into_iter().filter(|(key, _)| is_allowed(key)).collect()
}

fn is_allowed(key: &OsStr) -> bool {
    key.to_str().is_some_and(|k| ALLOWED.contains(&k)) || key.as_bytes().starts_with(b"LC_")
}

/// Fills in what a program of user `uid` may expect to be there, from the text of `/etc/passwd`.
pub fn complete(vars: &mut Variables, passwd: &str, uid: u32) {
    let user = passwd.lines().map(|l| l.split(':').collect::<Vec<_>>()).find_map(|f| match f.as_slice() {
        [name, _, id, _, _, home, shell] if id.parse() == Ok(uid) => Some((*name, *home, *shell)),
        _ => None,
    });
    let mut default = |key: &str, value: &str| {
        if !value.is_empty() {
            vars.entry(key.into()).or_insert_with(|| value.into());
        }
    };
    default("PATH", DEFAULT_PATH);
    if let Some((name, home, shell)) = user {
        default("USER", name);
        default("LOGNAME", name);
        default("HOME", home);
        // A service user's shell is often one that refuses.
        if !shell.ends_with("/nologin") && !shell.ends_with("/false") {
            default("SHELL", shell);
        }
    }
    default("SHELL", "/bin/sh");
    if !["LANG", "LC_ALL", "LC_CTYPE"].iter().any(|k| vars.contains_key(OsStr::new(k))) {
        // A unit has no locale at all, and agents draw boxes.
        vars.insert("LANG".into(), "C.UTF-8".into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vars(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect()
    }

    #[test]
    fn what_is_not_on_the_list_does_not_pass() {
        let all = [
            ("PATH", "/bin"),
            ("LC_TIME", "C"),
            ("CLAUDECODE", "1"),
            ("TMUX", "x"),
            ("TMUX_PANE", "%1"),
            ("SECRET", "s"),
            ("DBUS_SESSION_BUS_ADDRESS", "b"),
            ("XDG_RUNTIME_DIR", "/r"),
            ("CC_CI_LOOP", "a"),
            ("SSH_AUTH_SOCK", "s"),
        ];
        let kept = allowed(vars(&all));
        assert_eq!(kept.keys().collect::<Vec<_>>(), ["LC_TIME", "PATH"]);
    }

    #[test]
    fn a_users_own_values_win_over_passwd_and_a_refusing_shell_is_not_taken() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nci:x:900:900::/var/lib/ci:/run/current-system/sw/bin/nologin\n";
        let mut env = allowed(vars(&[("HOME", "/elsewhere")]));
        complete(&mut env, passwd, 900);
        let get = |k: &str| env.get(OsStr::new(k)).unwrap().to_str().unwrap();
        assert_eq!((get("HOME"), get("USER"), get("LOGNAME"), get("SHELL")), ("/elsewhere", "ci", "ci", "/bin/sh"));
        assert_eq!(get("LANG"), "C.UTF-8");
        assert!(get("PATH").contains("/usr/bin"));
    }

    #[test]
    fn a_locale_that_is_there_is_left_alone() {
        let mut env = allowed(vars(&[("LC_ALL", "de_DE.UTF-8")]));
        complete(&mut env, "", 900);
        assert!(!env.contains_key(OsStr::new("LANG")));
    }
}

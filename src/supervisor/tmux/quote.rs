//! The four languages that a text passes on its way into tmux: its argv, its config, its formats, and the shell.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// For one element of a tmux client's argv. There tmux takes a `;` at the end of an element as the end of a command;
/// `\;` at the end stands for the character.
pub(super) fn arg(text: &OsStr) -> OsString {
    let mut bytes = text.as_bytes().to_vec();
    if bytes.last() == Some(&b';') {
        bytes.insert(bytes.len() - 1, b'\\');
    }
    OsString::from_vec(bytes)
}

/// As one argument in a config file: in double quotes.
pub(super) fn config(text: &[u8]) -> Vec<u8> {
    let mut out = vec![b'"'];
    for byte in text {
        match byte {
            b'"' | b'\\' | b'$' => out.extend([b'\\', *byte]),
            b'\n' => out.extend(b"\\n"),
            _ => out.push(*byte),
        }
    }
    out.push(b'"');
    out
}

/// For `-c`, which tmux expands as a format. (`##[` cannot be said: such a path is not found, see [`super::respawn`].)
pub(super) fn format(path: &[u8]) -> Vec<u8> {
    path.iter().flat_map(|b| if *b == b'#' { vec![b'#'; 2] } else { vec![*b] }).collect()
}

/// One word of a shell command that tmux expands as a format with the time in it (`pipe-pane`). Between `##` and what
/// follows the quotes are closed and opened, since tmux leaves `##[` as it is.
pub(super) fn piped_word(path: &[u8]) -> Vec<u8> {
    let mut out = vec![b'\''];
    for byte in path {
        match byte {
            b'\'' => out.extend(b"'\\''"),
            b'#' => out.extend(b"##''"),
            b'%' => out.extend(b"%%"),
            _ => out.push(*byte),
        }
    }
    out.push(b'\'');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_semicolon_at_the_end_is_escaped_in_an_argv() {
        for (text, want) in [(";", "\\;"), ("a;", "a\\;"), ("a\\;", "a\\\\;"), ("a;b", "a;b"), ("", ""), (";;", ";\\;")]
        {
            assert_eq!(arg(text.as_ref()), want);
        }
    }

    #[test]
    fn a_config_argument_cannot_leave_its_quotes() {
        assert_eq!(config(b"a\"b\\c$D\n;#{x}"), b"\"a\\\"b\\\\c\\$D\\n;#{x}\"");
    }

    #[test]
    fn a_log_path_keeps_its_percent_and_hash_through_pipe_pane() {
        assert_eq!(piped_word(b"/a'#[%Y"), b"'/a'\\''##''[%%Y'");
        assert_eq!(format(b"/a#{b}"), b"/a##{b}");
    }
}

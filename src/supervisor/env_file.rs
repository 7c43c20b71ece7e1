//! Reads env files: `KEY=value` lines as a shell or systemd would read them. Holds secrets: no error shows a value.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

/// What is wrong with an env file, and in which line (from 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {fault}")]
pub struct BadLine {
    /// From 1.
    pub line: usize,
    /// What is wrong; never the text itself.
    pub fault: &'static str,
}

/// The variables in the order of the file.
///
/// `KEY=value` or `export KEY=value`; blank lines and those that start with `#` are skipped. A value may be in single
/// quotes (nothing is special in them), in double quotes (`\` before `"`, `\`, `$` or a backquote stands for that
/// character), or bare: then it ends with the line or at a `#` after a space, and `\` stands for the next character.
/// Quoted values may span lines. Nothing is expanded: `$` is an ordinary character.
///
/// # Errors
/// The first line that is none of that.
pub fn parse(bytes: &[u8]) -> Result<Vec<(OsString, OsString)>, BadLine> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut file = File { bytes, at: 0, line: 1 };
    let mut found = Vec::new();
    loop {
        file.skip(|b| b.is_ascii_whitespace());
        match file.peek() {
            None => return Ok(found),
            Some(b'#') => file.skip(|b| b != b'\n'),
            Some(_) => found.push(file.assignment()?),
        }
    }
}

struct File<'a> {
    bytes: &'a [u8],
    at: usize,
    line: usize,
}

impl File<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        self.line += usize::from(byte == b'\n');
        Some(byte)
    }

    fn skip(&mut self, which: impl Fn(u8) -> bool) {
        while self.peek().is_some_and(&which) {
            self.next();
        }
    }

    fn word(&mut self) -> Vec<u8> {
        let start = self.at;
        self.skip(|b| b == b'_' || b.is_ascii_alphanumeric());
        self.bytes[start..self.at].to_vec()
    }

    fn assignment(&mut self) -> Result<(OsString, OsString), BadLine> {
        let line = self.line;
        let bad = |fault| BadLine { line, fault };
        let mut key = self.word();
        if key == b"export" && self.peek().is_some_and(|b| b == b' ' || b == b'\t') {
            self.skip(|b| b == b' ' || b == b'\t');
            key = self.word();
        }
        if key.is_empty() || key[0].is_ascii_digit() {
            return Err(bad("starts with no variable name; write `KEY=value`"));
        }
        if self.peek() != Some(b'=') {
            return Err(bad("has no `=` right after the variable name; write `KEY=value`"));
        }
        self.next();
        let value = self.value()?;
        if value.contains(&0) {
            return Err(bad("has a NUL byte in the value, which no environment can hold"));
        }
        Ok((OsString::from_vec(key), OsString::from_vec(value)))
    }

    fn value(&mut self) -> Result<Vec<u8>, BadLine> {
        let line = self.line;
        let mut value = Vec::new();
        // Spaces that count only if something follows them.
        let mut spaces = Vec::new();
        loop {
            match self.peek() {
                None | Some(b'\n') => return Ok(value),
                Some(b'\r') if self.bytes.get(self.at + 1).is_none_or(|b| *b == b'\n') => {
                    self.next();
                }
                Some(b @ (b' ' | b'\t')) => {
                    spaces.push(b);
                    self.next();
                }
                Some(b'#') if !spaces.is_empty() => self.skip(|b| b != b'\n'),
                Some(b) => {
                    // A space right after `=` is not part of the value.
                    if !value.is_empty() {
                        value.append(&mut spaces);
                    }
                    spaces.clear();
                    self.next();
                    match b {
                        b'\'' | b'"' => self.quoted(b, line, &mut value)?,
                        b'\\' => value.extend(self.next().filter(|b| *b != b'\n')),
                        _ => value.push(b),
                    }
                }
            }
        }
    }

    fn quoted(&mut self, quote: u8, line: usize, value: &mut Vec<u8>) -> Result<(), BadLine> {
        loop {
            match self.next() {
                None => return Err(BadLine { line, fault: "has a quote that is never closed" }),
                Some(b) if b == quote => return Ok(()),
                Some(b'\\') if quote == b'"' => match self.next() {
                    Some(b @ (b'"' | b'\\' | b'$' | b'`')) => value.push(b),
                    Some(b'\n') => {}
                    Some(b) => value.extend([b'\\', b]),
                    None => {}
                },
                Some(b) => value.push(b),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(String, String)> {
        let text_of = |s: OsString| s.into_string().unwrap();
        parse(text.as_bytes()).unwrap().into_iter().map(|(k, v)| (text_of(k), text_of(v))).collect()
    }

    #[test]
    fn every_form_of_a_value_is_read() {
        for (text, want) in [
            ("K=plain", "plain"),
            ("export K=plain", "plain"),
            ("  K=plain  # why", "plain"),
            ("K=a#b", "a#b"),
            ("K=two words", "two words"),
            ("K='a \"b\" \\ $c # d'", "a \"b\" \\ $c # d"),
            ("K=\"a \\\"b\\\" \\\\ \\$c $d \\n\"", "a \"b\" \\ $c $d \\n"),
            ("K='it'\\''s'", "it's"),
            ("K=", ""),
            ("K=''", ""),
            ("K= x", "x"),
            ("K=a=b==", "a=b=="),
            ("K=x\r\n", "x"),
            ("# c\n\n\nK='l1\nl2'\n", "l1\nl2"),
            ("\u{feff}K=ü", "ü"),
            ("K=x # it's a comment", "x"),
        ] {
            assert_eq!(read(text), [("K".to_owned(), want.to_owned())], "{text:?}");
        }
    }

    #[test]
    fn a_bad_line_is_named_by_its_number_and_its_content_is_not_shown() {
        for (text, line) in
            [("A=1\nhunter2\n", 2), ("1A=hunter2", 1), ("A = hunter2", 1), ("A='x\n'\nB=\"hunter2\n", 3)]
        {
            let err = parse(text.as_bytes()).unwrap_err();
            assert_eq!(err.line, line, "{text:?}");
            assert!(!format!("{err} {err:?}").contains("hunter2"));
        }
        assert!(parse(b"A=a\0b").is_err());
    }

    #[test]
    fn several_lines_keep_their_order() {
        let keys: Vec<String> = read("B=1\nA=2\nB=3").into_iter().map(|(k, _)| k).collect();
        assert_eq!(keys, ["B", "A", "B"]);
    }
}

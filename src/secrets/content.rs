//! The bytes of a secret: wiped when dropped, and never shown.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use zeroize::Zeroizing;

/// No secret that a program reads from a file is near this; a larger file is another file.
pub const LARGEST: u64 = 1 << 20;

/// The bytes of a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Content(Zeroizing<Vec<u8>>);

impl Content {
    /// Takes the bytes over.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// What is left in a reader, at most `most` bytes of it; `None` when it has more. `about` is how many are expected.
    ///
    /// # Errors
    /// What the reader says.
    pub fn read(from: &mut impl Read, about: u64, most: u64) -> io::Result<Option<Self>> {
        // Made large enough at once: a vector that grows leaves copies behind that nobody wipes.
        let room = usize::try_from(about.min(most)).unwrap_or(0) + 1;
        let mut kept = Zeroizing::new(vec![0; room]);
        let mut length = 0;
        loop {
            if length == kept.len() {
                let mut larger = Zeroizing::new(vec![0; kept.len() * 2]);
                larger[..length].copy_from_slice(&kept);
                kept = larger;
            }
            match from.read(&mut kept[length..]) {
                Ok(0) => break,
                Ok(read) => length += read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
            if u64::try_from(length).unwrap_or(u64::MAX) > most {
                return Ok(None);
            }
        }
        kept.truncate(length);
        Ok(Some(Self(kept)))
    }

    /// What is in an open file, at most [`LARGEST`] bytes; `None` when it has more.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn of_file(file: &mut File) -> io::Result<Option<Self>> {
        let about = file.metadata()?.len();
        Self::read(file, about, LARGEST)
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Content(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_is_read_whole_and_one_that_is_too_large_is_not() {
        for (length, about) in [(0, 0), (1, 0), (5000, 10), (5000, 5000), (5000, 90_000)] {
            let bytes = vec![7; length];
            let read = Content::read(&mut bytes.as_slice(), about, 5000).unwrap().unwrap();
            assert_eq!(read.bytes(), bytes, "{length} bytes, {about} expected");
        }
        assert_eq!(Content::read(&mut [0; 5001].as_slice(), 0, 5000).unwrap(), None);
    }

    #[test]
    fn a_content_is_never_shown() {
        assert_eq!(format!("{:?}", Content::new(b"hunter2".to_vec())), "Content(…)");
    }
}

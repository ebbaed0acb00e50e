//! Bounded capture of an unbounded stream: its head, its tail, its length, and optionally a capped copy in a file.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use crate::error::SandboxError;
use crate::outcome::Spooled;
use crate::spec::Spool;

/// Keeps the first and the last half of `cap` bytes.
#[derive(Debug)]
pub(crate) struct Capture {
    head: Vec<u8>,
    head_cap: usize,
    tail: VecDeque<u8>,
    tail_cap: usize,
    total: u64,
    spool: Option<SpoolFile>,
}

#[derive(Debug)]
struct SpoolFile {
    file: File,
    max_bytes: u64,
    state: Spooled,
}

impl Capture {
    pub(crate) fn new(cap: usize, spool: Option<&Spool>) -> Result<Self, SandboxError> {
        let spool = spool.map(SpoolFile::create).transpose()?;
        let head_cap = cap / 2;
        Ok(Self {
            head: Vec::new(),
            head_cap,
            tail: VecDeque::new(),
            tail_cap: cap - head_cap,
            total: 0,
            spool,
        })
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        if let Some(spool) = &mut self.spool {
            spool.write(bytes);
        }
        let (head, rest) = bytes.split_at(bytes.len().min(self.head_cap - self.head.len()));
        self.head.extend_from_slice(head);
        let kept = &rest[rest.len().saturating_sub(self.tail_cap)..];
        let excess = (self.tail.len() + kept.len()).saturating_sub(self.tail_cap);
        self.tail.drain(..excess);
        self.tail.extend(kept);
    }

    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// The kept text, whether anything was left out, and what became of the spool.
    pub(crate) fn finish(self) -> (Vec<u8>, bool, Option<Spooled>) {
        let omitted = self.total - (self.head.len() + self.tail.len()) as u64;
        let mut text = self.head;
        if omitted > 0 {
            text.extend_from_slice(format!("\n[... {omitted} bytes left out ...]\n").as_bytes());
        }
        text.extend(self.tail);
        (text, omitted > 0, self.spool.map(|spool| spool.state))
    }
}

impl SpoolFile {
    fn create(spool: &Spool) -> Result<Self, SandboxError> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&spool.path)
            .map_err(|source| SandboxError::SpoolCreate { path: spool.path.clone(), source })?;
        Ok(Self { file, max_bytes: spool.max_bytes, state: Spooled { bytes: 0, complete: true } })
    }

    /// A full disk must not stop the draining: it only makes the copy incomplete.
    fn write(&mut self, bytes: &[u8]) {
        if !self.state.complete {
            return;
        }
        let room = self.max_bytes - self.state.bytes;
        let part = &bytes[..bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX))];
        match self.file.write_all(part) {
            Ok(()) => self.state.bytes += part.len() as u64,
            Err(_) => self.state.complete = false,
        }
        self.state.complete &= part.len() == bytes.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn captured(cap: usize, pieces: &[&str]) -> (String, bool) {
        let mut capture = Capture::new(cap, None).unwrap();
        pieces.iter().for_each(|piece| capture.push(piece.as_bytes()));
        let (text, truncated, _) = capture.finish();
        (String::from_utf8(text).unwrap(), truncated)
    }

    #[test]
    fn what_fits_is_kept_whole_however_it_is_split() {
        assert_eq!(captured(8, &["abcdefgh"]), ("abcdefgh".into(), false));
        assert_eq!(captured(8, &["a", "bcd", "efg", "h"]), ("abcdefgh".into(), false));
        assert_eq!(captured(8, &[]), (String::new(), false));
    }

    #[test]
    fn what_does_not_fit_keeps_head_and_tail() {
        let expect = ("abc\n[... 3 bytes left out ...]\nghi".to_owned(), true);
        assert_eq!(captured(6, &["abcdefghi"]), expect);
        assert_eq!(captured(6, &["abcd", "e", "fghi"]), expect);
        assert_eq!(captured(0, &["xyz"]).0, "\n[... 3 bytes left out ...]\n");
    }

    #[test]
    fn the_spool_stops_at_its_cap_and_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool { path: dir.path().join("log"), max_bytes: 5 };
        let mut capture = Capture::new(2, Some(&spool)).unwrap();
        capture.push(b"abc");
        capture.push(b"defg");
        assert_eq!(capture.total(), 7);
        assert_eq!(capture.finish().2, Some(Spooled { bytes: 5, complete: false }));
        assert_eq!(std::fs::read(&spool.path).unwrap(), b"abcde");
        assert!(matches!(Capture::new(2, Some(&spool)), Err(SandboxError::SpoolCreate { .. })));
    }
}

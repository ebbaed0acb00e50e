//! The journal and the books under one lock: every change is decided, written and booked here, in the caller's thread.
//!
//! Written means handed to the kernel: it outlives the process. Durable means synced: it outlives the power. Nothing
//! here waits for a sync; see `sync.rs`.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use df_contract::Timestamp;
use df_contract::grant::{BudgetCap, is_plan_level};

use super::books::Books;
use super::budget::Cap;
use super::frame::{self, End, Frame, Held, Revoked, Row};
use super::keys::StandingKey;
use super::segment::{self, Segment, io_failed};
use super::{Amount, LedgerError, Outcome, Payer};

/// Most levels of one call.
const MAX_LEVELS: usize = 16;

/// What the callers and the syncing thread share, under a lock that is never held over a sync.
#[derive(Debug)]
pub(super) struct Journal {
    pub(super) dir: PathBuf,
    pub(super) books: Books,
    pub(super) file: Arc<File>,
    /// Where the next frame goes.
    pub(super) end: u64,
    pub(super) segments: Vec<Segment>,
    /// Bytes written since the start, over all segments.
    pub(super) position: u64,
    /// Up to where in `position` something waits for a sync.
    pub(super) wanted: u64,
    /// The last row that is written, and the last that is durable.
    pub(super) written_seq: u64,
    pub(super) durable_seq: u64,
    /// What was booked and could not be written. While there is any, nothing is granted.
    pub(super) unwritten: Vec<u8>,
    /// While a new segment is prepared: what was written since its checkpoint was taken.
    pub(super) since_checkpoint: Option<Vec<u8>>,
    pub(super) state: State,
    scratch: Vec<u8>,
}

/// What the ledger takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Open,
    /// Settlements only, until the syncing thread has ended.
    Closing,
    /// Nothing more is written: it was closed, or a sync failed and nobody knows what is on the disk.
    Ended,
}

impl Journal {
    /// Reads the newest segment again, or begins the first.
    pub(super) fn open(dir: &Path) -> Result<Self, LedgerError> {
        let numbers = segment::list(dir)?;
        let mut segments = Vec::new();
        let (books, file, end) = match numbers.split_last() {
            Some((newest, older)) => {
                for number in older {
                    let begin = segment::head(&segment::path_of(dir, *number))?;
                    segments.push(Segment::new(*number, begin.next_seq));
                }
                let (books, segment, file, end) = segment::replay(dir, *newest)?;
                segments.push(segment);
                (books, file, end)
            }
            None => {
                let books = Books::new();
                let (file, end) = begin_segment(dir, 1, &checkpoint(&books, 1)?, &[])?;
                segments.push(Segment::new(1, books.next_seq));
                (books, file, end)
            }
        };
        let written_seq = books.next_seq - 1;
        Ok(Self {
            dir: dir.to_owned(),
            books,
            file: Arc::new(file),
            end,
            segments,
            position: 0,
            wanted: 0,
            written_seq,
            durable_seq: written_seq,
            unwritten: Vec::new(),
            since_checkpoint: None,
            state: State::Open,
            scratch: Vec::new(),
        })
    }

    /// Holds `amount` on every level of `caps`, or on none.
    pub(super) fn reserve(
        &mut self,
        at: Timestamp,
        payer: Payer,
        caps: &[BudgetCap],
        amount: Amount,
    ) -> Result<u64, LedgerError> {
        if self.state != State::Open || caps.len() > MAX_LEVELS || !self.write_unwritten() {
            return Err(LedgerError::Closed);
        }
        self.books.permits(&payer.by, at)?;
        if let Some(newest) =
            caps.iter().filter(|c| is_plan_level(c)).find_map(|c| self.books.budgets.newer(c))
        {
            return Err(LedgerError::Superseded { newest });
        }
        let mut bytes = std::mem::take(&mut self.scratch);
        bytes.clear();
        let decided = self.decide(&mut bytes, at, payer, caps, amount);
        // Caps that became known are kept even if the call is refused.
        let written = if bytes.is_empty() { Ok(()) } else { self.write(&bytes) };
        self.scratch = bytes;
        let (id, held) = decided?;
        if let Err(error) = written {
            tracing::error!(error = %error, "a reservation could not be written");
            return Err(LedgerError::Closed);
        }
        self.books.reserve(id, held);
        Ok(id)
    }

    fn decide(
        &mut self,
        bytes: &mut Vec<u8>,
        at: Timestamp,
        payer: Payer,
        caps: &[BudgetCap],
        amount: Amount,
    ) -> Result<(u64, Held), LedgerError> {
        for cap in caps {
            if self.books.budgets.is_news(cap) {
                let cap = Cap::of(cap);
                frame::put(bytes, &Frame::Cap(cap.clone()))?;
                self.books.budgets.raise(cap);
            }
        }
        self.books.budgets.room(caps.iter().map(|c| c.account.as_str()), &amount)?;
        let mut levels: Vec<Arc<str>> = Vec::with_capacity(caps.len());
        for cap in caps {
            if !levels.iter().any(|known| **known == *cap.account) {
                levels.push(self.books.budgets.name(&cap.account));
            }
        }
        let id = self.books.next_id;
        let frame = Frame::Reserve(id, Held { at, payer, levels, amount });
        frame::put(bytes, &frame)?;
        match frame {
            Frame::Reserve(id, held) => Ok((id, held)),
            _same => Err(LedgerError::Closed),
        }
    }

    /// Ends a reservation. Booked whatever the disk says: what it does not take now is written later.
    pub(super) fn settle(&mut self, at: Timestamp, id: u64, outcome: Outcome) {
        let Some(Held { payer, levels, amount, .. }) = self.books.open.remove(&id) else { return };
        let (end, spent) = End::of(outcome, amount);
        let row = Row { seq: self.books.next_seq, id, at, payer, spent, end };
        self.books.settle(&levels, &amount, &row);
        let (seq, frame) = (row.seq, Frame::Settle(row));
        let mut bytes = std::mem::take(&mut self.scratch);
        bytes.clear();
        if frame::put(&mut bytes, &frame).is_err() {
            // Its reservation is on disk and is charged in full at the next start.
            tracing::error!(reservation = id, "a settlement has no form on disk");
            self.state = State::Ended;
            return;
        }
        let place = self.end;
        let direct = self.unwritten.is_empty() && self.state != State::Ended;
        match if direct { self.write(&bytes) } else { Err(io::ErrorKind::WouldBlock.into()) } {
            Ok(()) => {
                self.written_seq = seq;
                self.current().mark(seq, place);
                self.wanted = self.position;
            }
            Err(error) => {
                if direct {
                    tracing::error!(error = %error, "a settlement waits for the disk; nothing more is granted");
                }
                if self.state != State::Ended {
                    self.unwritten.extend_from_slice(&bytes);
                }
            }
        }
        self.scratch = bytes;
    }

    /// Answers the position whose sync makes it durable.
    pub(super) fn revoke(&mut self, revoked: Revoked) -> Result<u64, LedgerError> {
        self.put_now(&Frame::Revoke(revoked.clone()))?;
        self.books.revoke(revoked);
        Ok(self.position)
    }

    /// Adds a key or puts it in the place of its older form; answers as [`Journal::revoke`].
    pub(super) fn put_key(&mut self, key: Arc<StandingKey>) -> Result<u64, LedgerError> {
        self.put_now(&Frame::Key(Arc::clone(&key)))?;
        self.books.keys.put(key);
        Ok(self.position)
    }

    /// Writes a frame that somebody waits for.
    fn put_now(&mut self, frame: &Frame) -> Result<(), LedgerError> {
        if self.state != State::Open || !self.write_unwritten() {
            return Err(LedgerError::Closed);
        }
        let mut bytes = Vec::new();
        frame::put(&mut bytes, frame)?;
        let path = self.path();
        self.write(&bytes).map_err(io_failed("writing", &path))?;
        self.wanted = self.position;
        Ok(())
    }

    /// Of the segment in hand.
    pub(super) fn path(&self) -> PathBuf {
        segment::path_of(&self.dir, self.segments.last().map_or(0, |s| s.number))
    }

    pub(super) fn current(&mut self) -> &mut Segment {
        let last = self.segments.len() - 1;
        &mut self.segments[last]
    }

    /// Tries what the disk refused; says whether nothing is left.
    pub(super) fn write_unwritten(&mut self) -> bool {
        if self.unwritten.is_empty() {
            return true;
        }
        if self.state == State::Ended {
            return false;
        }
        let bytes = std::mem::take(&mut self.unwritten);
        if self.write(&bytes).is_err() {
            self.unwritten = bytes;
            return false;
        }
        tracing::info!(bytes = bytes.len(), "the disk took the settlements that waited");
        self.written_seq = self.books.next_seq - 1;
        self.wanted = self.position;
        true
    }

    /// All of it or, as far as any reader will ever see, nothing: what a failed write left behind is overwritten by
    /// the next, and cut as a torn tail if there is no next.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all_at(bytes, self.end) {
            let _as_far_as_it_goes = self.file.set_len(self.end);
            return Err(error);
        }
        let length = bytes.len() as u64;
        self.end += length;
        self.position += length;
        if let Some(since) = &mut self.since_checkpoint {
            since.extend_from_slice(bytes);
        }
        Ok(())
    }

    /// The next segment has its checkpoint on disk: it gets what was written since, and its name.
    pub(super) fn switch(&mut self, number: u64, first_seq: u64, part: File, length: u64) -> io::Result<()> {
        let since = self.since_checkpoint.take().unwrap_or_default();
        part.write_all_at(&since, length)?;
        std::fs::rename(segment::part_of(&self.dir, number), segment::path_of(&self.dir, number))?;
        self.segments.push(Segment::new(number, first_seq));
        self.file = Arc::new(part);
        self.end = length + since.len() as u64;
        Ok(())
    }
}

/// The bytes that stand at the start of `segment`.
pub(super) fn checkpoint(books: &Books, segment: u64) -> Result<Vec<u8>, LedgerError> {
    let mut bytes = Vec::new();
    for frame in books.checkpoint(segment) {
        frame::put(&mut bytes, &frame)?;
    }
    Ok(bytes)
}

/// A segment with its checkpoint and what came since, durable with its name.
pub(super) fn begin_segment(
    dir: &Path,
    number: u64,
    checkpoint: &[u8],
    since: &[u8],
) -> Result<(File, u64), LedgerError> {
    let (part, path) = (segment::part_of(dir, number), segment::path_of(dir, number));
    let file = segment::create(&part).map_err(io_failed("creating", &part))?;
    file.write_all_at(checkpoint, 0)
        .and_then(|()| file.write_all_at(since, checkpoint.len() as u64))
        .and_then(|()| file.sync_all())
        .and_then(|()| std::fs::rename(&part, &path))
        .and_then(|()| segment::sync_names(dir))
        .map_err(io_failed("creating", &path))?;
    Ok((file, (checkpoint.len() + since.len()) as u64))
}

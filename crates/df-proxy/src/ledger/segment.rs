//! Segments: the files of the journal, how they are found, named, read again and mended.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::LedgerError;
use super::books::{Books, Impossible};
use super::frame::{self, Begin, FORMAT, Frame, HEADER_BYTES, MAX_PAYLOAD_BYTES, Row, SETTLE_KIND};

const SUFFIX: &str = ".seg";
/// Enough of a segment to hold its first frame.
const HEAD_BYTES: u64 = 256;
/// Bytes of a segment read at once.
const READ_BYTES: usize = 256 * 1024;
/// Rows between two marks of a segment's index.
const MARK_ROWS: u64 = 512;

/// A segment as far as readers must know it.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    pub(super) number: u64,
    /// Number of the first row in it, if it has any.
    pub(super) first_seq: u64,
    /// Row number and where its frame begins, for some rows, ascending.
    pub(super) marks: Vec<(u64, u64)>,
}

impl Segment {
    pub(super) fn new(number: u64, first_seq: u64) -> Self {
        Self { number, first_seq, marks: Vec::new() }
    }

    pub(super) fn mark(&mut self, seq: u64, offset: u64) {
        if self.marks.last().is_none_or(|(last, _)| seq >= last + MARK_ROWS) {
            self.marks.push((seq, offset));
        }
    }

    /// A place at or before the frame of row `seq`.
    pub(super) fn place_of(&self, seq: u64) -> u64 {
        let after = self.marks.partition_point(|(marked, _)| *marked <= seq);
        after.checked_sub(1).map_or(0, |at| self.marks[at].1)
    }
}

pub(super) fn io_failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LedgerError {
    let path = path.to_owned();
    move |source| LedgerError::Io { doing, path, source }
}

pub(super) fn path_of(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:08}{SUFFIX}"))
}

pub(super) fn part_of(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:08}.part"))
}

/// Numbers of the segments in `dir`, ascending. What never got its name is removed.
pub(super) fn list(dir: &Path) -> Result<Vec<u64>, LedgerError> {
    let failed = || io_failed("listing", dir);
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed())? {
        let path = entry.map_err(failed())?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        if let Some(number) = name.strip_suffix(SUFFIX).and_then(|n| n.parse().ok()) {
            numbers.push(number);
        } else if name.ends_with(".part") {
            std::fs::remove_file(&path).map_err(io_failed("clearing", &path))?;
        }
    }
    numbers.sort_unstable();
    match numbers.windows(2).find(|pair| pair[0] + 1 != pair[1]) {
        Some(pair) => Err(LedgerError::Missing { path: path_of(dir, pair[0] + 1) }),
        None => Ok(numbers),
    }
}

/// Makes the names in `dir` durable.
pub(super) fn sync_names(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

pub(super) fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(path)
}

/// The first frame of a segment.
pub(super) fn head(path: &Path) -> Result<Begin, LedgerError> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(io_failed("opening", path))?;
    file.take(HEAD_BYTES).read_to_end(&mut bytes).map_err(io_failed("reading", path))?;
    let damaged = || LedgerError::Damaged { path: path.to_owned(), offset: 0, why: "its first frame" };
    let (payload, _) = frame::take(&bytes).ok_or_else(damaged)?;
    match frame::decode(payload) {
        Some(Frame::Begin(begin)) if begin.format == FORMAT => Ok(begin),
        Some(Frame::Begin(begin)) => Err(LedgerError::Newer(begin.format)),
        _other => Err(damaged()),
    }
}

/// The newest segment, read again: the books at its end, and the file cut to what is sound.
pub(super) fn replay(dir: &Path, number: u64) -> Result<(Books, Segment, File, u64), LedgerError> {
    let path = path_of(dir, number);
    let begin = head(&path)?;
    let bytes = std::fs::read(&path).map_err(io_failed("reading", &path))?;
    let mut books = Books::new();
    let mut segment = Segment::new(number, begin.next_seq);
    let (mut at, mut ready) = (0, false);
    let damaged = |at: usize, why| LedgerError::Damaged { path: path.clone(), offset: at as u64, why };
    while let Some((payload, size)) = frame::take(&bytes[at..]) {
        let frame = frame::decode(payload).ok_or_else(|| damaged(at, "a frame of no known kind"))?;
        if let Frame::Settle(row) = &frame {
            segment.mark(row.seq, at as u64);
        }
        ready |= matches!(frame, Frame::Ready);
        books.apply(frame).map_err(|Impossible(why)| damaged(at, why))?;
        at += size;
    }
    if !ready {
        return Err(damaged(at, "its checkpoint"));
    }
    if at < bytes.len() {
        if sound_frame_in(&bytes[at + 1..]) {
            return Err(damaged(at, "a frame before others that are sound"));
        }
        tracing::warn!(segment = number, offset = at, bytes = bytes.len() - at, "a torn tail is cut");
    }
    let end = at as u64;
    let file = OpenOptions::new().read(true).write(true).open(&path).map_err(io_failed("opening", &path))?;
    file.set_len(end).and_then(|()| file.sync_all()).map_err(io_failed("mending", &path))?;
    Ok((books, segment, file, end))
}

/// Whether a whole frame lies anywhere in `bytes`: what a crash leaves behind ends in the torn frame.
fn sound_frame_in(bytes: &[u8]) -> bool {
    (0..bytes.len())
        .any(|at| frame::take(&bytes[at..]).is_some_and(|(payload, _)| frame::decode(payload).is_some()))
}

/// Hands each settlement in a segment from `from` on to `take` with its offset, until `take` says stop or nothing
/// sound follows. Whether that was all is for the caller to know: rows are numbered without a gap.
pub(super) fn each_settlement(
    path: &Path,
    from: u64,
    mut take: impl FnMut(u64, Row) -> bool,
) -> Result<(), LedgerError> {
    let file = File::open(path).map_err(io_failed("opening", path))?;
    // `bytes` holds the file from `base` on.
    let (mut bytes, mut base) = (Vec::new(), from);
    loop {
        let mut at = 0;
        while let Some((payload, size)) = frame::take(&bytes[at..]) {
            if payload.first() == Some(&SETTLE_KIND)
                && let Some(Frame::Settle(row)) = frame::decode(payload)
                && !take(base + at as u64, row)
            {
                return Ok(());
            }
            at += size;
        }
        bytes.drain(..at);
        base += at as u64;
        let start = bytes.len();
        if start > HEADER_BYTES + MAX_PAYLOAD_BYTES {
            return Ok(());
        }
        bytes.resize(start + READ_BYTES, 0);
        let read =
            file.read_at(&mut bytes[start..], base + start as u64).map_err(io_failed("reading", path))?;
        bytes.truncate(start + read);
        if read == 0 {
            return Ok(());
        }
    }
}

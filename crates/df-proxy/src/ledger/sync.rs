//! The thread that makes what is written durable, in groups, and begins new segments.

use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::LedgerError;
use super::journal::{Journal, State, checkpoint};
use super::segment::{self, io_failed};

/// Settlements wait this long for company before they are synced together; with the sync itself they are durable
/// within about 10 ms.
const SYNC_WINDOW: Duration = Duration::from_millis(5);
/// How often a disk that refused is tried again when nobody asks.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// A segment of this size is followed by a new one.
pub(super) const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;

/// How far the disk has followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Durable {
    Upto(u64),
    /// Nothing more becomes durable before a restart.
    Never,
}

#[derive(Debug)]
pub(super) struct Shared {
    journal: Mutex<Journal>,
    work: Condvar,
    pub(super) durable: watch::Sender<Durable>,
    segment_bytes: u64,
}

impl Shared {
    pub(super) fn new(journal: Journal, segment_bytes: u64) -> Self {
        let (durable, _) = watch::channel(Durable::Upto(0));
        Self { journal: Mutex::new(journal), work: Condvar::new(), durable, segment_bytes }
    }

    /// A panic under the lock can only come from an allocation that failed; the books are changed whole.
    pub(super) fn lock(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something to the journal, and wakes the thread if it wants a sync that nothing wanted before.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Journal) -> T) -> T {
        let mut journal = self.lock();
        let idle = !is_behind(&journal);
        let result = change(&mut journal);
        let wake = idle && is_behind(&journal);
        drop(journal);
        if wake {
            self.work.notify_one();
        }
        result
    }

    /// Takes no more reservations; the thread writes out what there is and ends.
    pub(super) fn close(&self) {
        let mut journal = self.lock();
        if journal.state == State::Open {
            journal.state = State::Closing;
        }
        drop(journal);
        self.work.notify_one();
    }
}

/// Whether there is something to sync or to write.
fn is_behind(journal: &Journal) -> bool {
    journal.wanted > 0 || !journal.unwritten.is_empty() || journal.state != State::Open
}

/// The thread's life.
pub(super) fn run(shared: &Arc<Shared>) {
    loop {
        let mut journal = shared.lock();
        while !is_behind(&journal) {
            journal = shared.work.wait(journal).unwrap_or_else(PoisonError::into_inner);
        }
        let (state, stuck) = (journal.state, !journal.unwritten.is_empty());
        drop(journal);
        if state == State::Open {
            std::thread::sleep(if stuck { RETRY_PAUSE } else { SYNC_WINDOW });
        }
        let synced = sync(shared);
        let mut journal = shared.lock();
        if let Err(error) = synced {
            tracing::error!(error = %error, "the ledger cannot be synced and grants nothing until a restart");
            journal.state = State::Ended;
        }
        match journal.state {
            State::Open => {}
            State::Closing if journal.wanted > 0 && journal.unwritten.is_empty() => continue,
            State::Closing | State::Ended => {
                if !journal.unwritten.is_empty() {
                    tracing::error!(
                        bytes = journal.unwritten.len(),
                        "the disk did not take these settlements; they are charged in full at the next start"
                    );
                }
                journal.state = State::Ended;
                drop(journal);
                shared.durable.send_replace(Durable::Never);
                return;
            }
        }
        let full = journal.end >= shared.segment_bytes && journal.unwritten.is_empty();
        drop(journal);
        if full && let Err(error) = roll(shared) {
            tracing::error!(error = %error, "a new segment cannot be begun; the old one goes on");
            std::thread::sleep(RETRY_PAUSE);
        }
    }
}

/// Makes durable what is written now.
pub(super) fn sync(shared: &Shared) -> Result<(), LedgerError> {
    let mut journal = shared.lock();
    journal.write_unwritten();
    let (file, position, seq) = (Arc::clone(&journal.file), journal.position, journal.written_seq);
    let path = journal.path();
    journal.wanted = 0;
    drop(journal);
    file.sync_data().map_err(io_failed("syncing", &path))?;
    let mut journal = shared.lock();
    journal.durable_seq = seq;
    drop(journal);
    shared.durable.send_replace(Durable::Upto(position));
    Ok(())
}

/// Begins the next segment while the old one goes on: its checkpoint is taken under the lock and synced outside.
pub(super) fn roll(shared: &Shared) -> Result<(), LedgerError> {
    let mut journal = shared.lock();
    let (number, first_seq) = (journal.current().number + 1, journal.books.next_seq);
    let bytes = checkpoint(&journal.books, number)?;
    journal.since_checkpoint = Some(Vec::new());
    let (old, dir) = (Arc::clone(&journal.file), journal.dir.clone());
    drop(journal);
    let part = segment::part_of(&dir, number);
    let prepared = segment::create(&part).and_then(|file| {
        file.write_all_at(&bytes, 0)?;
        file.sync_all()?;
        // Rows before `first_seq` are read from the old segment for ever.
        old.sync_all()?;
        Ok(file)
    });
    let mut journal = shared.lock();
    let switched = prepared.and_then(|file| journal.switch(number, first_seq, file, bytes.len() as u64));
    journal.since_checkpoint = None;
    if switched.is_ok() && segment::sync_names(&dir).is_err() {
        // The next sync would be one of a file that may have no name.
        journal.state = State::Ended;
    }
    drop(journal);
    switched.map_err(io_failed("beginning", &part))?;
    tracing::info!(segment = number, "a new segment of the ledger");
    Ok(())
}

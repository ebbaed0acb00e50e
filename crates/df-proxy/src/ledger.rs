//! The ledger: who may still spend what, and what was spent. RFC 0003.
//!
//! Budgets are kept in memory and changed in the caller's thread; each change is a frame in an append-only journal. A
//! reservation is written, not synced, before it is granted; settlements are written at once and synced in groups, so
//! that no answer waits for the disk. Whatever is still reserved when the journal is read again is charged in full
//! as `estimated`.
//!
//! What it deliberately does not know: providers, prices, HTTP.

mod books;
mod budget;
mod frame;
mod import;
mod journal;
mod keys;
mod read;
mod segment;
mod sync;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use df_contract::api::{Revocation, UsagePage};
use df_contract::grant::BudgetCap;
use df_contract::{AttemptId, JobId, NanoUsd, TaskSlug, TenantId, Timestamp, Tokens};
use serde::{Deserialize, Serialize};

pub(crate) use budget::Exhausted;
pub(crate) use keys::{KEY_PREFIX, KeyError, KeyView, NewKey, StandingKey};
pub(crate) use read::{AccountTotal, JobTotal, RowView};

use crate::clock;
use crate::usage::Usage;
use frame::{Revoked, Unwritable};
use journal::Journal;
use segment::io_failed;
use sync::{Durable, SEGMENT_BYTES, Shared};

/// Most rows of one page of usage.
pub(crate) const MAX_PAGE: u32 = 1000;
const JOURNAL: &str = "journal";
/// What earlier versions kept, and its name once it has been taken over.
const OLD: &str = "ledger.sqlite";
const OLD_IMPORTED: &str = "ledger.sqlite.imported";

/// Why the ledger did not do as asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LedgerError {
    #[error(transparent)]
    Exhausted(#[from] Exhausted),
    #[error("the grant of task {task} up to epoch {epoch} was withdrawn")]
    Revoked { task: TaskSlug, epoch: u64 },
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("{0}")]
    KeyInvalid(String),
    #[error("there is no key `{0}`")]
    KeyUnknown(String),
    #[error("the job's plan {newest} is in force, and the grant is of an earlier one")]
    Superseded { newest: u64 },
    #[error("the ledger is closed")]
    Closed,
    #[error("the ledger failed while {doing} {path}")]
    Io {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(
        "{path} is damaged at byte {offset}: {why} is not sound. Restore it from a copy; nothing was changed"
    )]
    Damaged { path: PathBuf, offset: u64, why: &'static str },
    #[error("the segment {path} of the ledger is missing. Restore it from a copy; nothing was changed")]
    Missing { path: PathBuf },
    #[error("the ledger has format {0}, which is newer than this program knows")]
    Newer(u32),
    #[error(transparent)]
    Unwritable(#[from] Unwritable),
    #[error("ledger.sqlite cannot be taken over")]
    Import {
        #[source]
        source: rusqlite::Error,
    },
    #[error("ledger.sqlite holds what cannot be taken over: {0}")]
    Row(String),
}

/// Whose money it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Spender {
    Grant {
        tenant: TenantId,
        #[serde(with = "frame::uuid_bytes")]
        job: JobId,
        task: TaskSlug,
        epoch: u64,
        #[serde(with = "frame::uuid_bytes")]
        attempt: AttemptId,
    },
    /// A standing key of the proxy's own.
    Key { tenant: TenantId, key: String },
}

/// For whom, through which account, with which model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Payer {
    pub(crate) by: Spender,
    pub(crate) account: String,
    pub(crate) model: String,
}

/// Which row of the price table made the amount: the start of the SHA-256 of its canonical form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PriceVersion(pub(crate) [u8; 8]);

/// Tokens and money, reserved or spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Amount {
    pub(crate) usage: Usage,
    pub(crate) nano_usd: NanoUsd,
    /// None if nothing was priced.
    pub(crate) price: Option<PriceVersion>,
}

impl Amount {
    pub(crate) fn tokens(&self) -> Tokens {
        self.usage.total()
    }
}

/// How an upstream attempt ended, for the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The provider said what it used.
    Settled(Amount),
    /// Nobody said: the reservation is charged in full.
    Estimated,
    /// It cost nothing: refused, or never reached.
    Failed,
}

/// Handle on the books and on the thread that syncs them. When the last is dropped, the thread writes out and ends.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    shared: Arc<Shared>,
    thread: Arc<Thread>,
}

#[derive(Debug)]
struct Thread {
    shared: Arc<Shared>,
    handle: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl Ledger {
    /// Opens the journal in `data_dir`, takes over an older ledger, and charges what the last process left open.
    pub(crate) async fn open(data_dir: PathBuf) -> Result<Self, LedgerError> {
        Self::open_with(data_dir, SEGMENT_BYTES).await
    }

    async fn open_with(data_dir: PathBuf, segment_bytes: u64) -> Result<Self, LedgerError> {
        let open = move || Self::open_now(&data_dir, segment_bytes);
        tokio::task::spawn_blocking(open).await.map_err(|_| LedgerError::Closed)?
    }

    fn open_now(data_dir: &Path, segment_bytes: u64) -> Result<Self, LedgerError> {
        let dir = prepare(data_dir)?;
        let mut journal = Journal::open(&dir)?;
        let mut left_open: Vec<u64> = journal.books.open.keys().copied().collect();
        left_open.sort_unstable();
        if !left_open.is_empty() {
            tracing::warn!(reservations = left_open.len(), "charging what the last process left open");
        }
        for id in left_open {
            journal.settle(clock::now(), id, Outcome::Estimated);
        }
        let shared = Arc::new(Shared::new(journal, segment_bytes));
        sync::sync(&shared)?;
        let for_thread = Arc::clone(&shared);
        let handle = std::thread::Builder::new()
            .name("ledger".into())
            .spawn(move || sync::run(&for_thread))
            .map_err(io_failed("starting the thread of", &dir))?;
        let thread = Thread { shared: Arc::clone(&shared), handle: Mutex::new(Some(handle)) };
        Ok(Self { shared, thread: Arc::new(thread) })
    }

    /// Holds `amount` on every level of `caps`, or on none. Writes to the journal and waits for no sync.
    pub(crate) fn reserve(
        &self,
        payer: Payer,
        caps: &[BudgetCap],
        amount: Amount,
    ) -> Result<Reservation, LedgerError> {
        let at = clock::now();
        let id = self.shared.change(|journal| journal.reserve(at, payer, caps, amount))?;
        Ok(Reservation { id, shared: Arc::clone(&self.shared), open: true })
    }

    /// Kills the grants of a task up to an epoch; durable when it returns.
    pub(crate) async fn revoke(&self, revocation: Revocation) -> Result<(), LedgerError> {
        let Revocation { job, task, epoch } = revocation;
        let revoked = Revoked { job, task, epoch };
        let position = self.shared.change(|journal| journal.revoke(revoked))?;
        self.durable(position).await
    }

    async fn durable(&self, position: u64) -> Result<(), LedgerError> {
        let mut durable = self.shared.durable.subscribe();
        let reached = durable.wait_for(|now| match now {
            Durable::Upto(upto) => *upto >= position,
            Durable::Never => true,
        });
        match *reached.await.map_err(|_| LedgerError::Closed)? {
            Durable::Upto(_) => Ok(()),
            Durable::Never => Err(LedgerError::Closed),
        }
    }

    /// Writes and syncs what is pending; the thread ends.
    pub(crate) async fn close(&self) {
        self.shared.close();
        let handle = self.thread.handle.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(handle) = handle {
            let _ended = tokio::task::spawn_blocking(move || handle.join()).await;
        }
    }

    /// Settled usage of jobs after `after`, oldest first.
    pub(crate) async fn usage(&self, after: u64, limit: u32) -> Result<UsagePage, LedgerError> {
        let (shared, limit) = (Arc::clone(&self.shared), limit.clamp(1, MAX_PAGE) as usize);
        tokio::task::spawn_blocking(move || read::usage(&shared, after, limit))
            .await
            .map_err(|_| LedgerError::Closed)?
    }

    /// All rows after `after`, oldest first, whoever paid and however they ended.
    pub(crate) async fn rows(&self, after: u64, limit: u32) -> Result<Vec<RowView>, LedgerError> {
        let (shared, limit) = (Arc::clone(&self.shared), limit.clamp(1, MAX_PAGE) as usize);
        let read = move || read::rows(&shared, after, limit);
        let rows = tokio::task::spawn_blocking(read).await.map_err(|_| LedgerError::Closed)??;
        Ok(rows.into_iter().map(RowView::of).collect())
    }

    /// Makes a standing key; answers how it looks and its text, which is kept nowhere. Durable when it returns.
    pub(crate) async fn key_add(&self, new: NewKey) -> Result<(KeyView, String), LedgerError> {
        keys::check(&new)?;
        let (key, text) = StandingKey::mint(new, clock::now());
        let key = Arc::new(key);
        let position = self.shared.change(|journal| {
            if journal.books.keys.len() >= keys::MAX_KEYS {
                return Err(LedgerError::KeyInvalid(format!("there are {} keys already", keys::MAX_KEYS)));
            }
            journal.put_key(Arc::clone(&key))
        })?;
        self.durable(position).await?;
        Ok((KeyView::of(&key, budget::Sum::default()), text))
    }

    /// Withdraws a key for ever; durable when it returns. A key that was revoked before stays as it was.
    pub(crate) async fn key_revoke(&self, id: &str) -> Result<(), LedgerError> {
        let now = clock::now();
        let position = self.shared.change(|journal| {
            let key = journal.books.keys.get(id).ok_or_else(|| LedgerError::KeyUnknown(id.to_owned()))?;
            let revoked = Arc::new(key.revoked(now));
            journal.put_key(revoked)
        })?;
        self.durable(position).await
    }

    /// The key whose text this is, if it may be used now.
    pub(crate) fn key(&self, text: &str, now: Timestamp) -> Result<Arc<StandingKey>, KeyError> {
        self.shared.lock().books.keys.named_by(text, now)
    }

    pub(crate) fn keys(&self) -> Vec<KeyView> {
        let (now, journal) = (clock::now(), self.shared.lock());
        let spent = |key: &StandingKey| journal.books.budgets.spent(&key.cap(now).account);
        journal.books.keys.all().map(|key| KeyView::of(key, spent(key))).collect()
    }

    pub(crate) fn account_totals(&self) -> Vec<AccountTotal> {
        read::account_totals(&self.shared)
    }

    pub(crate) fn job_totals(&self) -> Vec<JobTotal> {
        read::job_totals(&self.shared)
    }
}

/// The journal's directory; an older ledger is taken over when there is none.
fn prepare(data_dir: &Path) -> Result<PathBuf, LedgerError> {
    let (dir, old) = (data_dir.join(JOURNAL), data_dir.join(OLD));
    let exists = |path: &Path| path.try_exists().map_err(io_failed("looking for", path));
    if !exists(&dir)? {
        let part = data_dir.join("journal.part");
        if exists(&part)? {
            for number in segment::list(&part)? {
                let path = segment::path_of(&part, number);
                std::fs::remove_file(&path).map_err(io_failed("clearing", &path))?;
            }
        } else {
            std::fs::create_dir(&part).map_err(io_failed("creating", &part))?;
        }
        if exists(&old)? {
            import::import(&old, &part)?;
            tracing::info!("ledger.sqlite was taken over by the journal");
        }
        std::fs::rename(&part, &dir).map_err(io_failed("naming", &dir))?;
        segment::sync_names(data_dir).map_err(io_failed("naming", &dir))?;
    }
    if exists(&old)? {
        std::fs::rename(&old, data_dir.join(OLD_IMPORTED)).map_err(io_failed("renaming", &old))?;
    }
    Ok(dir)
}

/// Something held. It is settled once; dropped unsettled, it is charged in full.
#[derive(Debug)]
pub(crate) struct Reservation {
    id: u64,
    shared: Arc<Shared>,
    open: bool,
}

impl Reservation {
    pub(crate) fn settle(mut self, outcome: Outcome) {
        self.end(outcome);
    }

    fn end(&mut self, outcome: Outcome) {
        if std::mem::take(&mut self.open) {
            let at = clock::now();
            self.shared.change(|journal| journal.settle(at, self.id, outcome));
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.end(Outcome::Estimated);
    }
}

#[cfg(test)]
mod tests;

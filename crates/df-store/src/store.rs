//! The handle: asynchronous verbs over either backend.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use df_contract::api::JobSummary;
use df_contract::lease::{HeldLease, ProgressLine};
use df_contract::{Digest, JobEventView, JobId, JobState, KeyId, SessionId, TaskSlug, Timestamp};
use df_control_audit::AuditRecord;
use df_control_machine::{Command, JobRecord, Rejection};
use tokio::sync::broadcast;

use crate::cache::Cache;
use crate::claim::claim;
use crate::memory::Memory;
use crate::owner::Owner;
use crate::row::{ClaimRequest, JobFilter, KeyRow, OutboxRow, Outcome, ReapRequest, Reaped, SessionRow};
use crate::rows::{Kept, Rows};
use crate::sqlite::{ReadPool, Sqlite};
use crate::transition::apply;
use crate::{Refused, StoreError, lease};

/// Where the proxy's ledger has been read up to.
const USAGE_CURSOR: &str = "usage_cursor";

/// One store, shared by cloning. Writes go through one owner and are acknowledged once durable.
#[derive(Clone)]
pub struct Store {
    pub(crate) owner: Owner,
    /// Without it reads go through the owner.
    readers: Option<Arc<ReadPool>>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store")
    }
}

impl Store {
    /// A store that forgets everything when it is dropped.
    pub fn memory() -> Result<Self, StoreError> {
        Ok(Self::of(Owner::spawn(Memory::default(), Cache::default())?, None))
    }

    /// Opens the SQLite store in `dir`, creating both when missing. [`StoreError::Locked`] when another process has
    /// it, [`StoreError::Newer`] when a newer program wrote it. Reads need a tokio runtime.
    pub fn open_sqlite(dir: &Path) -> Result<Self, StoreError> {
        Ok(Self::of(Owner::spawn(Sqlite::open(dir)?, Cache::default())?, Some(dir)))
    }

    /// With `readers` in a directory, or reading through the owner.
    pub(crate) fn of(owner: Owner, readers: Option<&Path>) -> Self {
        Self { owner, readers: readers.map(|dir| Arc::new(ReadPool::open(dir))) }
    }

    /// Ends the store after what is queued. Other handles get [`StoreError::Closed`] from then on.
    pub async fn close(&self) {
        if let Some(readers) = &self.readers {
            readers.close();
        }
        self.owner.close().await;
    }

    /// Ids of jobs that changed. A hint only: it may be late, missing or doubled; read the job to know.
    pub fn subscribe(&self) -> broadcast::Receiver<JobId> {
        self.owner.subscribe()
    }

    pub(crate) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Rows) -> Kept<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        match &self.readers {
            Some(readers) => readers.clone().read(work).await,
            None => self.owner.call(move |tx| work(tx.rows)).await,
        }
    }

    /// Applies commands in order, in one transaction; each is taken or refused on its own.
    ///
    /// A known command id returns its first outcome. Send a retry with the same body: the id is bound to it.
    pub async fn commit(&self, commands: Vec<Command>) -> Result<Vec<Result<Outcome, Refused>>, StoreError> {
        self.owner.call(move |tx| commands.iter().map(|command| apply(tx, command)).collect()).await
    }

    /// [`Store::commit`] of usage settled by the proxy, moving the ledger's cursor from `after` in the same transaction.
    ///
    /// `None`, and no change, where the cursor is elsewhere by now: whoever read up to `after` and was given up while its
    /// commit was on the way may have been first, and the same rows would be charged twice.
    ///
    /// A job whose rows are damaged is answered as unknown, so that it does not hold up the ledger for all others.
    pub async fn commit_spend(
        &self,
        after: u64,
        cursor: u64,
        commands: Vec<Command>,
    ) -> Result<Option<Vec<Result<Outcome, Refused>>>, StoreError> {
        self.owner
            .call(move |tx| {
                if cursor_of(tx.rows.meta(USAGE_CURSOR)?)? != after {
                    return Ok(None);
                }
                let mut outcomes = Vec::with_capacity(commands.len());
                for command in &commands {
                    outcomes.push(match lease::readable(tx, command.job)? {
                        Some(_) => apply(tx, command)?,
                        None => Err(Rejection::JobUnknown.into()),
                    });
                }
                tx.rows.meta_write(USAGE_CURSOR, &cursor.to_string())?;
                Ok(Some(outcomes))
            })
            .await
    }

    /// Where [`Store::commit_spend`] has come to; 0 at first.
    pub async fn usage_cursor(&self) -> Result<u64, StoreError> {
        cursor_of(self.meta_get(USAGE_CURSOR).await?)
    }
}

fn cursor_of(text: Option<String>) -> Result<u64, StoreError> {
    let parse = |text: String| {
        text.parse().map_err(|_| StoreError::Row { table: "meta", why: format!("usage cursor `{text}`") })
    };
    text.map_or(Ok(0), parse)
}

/// Jobs.
impl Store {
    pub async fn job(&self, id: JobId) -> Result<Option<JobRecord>, StoreError> {
        self.read(move |rows| Ok(rows.job(id)?.map(|row| Arc::unwrap_or_clone(row.record)))).await
    }

    /// [`Store::job`] from what the writer has at hand: reads nothing for a job that was touched lately, however many
    /// tasks it has. Waits for the writes that are ahead of it, so it is for those who would write next.
    pub async fn job_at_hand(&self, id: JobId) -> Result<Option<Arc<JobRecord>>, StoreError> {
        self.owner.call(move |tx| Ok(tx.job(id)?.map(|row| row.record))).await
    }

    /// Newest first; `after` is the last job of the page before.
    pub async fn job_list(&self, filter: JobFilter) -> Result<Vec<JobSummary>, StoreError> {
        self.read(move |rows| rows.job_list(&filter)).await
    }

    /// Every job that has not ended, oldest first.
    pub async fn jobs_active(&self) -> Result<Vec<JobId>, StoreError> {
        self.read(|rows| rows.jobs_active()).await
    }

    pub async fn job_count_by_state(&self) -> Result<BTreeMap<JobState, u64>, StoreError> {
        self.read(|rows| rows.job_count_by_state()).await
    }

    /// Events with a number above `after`, in order, without gaps.
    pub async fn events(&self, job: JobId, after: u64, limit: u32) -> Result<Vec<JobEventView>, StoreError> {
        self.read(move |rows| rows.events(job, after, limit)).await
    }

    /// The job's whole chain, oldest first.
    pub async fn audit(&self, job: JobId) -> Result<Vec<AuditRecord>, StoreError> {
        self.read(move |rows| rows.audit(job)).await
    }
}

/// Sessions and leases.
impl Store {
    pub async fn session_open(&self, row: SessionRow) -> Result<(), StoreError> {
        self.owner.call(move |tx| tx.rows.session_write(&row)).await
    }

    pub async fn session(&self, id: SessionId) -> Result<Option<SessionRow>, StoreError> {
        self.read(move |rows| rows.session(id)).await
    }

    /// Every session with the number of leases it holds.
    pub async fn session_list(&self) -> Result<Vec<(SessionRow, u32)>, StoreError> {
        self.read(lease::sessions_with_held).await
    }

    /// Extends the session by [`df_contract::lease::SESSION_TTL`] and returns the leases it has lost.
    /// [`StoreError::SessionGone`] when it has expired.
    pub async fn session_heartbeat(
        &self,
        id: SessionId,
        now: Timestamp,
        held: Vec<HeldLease>,
    ) -> Result<Vec<HeldLease>, StoreError> {
        self.owner.call(move |tx| lease::heartbeat(tx, id, now, &held)).await
    }

    /// What of `held` the session does not have any more. Reads alone.
    pub async fn leases_lost(
        &self,
        id: SessionId,
        held: Vec<HeldLease>,
    ) -> Result<Vec<HeldLease>, StoreError> {
        self.read(move |rows| lease::lost(rows, id, &held)).await
    }

    /// Ends the session; the next [`Store::reap`] gives its tasks back.
    pub async fn session_close(&self, id: SessionId) -> Result<(), StoreError> {
        self.owner.call(move |tx| lease::close(tx, id)).await
    }

    /// Leases waiting tasks to a session, as the scheduler chooses: at most one per mint, never beyond its capacity or
    /// what it can do.
    pub async fn claim(&self, request: ClaimRequest) -> Result<Vec<(Arc<JobRecord>, TaskSlug)>, StoreError> {
        self.owner.call(move |tx| claim(tx, &request)).await
    }

    /// Takes back leases that ended without a report and forgets dead sessions.
    pub async fn reap(&self, request: ReapRequest) -> Result<Reaped, StoreError> {
        self.owner.call(move |tx| lease::reap(tx, &request)).await
    }

    /// Epoch and session of a task that is leased now.
    pub async fn lease_holder(
        &self,
        job: JobId,
        slug: TaskSlug,
    ) -> Result<Option<(u64, SessionId)>, StoreError> {
        self.read(move |rows| lease::holder(rows, job, &slug)).await
    }

    /// Keeps progress lines of a held lease as events; `first` is the worker's number of the first line, so that a
    /// batch sent again is kept once.
    pub async fn progress_append(
        &self,
        held: HeldLease,
        first: u64,
        lines: Vec<ProgressLine>,
        now: Timestamp,
    ) -> Result<Result<(), Refused>, StoreError> {
        self.owner.call(move |tx| lease::progress(tx, &held, first, &lines, now)).await
    }
}

/// Results that came too late.
impl Store {
    /// Says in the job's events that a result under `held` was refused because the lease had ended. Does nothing for
    /// tasks that are not there.
    pub async fn note_stale(
        &self,
        held: HeldLease,
        trace: Option<Digest>,
        evidence: Vec<Digest>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.owner.call(move |tx| lease::note_stale(tx, &held, trace, &evidence, now)).await
    }
}

/// Outbox, keys, and small facts.
impl Store {
    /// Effects still to be done after the one with that id, oldest first; 0 = from the beginning.
    pub async fn outbox_due(&self, after: u64, limit: u32) -> Result<Vec<OutboxRow>, StoreError> {
        self.read(move |rows| rows.outbox_due(after, limit)).await
    }

    pub async fn outbox_done(&self, id: u64, now: Timestamp) -> Result<(), StoreError> {
        self.owner.call(move |tx| tx.rows.outbox_done(id, now)).await
    }

    pub async fn key_insert(&self, row: KeyRow) -> Result<(), StoreError> {
        self.owner.call(move |tx| tx.rows.key_insert(&row)).await
    }

    /// The key whose secret has this SHA-256, live or not: see [`KeyRow::is_live`].
    pub async fn key_by_hash(&self, hash: Digest) -> Result<Option<KeyRow>, StoreError> {
        self.read(move |rows| rows.key_by_hash(&hash)).await
    }

    pub async fn key_list(&self) -> Result<Vec<KeyRow>, StoreError> {
        self.read(|rows| rows.keys()).await
    }

    /// Whether there was such a key.
    pub async fn key_revoke(&self, id: KeyId) -> Result<bool, StoreError> {
        self.owner.call(move |tx| tx.rows.key_revoke(id)).await
    }

    pub async fn meta_get(&self, name: &str) -> Result<Option<String>, StoreError> {
        let name = name.to_owned();
        self.read(move |rows| rows.meta(&name)).await
    }

    pub async fn meta_set(&self, name: &str, value: &str) -> Result<(), StoreError> {
        let (name, value) = (name.to_owned(), value.to_owned());
        self.owner.call(move |tx| tx.rows.meta_write(&name, &value)).await
    }
}

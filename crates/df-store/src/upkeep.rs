//! What reconcilers look for: jobs whose time has come, open jobs in pages, and rows that nobody needs any more.

use std::collections::{BTreeMap, BTreeSet};

use df_contract::{Digest, JobId, TenantId, Timestamp};
use df_control_machine::due::due_at;
use df_control_machine::schedule::{Breakers, Running};
use df_control_machine::{Breaker, BreakerKey};

use crate::row::{JobRow, MAX_PAGE, SessionRow};
use crate::rows::Kept;
use crate::transition::Tx;
use crate::{Store, StoreError, lease};

/// Where a page of open jobs ended.
pub type OpenJob = (TenantId, JobId);
/// Where a page of due jobs ended.
pub type DueJob = (Timestamp, JobId);

/// What decides whether ready tasks can be claimed.
#[derive(Debug, Clone, Default)]
pub struct Pressure {
    /// With the number of leases each holds.
    pub sessions: Vec<(SessionRow, u32)>,
    pub running: Running,
    /// Of each worker that has any, and of at most [`MAX_PAGE`] agents in all.
    pub breakers: BTreeMap<String, Breakers>,
}

/// What a blob is kept as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum KeptAs {
    /// A trace or a log: whoever may see the job may read it.
    Evidence,
    /// The bundle of a tree: kept, and read by nobody but workers.
    Tree,
}

/// The part of the rows that reconcilers use.
pub(crate) trait Upkeep {
    fn job_due_write(&mut self, job: JobId, due: Option<Timestamp>) -> Kept<()>;
    /// Jobs due at or before `now`, the longest overdue first.
    fn jobs_due(&self, now: Timestamp, after: Option<DueJob>, limit: u32) -> Kept<Vec<DueJob>>;
    /// Jobs that have not ended, in an order that never changes.
    fn jobs_open(&self, after: Option<&OpenJob>, limit: u32) -> Kept<Vec<OpenJob>>;
    fn jobs_open_count(&self, tenant: Option<&TenantId>) -> Kept<u64>;
    /// Forgets effects that were done before `before`; returns how many, at most `limit`.
    fn outbox_forget(&mut self, before: Timestamp, limit: u32) -> Kept<u64>;
    /// Takes out of `among` every digest that the records of a page of jobs name; answers the page's last job.
    fn blobs_named(
        &self,
        among: &mut BTreeSet<Digest>,
        after: Option<JobId>,
        limit: u32,
    ) -> Kept<Option<JobId>>;
    /// Keeps blobs for a job, whether its record names them or not.
    fn blobs_keep(&mut self, job: JobId, kept_as: KeptAs, digests: &[Digest]) -> Kept<()>;
    /// Whether a blob is kept as evidence.
    fn blob_kept(&self, job: JobId, digest: &Digest) -> Kept<bool>;
}

/// Digests in a text: runs of exactly 64 lower-case hex digits. Reading them off the text instead of a type means that
/// a new field that names a blob is never forgotten here.
fn digests_in(text: &str) -> impl Iterator<Item = Digest> + '_ {
    let words = text.split(|c: char| !matches!(c, '0'..='9' | 'a'..='f'));
    words.filter(|word| word.len() == DIGEST_DIGITS).filter_map(|word| word.parse().ok())
}

/// Takes out of `among` every digest that `text` names.
pub(crate) fn take_named(among: &mut BTreeSet<Digest>, text: &str) {
    for digest in digests_in(text) {
        among.remove(&digest);
    }
}

const DIGEST_DIGITS: usize = 64;

/// Jobs whose records are read at once.
const JOBS_PER_READ: u32 = 64;

/// Keeps the moment at which time alone moves the job, where it has changed.
pub(crate) fn keep_due(tx: &mut Tx<'_>, before: Option<&JobRow>, after: &JobRow) -> Kept<()> {
    let due = due_at(&after.record);
    if before.and_then(|row| due_at(&row.record)) == due {
        return Ok(());
    }
    tx.rows.job_due_write(after.record.id, due)
}

impl Store {
    /// Jobs that time alone moves at or before `now`, the longest overdue first; `after` is the last of the page
    /// before.
    pub async fn jobs_due(
        &self,
        now: Timestamp,
        after: Option<DueJob>,
        limit: u32,
    ) -> Result<Vec<DueJob>, StoreError> {
        self.read(move |rows| rows.jobs_due(now, after, limit)).await
    }

    /// Jobs that have not ended, page by page.
    pub async fn jobs_open(&self, after: Option<OpenJob>, limit: u32) -> Result<Vec<OpenJob>, StoreError> {
        self.read(move |rows| rows.jobs_open(after.as_ref(), limit)).await
    }

    /// How many jobs have not ended: of one tenant, or of all.
    pub async fn jobs_open_count(&self, tenant: Option<TenantId>) -> Result<u64, StoreError> {
        self.read(move |rows| rows.jobs_open_count(tenant.as_ref())).await
    }

    /// Sessions with what they hold, leases by what they count for, and breakers, at one moment.
    pub async fn pressure(&self) -> Result<Pressure, StoreError> {
        self.read(|rows| {
            let (sessions, running) = (lease::sessions_with_held(rows)?, rows.running()?);
            let mut breakers: BTreeMap<String, Breakers> = BTreeMap::new();
            for (key, breaker) in rows.breakers(None, MAX_PAGE)? {
                let own = breakers.entry(key.worker).or_default();
                own.entry(key.tenant).or_default().insert(key.runner, breaker);
            }
            Ok(Pressure { sessions, running, breakers })
        })
        .await
    }

    /// Breakers that are kept, of one tenant or of all, in an order that never changes; at most [`MAX_PAGE`].
    pub async fn breakers(&self, tenant: Option<TenantId>) -> Result<Vec<(BreakerKey, Breaker)>, StoreError> {
        self.read(move |rows| rows.breakers(tenant.as_ref(), MAX_PAGE)).await
    }

    /// Forgets breakers of workers that were last there before `before`: a worker is there while it has a session.
    /// Returns how many, at most `limit`.
    pub async fn breakers_forget(
        &self,
        now: Timestamp,
        before: Timestamp,
        limit: u32,
    ) -> Result<u64, StoreError> {
        let forget = move |tx: &mut Tx<'_>| {
            let workers = tx.rows.sessions()?.into_iter().filter(|row| now < row.expires_at);
            let workers = workers.map(|row| row.name).collect();
            tx.rows.breakers_seen(&workers, now)?;
            tx.rows.breakers_forget(before, limit)
        };
        self.owner.call(forget).await
    }

    /// What of `among` no job names or keeps.
    pub async fn blobs_unnamed(&self, mut among: BTreeSet<Digest>) -> Result<BTreeSet<Digest>, StoreError> {
        let mut after = None;
        loop {
            let page = self.read(move |rows| {
                let last = rows.blobs_named(&mut among, after, JOBS_PER_READ)?;
                Ok((among, last))
            });
            (among, after) = page.await?;
            if after.is_none() || among.is_empty() {
                return Ok(among);
            }
        }
    }

    /// Whether a blob is kept as evidence for a job, whether its record names it or not.
    pub async fn blob_kept(&self, job: JobId, digest: Digest) -> Result<bool, StoreError> {
        self.read(move |rows| rows.blob_kept(job, &digest)).await
    }

    /// Forgets effects that were done before `before`; returns how many, at most `limit`.
    pub async fn outbox_forget(&self, before: Timestamp, limit: u32) -> Result<u64, StoreError> {
        self.owner.call(move |tx| tx.rows.outbox_forget(before, limit)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_found_wherever_a_text_names_them() {
        let (one, two) = (Digest::of(b"one"), Digest::of(b"two"));
        let text = format!(
            r#"{{"a":"{one}","b":["sha256:{two}"],"c":"{one}0","d":"abc","e":"{}"}}"#,
            two.as_str().to_uppercase()
        );
        assert_eq!(digests_in(&text).collect::<Vec<_>>(), [one, two]);
    }
}

//! What reconcilers look for: jobs whose time has come, open jobs in pages, and rows that nobody needs any more.

use df_contract::{JobId, TenantId, Timestamp};
use df_control_machine::due::due_at;

use crate::row::JobRow;
use crate::rows::Kept;
use crate::transition::Tx;
use crate::{Store, StoreError};

/// Where a page of open jobs ended.
pub type OpenJob = (TenantId, JobId);
/// Where a page of due jobs ended.
pub type DueJob = (Timestamp, JobId);

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
}

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

    /// Forgets effects that were done before `before`; returns how many, at most `limit`.
    pub async fn outbox_forget(&self, before: Timestamp, limit: u32) -> Result<u64, StoreError> {
        self.owner.call(move |tx| tx.rows.outbox_forget(before, limit)).await
    }
}

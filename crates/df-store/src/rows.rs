//! The rows under one transaction: what a backend must be able to do, and no more. Every decision is made above,
//! once, in Rust; a backend only finds and keeps.

use std::collections::BTreeMap;

use df_contract::api::JobSummary;
use df_contract::{CommandId, Digest, JobEventView, JobId, JobState, KeyId, SessionId, TaskSlug, Timestamp};
use df_control_audit::AuditRecord;
use df_control_machine::Effect;

use crate::StoreError;
use crate::agents::AgentRows;
use crate::row::{CommandRow, JobFilter, JobRow, KeyRow, LeaseRow, OutboxRow, ProgressCount, SessionRow};

pub(crate) type Kept<T> = Result<T, StoreError>;

/// Two implementers: [`crate::memory::Memory`] and [`crate::sqlite::Sqlite`].
pub(crate) trait Rows: crate::upkeep::Upkeep + crate::queue::Queues + AgentRows {
    fn command(&self, id: CommandId) -> Kept<Option<CommandRow>>;
    fn command_insert(&mut self, id: CommandId, row: &CommandRow) -> Kept<()>;

    fn job(&self, id: JobId) -> Kept<Option<JobRow>>;
    /// Writes where the version, and every changed task's epoch, is still that of `before`.
    fn job_write(&mut self, before: Option<&JobRow>, after: &JobRow) -> Kept<()>;
    fn job_list(&self, filter: &JobFilter) -> Kept<Vec<JobSummary>>;
    /// Oldest first.
    fn jobs_active(&self) -> Kept<Vec<JobId>>;
    fn job_count_by_state(&self) -> Kept<BTreeMap<JobState, u64>>;

    fn audit_insert(&mut self, record: &AuditRecord) -> Kept<()>;
    fn audit(&self, job: JobId) -> Kept<Vec<AuditRecord>>;
    fn event_insert(&mut self, event: &JobEventView) -> Kept<()>;
    fn events(&self, job: JobId, after: u64, limit: u32) -> Kept<Vec<JobEventView>>;

    fn outbox_insert(&mut self, job: JobId, effect: &Effect, at: Timestamp) -> Kept<()>;
    fn outbox_due(&self, after: u64, limit: u32) -> Kept<Vec<OutboxRow>>;
    fn outbox_done(&mut self, id: u64, at: Timestamp) -> Kept<()>;

    fn lease(&self, job: JobId, slug: &TaskSlug) -> Kept<Option<LeaseRow>>;
    fn leases_held(&self, session: SessionId) -> Kept<u32>;
    /// What a session holds, at most `limit`.
    fn leases_of(&self, session: SessionId, limit: u32) -> Kept<Vec<LeaseRow>>;
    /// LEASED tasks whose session is gone or expired, whose deadline has passed, or that last made progress at or
    /// before `stalled`.
    fn leases_ended(&self, now: Timestamp, stalled: Timestamp, limit: u32) -> Kept<Vec<LeaseRow>>;
    fn progress_count(&self, job: JobId) -> Kept<ProgressCount>;
    fn count_write(&mut self, job: JobId, count: ProgressCount) -> Kept<()>;
    fn progress_write(&mut self, lease: &LeaseRow) -> Kept<()>;

    fn session(&self, id: SessionId) -> Kept<Option<SessionRow>>;
    fn session_write(&mut self, row: &SessionRow) -> Kept<()>;
    fn session_delete(&mut self, id: SessionId) -> Kept<()>;
    fn sessions(&self) -> Kept<Vec<SessionRow>>;

    fn key_insert(&mut self, row: &KeyRow) -> Kept<()>;
    fn key_by_hash(&self, hash: &Digest) -> Kept<Option<KeyRow>>;
    fn keys(&self) -> Kept<Vec<KeyRow>>;
    fn key_revoke(&mut self, id: KeyId) -> Kept<bool>;

    fn meta(&self, name: &str) -> Kept<Option<String>>;
    fn meta_write(&mut self, name: &str, value: &str) -> Kept<()>;
}

/// Why a job's row could not be written where `before` said it was.
pub(crate) fn moved(what: impl std::fmt::Display) -> StoreError {
    StoreError::Invariant(format!("{what} is not at the version that was decided on"))
}

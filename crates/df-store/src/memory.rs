//! The store without a disk: the reference that the databases are compared with, and the tests' store.

mod agents;
mod queues;
mod upkeep;

use std::collections::{BTreeMap, HashMap};

use df_contract::api::JobSummary;
use df_contract::{
    CommandId, Digest, JobEventView, JobId, JobState, KeyId, SessionId, TaskSlug, TaskState, TenantId,
    Timestamp,
};
use df_control_audit::AuditRecord;
use df_control_machine::job::is_terminal;
use df_control_machine::{Breaker, BreakerKey, Effect, JobRecord, TaskRecord};

use crate::StoreError;
use crate::owner::Engine;
use crate::row::{
    CommandRow, JobFilter, JobRow, KeyRow, LeaseRow, MAX_PAGE, OutboxRow, ProgressCount, SessionRow,
};
use crate::rows::{Kept, Rows, moved};

#[derive(Default)]
pub(crate) struct Memory {
    jobs: BTreeMap<JobId, Job>,
    kept_blobs: std::collections::BTreeSet<(JobId, crate::upkeep::KeptAs, Digest)>,
    commands: HashMap<CommandId, CommandRow>,
    outbox: BTreeMap<u64, OutboxRow>,
    outbox_last: u64,
    sessions: BTreeMap<SessionId, SessionRow>,
    keys: BTreeMap<KeyId, KeyRow>,
    agents: agents::Agents,
    passes: BTreeMap<TenantId, u64>,
    breakers: BTreeMap<BreakerKey, KeptBreaker>,
    meta: BTreeMap<String, String>,
    /// How to take back what the open group has written, the last first.
    undo: Vec<Undo>,
    /// Where the operation under way begins in it.
    mark: usize,
}

#[derive(Debug, Clone, Copy)]
struct KeptBreaker {
    breaker: Breaker,
    /// When its worker was last known to be there.
    seen_at: Timestamp,
}

type Undo = Box<dyn FnOnce(&mut Memory) + Send>;

struct Job {
    row: JobRow,
    audit: Vec<AuditRecord>,
    events: Vec<JobEventView>,
    progress_kept: u64,
    /// Last progress, and the number of the line that comes next, of each lease.
    progress: BTreeMap<TaskSlug, (Timestamp, u64)>,
}

impl Engine for Memory {
    fn begin(&mut self) -> Kept<()> {
        Ok(())
    }
    fn op_begin(&mut self) -> Kept<()> {
        self.mark = self.undo.len();
        Ok(())
    }
    fn op_keep(&mut self) -> Kept<()> {
        Ok(())
    }
    fn op_undo(&mut self) -> Kept<()> {
        self.undo_to(self.mark);
        Ok(())
    }
    fn commit(&mut self) -> Kept<()> {
        self.undo.clear();
        Ok(())
    }
    fn rollback(&mut self) {
        self.undo_to(0);
    }
    fn as_rows(&mut self) -> &mut dyn Rows {
        self
    }
}

/// Makes a map hold for `key` what it held before.
fn put_back<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, before: Option<V>) {
    match before {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    };
}

impl Memory {
    fn undo_to(&mut self, mark: usize) {
        while self.undo.len() > mark {
            let Some(undo) = self.undo.pop() else { return };
            undo(self);
        }
    }

    fn undoing(&mut self, undo: impl FnOnce(&mut Memory) + Send + 'static) {
        self.undo.push(Box::new(undo));
    }

    fn undoing_job(&mut self, id: JobId, undo: impl FnOnce(&mut Job) + Send + 'static) {
        self.undoing(move |memory| {
            if let Some(job) = memory.jobs.get_mut(&id) {
                undo(job);
            }
        });
    }

    fn known(&mut self, job: JobId) -> Kept<&mut Job> {
        self.jobs.get_mut(&job).ok_or_else(|| moved(job))
    }

    fn by_age(&self) -> Vec<&JobRecord> {
        let mut records: Vec<_> = self.jobs.values().map(|job| job.row.record.as_ref()).collect();
        records.sort_by_key(|record| (record.created_at, record.id));
        records
    }
}

impl Job {
    fn new(row: JobRow) -> Self {
        Self { row, audit: Vec::new(), events: Vec::new(), progress_kept: 0, progress: BTreeMap::new() }
    }

    fn lease(&self, task: &TaskRecord) -> LeaseRow {
        let (last_progress, progress_next) =
            self.progress.get(&task.slug).copied().unwrap_or((Timestamp(0), 0));
        LeaseRow {
            job: self.row.record.id,
            slug: task.slug.clone(),
            state: task.state,
            epoch: task.epoch,
            session: task.session,
            deadline: task.deadline,
            last_progress,
            progress_next,
        }
    }

    fn leased(&self) -> impl Iterator<Item = LeaseRow> {
        let tasks = self.row.record.tasks.values().filter(|task| task.state == TaskState::Leased);
        tasks.map(|task| self.lease(task))
    }
}

fn page(limit: u32) -> usize {
    limit.min(MAX_PAGE) as usize
}

fn summary(record: &JobRecord) -> JobSummary {
    JobSummary {
        id: record.id,
        title: record.spec.title.clone(),
        tenant: record.tenant.clone(),
        submitter: record.submitter.clone(),
        state: record.state,
        priority: record.priority,
        created_at: record.created_at,
        updated_at: record.updated_at,
    }
}

impl Rows for Memory {
    fn command(&self, id: CommandId) -> Kept<Option<CommandRow>> {
        Ok(self.commands.get(&id).cloned())
    }

    fn command_insert(&mut self, id: CommandId, row: &CommandRow) -> Kept<()> {
        self.commands.insert(id, row.clone());
        self.undoing(move |memory| drop(memory.commands.remove(&id)));
        Ok(())
    }

    fn job(&self, id: JobId) -> Kept<Option<JobRow>> {
        Ok(self.jobs.get(&id).map(|job| job.row.clone()))
    }

    fn job_write(&mut self, before: Option<&JobRow>, after: &JobRow) -> Kept<()> {
        let id = after.record.id;
        let now = self.jobs.get(&id).map(|job| job.row.record.version);
        if now != before.map(|row| row.record.version) {
            return Err(moved(id));
        }
        let Some(job) = self.jobs.get_mut(&id) else {
            self.jobs.insert(id, Job::new(after.clone()));
            self.undoing(move |memory| drop(memory.jobs.remove(&id)));
            return Ok(());
        };
        let row = std::mem::replace(&mut job.row, after.clone());
        let mut replaced = Vec::new();
        for (task, held) in after.record.tasks.changed_since(&row.record.tasks) {
            if task.state == TaskState::Leased && held.map(|held| held.epoch) != Some(task.epoch) {
                let fresh = (task.leased_at.unwrap_or(Timestamp(0)), 0);
                replaced.push((task.slug.clone(), job.progress.insert(task.slug.clone(), fresh)));
            }
        }
        self.undoing_job(id, move |job| {
            job.row = row;
            replaced.into_iter().for_each(|(slug, before)| put_back(&mut job.progress, slug, before));
        });
        Ok(())
    }

    fn job_list(&self, filter: &JobFilter) -> Kept<Vec<JobSummary>> {
        let after = filter.after.and_then(|id| self.jobs.get(&id)).map(|job| &job.row.record);
        let after = after.map(|record| (record.created_at, record.id));
        let wanted = |record: &&JobRecord| {
            filter.tenant.as_ref().is_none_or(|tenant| *tenant == record.tenant)
                && filter.state.is_none_or(|state| state == record.state)
                && after.is_none_or(|after| (record.created_at, record.id) < after)
        };
        Ok(self.by_age().into_iter().rev().filter(wanted).take(page(filter.limit)).map(summary).collect())
    }

    fn jobs_active(&self) -> Kept<Vec<JobId>> {
        Ok(self.by_age().into_iter().filter(|record| !is_terminal(record.state)).map(|r| r.id).collect())
    }

    fn job_count_by_state(&self) -> Kept<BTreeMap<JobState, u64>> {
        let mut counts = BTreeMap::new();
        for job in self.jobs.values() {
            *counts.entry(job.row.record.state).or_insert(0) += 1;
        }
        Ok(counts)
    }

    fn audit_insert(&mut self, record: &AuditRecord) -> Kept<()> {
        self.known(record.job)?.audit.push(record.clone());
        self.undoing_job(record.job, |job| drop(job.audit.pop()));
        Ok(())
    }

    fn audit(&self, job: JobId) -> Kept<Vec<AuditRecord>> {
        Ok(self.jobs.get(&job).map(|job| job.audit.clone()).unwrap_or_default())
    }

    fn event_insert(&mut self, event: &JobEventView) -> Kept<()> {
        self.known(event.job)?.events.push(event.clone());
        self.undoing_job(event.job, |job| drop(job.events.pop()));
        Ok(())
    }

    fn events(&self, job: JobId, after: u64, limit: u32) -> Kept<Vec<JobEventView>> {
        let events = self.jobs.get(&job).map(|job| job.events.as_slice()).unwrap_or_default();
        Ok(events.iter().filter(|event| event.seq > after).take(page(limit)).cloned().collect())
    }

    fn outbox_insert(&mut self, job: JobId, effect: &Effect, at: Timestamp) -> Kept<()> {
        self.outbox_last += 1;
        let id = self.outbox_last;
        self.outbox.insert(id, OutboxRow { id, job, effect: effect.clone(), created_at: at });
        self.undoing(move |memory| {
            memory.outbox.remove(&id);
            memory.outbox_last = id - 1;
        });
        Ok(())
    }

    fn outbox_due(&self, after: u64, limit: u32) -> Kept<Vec<OutboxRow>> {
        let due = self.outbox.values().filter(|row| row.id > after);
        Ok(due.take(page(limit)).cloned().collect())
    }

    fn outbox_done(&mut self, id: u64, _at: Timestamp) -> Kept<()> {
        let done = self.outbox.remove(&id);
        self.undoing(move |memory| put_back(&mut memory.outbox, id, done));
        Ok(())
    }

    fn lease(&self, job: JobId, slug: &TaskSlug) -> Kept<Option<LeaseRow>> {
        let job = self.jobs.get(&job);
        Ok(job.and_then(|job| job.row.record.tasks.get(slug).map(|task| job.lease(task))))
    }

    fn leases_held(&self, session: SessionId) -> Kept<u32> {
        let held = self.jobs.values().flat_map(Job::leased).filter(|lease| lease.session == Some(session));
        Ok(u32::try_from(held.count()).unwrap_or(u32::MAX))
    }

    fn leases_of(&self, session: SessionId, limit: u32) -> Kept<Vec<LeaseRow>> {
        let held = self.jobs.values().flat_map(Job::leased).filter(|lease| lease.session == Some(session));
        Ok(held.take(limit as usize).collect())
    }

    fn leases_ended(&self, now: Timestamp, stalled: Timestamp, limit: u32) -> Kept<Vec<LeaseRow>> {
        let ended = |lease: &LeaseRow| {
            let session = lease.session.and_then(|id| self.sessions.get(&id));
            session.is_none_or(|row| row.expires_at <= now)
                || lease.deadline.is_some_and(|end| end <= now)
                || lease.last_progress <= stalled
        };
        Ok(self.jobs.values().flat_map(Job::leased).filter(ended).take(limit as usize).collect())
    }

    fn progress_count(&self, job: JobId) -> Kept<ProgressCount> {
        let job = self.jobs.get(&job).ok_or_else(|| moved(job))?;
        Ok(ProgressCount { event_seq: job.row.event_seq, kept: job.progress_kept })
    }

    fn count_write(&mut self, id: JobId, count: ProgressCount) -> Kept<()> {
        let job = self.known(id)?;
        let event_seq = std::mem::replace(&mut job.row.event_seq, count.event_seq);
        let kept = std::mem::replace(&mut job.progress_kept, count.kept);
        self.undoing_job(id, move |job| {
            job.row.event_seq = event_seq;
            job.progress_kept = kept;
        });
        Ok(())
    }

    fn progress_write(&mut self, lease: &LeaseRow) -> Kept<()> {
        let job = self.known(lease.job)?;
        let slug = lease.slug.clone();
        let before = job.progress.insert(slug.clone(), (lease.last_progress, lease.progress_next));
        self.undoing_job(lease.job, move |job| put_back(&mut job.progress, slug, before));
        Ok(())
    }

    fn session(&self, id: SessionId) -> Kept<Option<SessionRow>> {
        Ok(self.sessions.get(&id).cloned())
    }

    fn session_write(&mut self, row: &SessionRow) -> Kept<()> {
        let (id, before) = (row.id, self.sessions.insert(row.id, row.clone()));
        self.undoing(move |memory| put_back(&mut memory.sessions, id, before));
        Ok(())
    }

    fn session_delete(&mut self, id: SessionId) -> Kept<()> {
        let before = self.sessions.remove(&id);
        self.undoing(move |memory| put_back(&mut memory.sessions, id, before));
        Ok(())
    }

    fn sessions(&self) -> Kept<Vec<SessionRow>> {
        Ok(self.sessions.values().cloned().collect())
    }

    fn key_insert(&mut self, row: &KeyRow) -> Kept<()> {
        let taken = self.keys.contains_key(&row.id) || self.keys.values().any(|key| key.hash == row.hash);
        if taken {
            return Err(StoreError::Invariant(format!("{} or its secret exists already", row.id)));
        }
        let id = row.id;
        self.keys.insert(id, row.clone());
        self.undoing(move |memory| drop(memory.keys.remove(&id)));
        Ok(())
    }

    fn key_by_hash(&self, hash: &Digest) -> Kept<Option<KeyRow>> {
        Ok(self.keys.values().find(|key| key.hash == *hash).cloned())
    }

    fn keys(&self) -> Kept<Vec<KeyRow>> {
        Ok(self.keys.values().cloned().collect())
    }

    fn key_revoke(&mut self, id: KeyId) -> Kept<bool> {
        let Some(key) = self.keys.get_mut(&id) else { return Ok(false) };
        let before = std::mem::replace(&mut key.revoked, true);
        self.undoing(move |memory| memory.keys.get_mut(&id).into_iter().for_each(|key| key.revoked = before));
        Ok(true)
    }

    fn meta(&self, name: &str) -> Kept<Option<String>> {
        Ok(self.meta.get(name).cloned())
    }

    fn meta_write(&mut self, name: &str, value: &str) -> Kept<()> {
        let (name, before) = (name.to_owned(), self.meta.insert(name.to_owned(), value.to_owned()));
        self.undoing(move |memory| put_back(&mut memory.meta, name, before));
        Ok(())
    }
}

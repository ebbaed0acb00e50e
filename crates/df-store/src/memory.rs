//! The store without a disk: the reference that the databases are compared with, and the tests' store.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use df_contract::api::JobSummary;
use df_contract::{
    CommandId, Digest, JobEventView, JobId, JobState, KeyId, LeaseKind, SessionId, TaskSlug, TaskState,
    Timestamp,
};
use df_control_audit::AuditRecord;
use df_control_machine::job::is_terminal;
use df_control_machine::{Effect, JobRecord, TaskRecord};

use crate::StoreError;
use crate::owner::Engine;
use crate::row::{
    CommandRow, JobFilter, JobRow, KeyRow, LeaseRow, MAX_PAGE, OutboxRow, ProgressCount, SessionRow,
};
use crate::rows::{Kept, Rows, may_lease, moved};

#[derive(Default)]
pub(crate) struct Memory {
    jobs: BTreeMap<JobId, Job>,
    commands: HashMap<CommandId, CommandRow>,
    outbox: BTreeMap<u64, OutboxRow>,
    outbox_last: u64,
    sessions: BTreeMap<SessionId, SessionRow>,
    keys: BTreeMap<KeyId, KeyRow>,
    meta: BTreeMap<String, String>,
}

struct Job {
    row: JobRow,
    audit: Vec<AuditRecord>,
    events: Vec<JobEventView>,
    progress_kept: u64,
    /// Last progress, and the number of the line that comes next, of each lease.
    progress: BTreeMap<TaskSlug, (Timestamp, u64)>,
}

/// Writes are prepared in full before the first of them is made and cannot fail afterwards, so there is nothing to
/// undo.
impl Engine for Memory {
    fn begin(&mut self) -> Kept<()> {
        Ok(())
    }
    fn op_begin(&mut self) -> Kept<()> {
        Ok(())
    }
    fn op_keep(&mut self) -> Kept<()> {
        Ok(())
    }
    fn op_undo(&mut self) -> Kept<()> {
        Ok(())
    }
    fn commit(&mut self) -> Kept<()> {
        Ok(())
    }
    fn rollback(&mut self) {}
    fn as_rows(&mut self) -> &mut dyn Rows {
        self
    }
}

impl Memory {
    fn known(&mut self, job: JobId) -> Kept<&mut Job> {
        self.jobs.get_mut(&job).ok_or_else(|| moved(job))
    }

    fn by_age(&self) -> Vec<&JobRecord> {
        let mut records: Vec<_> = self.jobs.values().map(|job| &job.row.record).collect();
        records.sort_by_key(|record| (record.created_at, record.id));
        records
    }
}

impl Job {
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

    fn merges(&self) -> bool {
        let mut tasks = self.row.record.tasks.values();
        tasks.any(|task| task.kind == LeaseKind::Integrate && task.state == TaskState::Leased)
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
        let job = self.jobs.entry(id).or_insert_with(|| Job {
            row: after.clone(),
            audit: Vec::new(),
            events: Vec::new(),
            progress_kept: 0,
            progress: BTreeMap::new(),
        });
        job.row = after.clone();
        for task in after.record.tasks.values().filter(|task| task.state == TaskState::Leased) {
            let held = before.and_then(|row| row.record.tasks.get(&task.slug)).map(|task| task.epoch);
            if held != Some(task.epoch) {
                job.progress.insert(task.slug.clone(), (task.leased_at.unwrap_or(Timestamp(0)), 0));
            }
        }
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
        Ok(())
    }

    fn audit(&self, job: JobId) -> Kept<Vec<AuditRecord>> {
        Ok(self.jobs.get(&job).map(|job| job.audit.clone()).unwrap_or_default())
    }

    fn event_insert(&mut self, event: &JobEventView) -> Kept<()> {
        self.known(event.job)?.events.push(event.clone());
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
        Ok(())
    }

    fn outbox_due(&self, limit: u32) -> Kept<Vec<OutboxRow>> {
        Ok(self.outbox.values().take(page(limit)).cloned().collect())
    }

    fn outbox_done(&mut self, id: u64, _at: Timestamp) -> Kept<()> {
        self.outbox.remove(&id);
        Ok(())
    }

    fn candidates(&self, kinds: &[LeaseKind], now: Timestamp, limit: u32) -> Kept<Vec<(JobId, TaskSlug)>> {
        let mut found = Vec::new();
        for job in self.jobs.values().filter(|job| may_lease(job.row.record.state)) {
            let record = &job.row.record;
            for task in record.tasks.values() {
                let free = task.kind != LeaseKind::Integrate || !job.merges();
                if task.state == TaskState::Ready
                    && kinds.contains(&task.kind)
                    && task.not_before <= now
                    && free
                {
                    let rank = (Reverse(record.priority), record.created_at, record.id);
                    found.push((rank, task.slug.clone()));
                }
            }
        }
        found.sort();
        Ok(found.into_iter().take(limit as usize).map(|((_, _, job), slug)| (job, slug)).collect())
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

    fn progress_write(&mut self, lease: &LeaseRow, count: ProgressCount) -> Kept<()> {
        let job = self.known(lease.job)?;
        job.row.event_seq = count.event_seq;
        job.progress_kept = count.kept;
        job.progress.insert(lease.slug.clone(), (lease.last_progress, lease.progress_next));
        Ok(())
    }

    fn session(&self, id: SessionId) -> Kept<Option<SessionRow>> {
        Ok(self.sessions.get(&id).cloned())
    }

    fn session_write(&mut self, row: &SessionRow) -> Kept<()> {
        self.sessions.insert(row.id, row.clone());
        Ok(())
    }

    fn session_delete(&mut self, id: SessionId) -> Kept<()> {
        self.sessions.remove(&id);
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
        self.keys.insert(row.id, row.clone());
        Ok(())
    }

    fn key_by_hash(&self, hash: &Digest) -> Kept<Option<KeyRow>> {
        Ok(self.keys.values().find(|key| key.hash == *hash).cloned())
    }

    fn keys(&self) -> Kept<Vec<KeyRow>> {
        Ok(self.keys.values().cloned().collect())
    }

    fn key_revoke(&mut self, id: KeyId) -> Kept<bool> {
        Ok(self.keys.get_mut(&id).map(|key| key.revoked = true).is_some())
    }

    fn meta(&self, name: &str) -> Kept<Option<String>> {
        Ok(self.meta.get(name).cloned())
    }

    fn meta_write(&mut self, name: &str, value: &str) -> Kept<()> {
        self.meta.insert(name.to_owned(), value.to_owned());
        Ok(())
    }
}

//! Jobs that the writer has at hand, so that a command to a job that was touched lately reads nothing.
//!
//! Only the writer changes jobs, so what it wrote last is what is there. What an operation wrote is forgotten when
//! the operation is undone, and everything is when a group is not committed: the rows are the truth, this is a copy.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use df_contract::JobId;

use crate::row::JobRow;

/// Most jobs at hand.
pub(crate) const MAX_CACHED_JOBS: usize = 1_024;
/// Most tasks of all the jobs at hand together.
const MAX_CACHED_TASKS: usize = 65_536;

/// The jobs used last, by job.
pub(crate) struct Cache {
    most_jobs: usize,
    most_tasks: usize,
    slots: HashMap<JobId, Slot>,
    /// The least recently used first.
    by_use: BTreeMap<u64, JobId>,
    uses: u64,
    tasks: usize,
    /// What the operation under way has written.
    written: BTreeSet<JobId>,
}

struct Slot {
    row: JobRow,
    used: u64,
}

impl Default for Cache {
    fn default() -> Self {
        Self::of(MAX_CACHED_JOBS)
    }
}

impl Cache {
    /// At most `jobs` jobs; with 0 every command reads its job.
    pub(crate) fn of(jobs: usize) -> Self {
        Self {
            most_jobs: jobs,
            most_tasks: MAX_CACHED_TASKS,
            slots: HashMap::new(),
            by_use: BTreeMap::new(),
            uses: 0,
            tasks: 0,
            written: BTreeSet::new(),
        }
    }

    pub(crate) fn get(&mut self, job: JobId) -> Option<JobRow> {
        let slot = self.slots.get_mut(&job)?;
        self.by_use.remove(&slot.used);
        self.uses += 1;
        slot.used = self.uses;
        self.by_use.insert(slot.used, job);
        Some(slot.row.clone())
    }

    /// Keeps a row as it was read, or as it was written after [`Cache::writing`].
    pub(crate) fn put(&mut self, row: JobRow) {
        let job = row.record.id;
        self.forget(job);
        self.uses += 1;
        self.tasks += row.record.tasks.len();
        self.by_use.insert(self.uses, job);
        self.slots.insert(job, Slot { row, used: self.uses });
        while self.slots.len() > self.most_jobs || self.tasks > self.most_tasks {
            let Some((_, oldest)) = self.by_use.first_key_value() else { break };
            self.forget(*oldest);
        }
    }

    /// Says that the operation under way writes a job. Until [`Cache::put`] it is not at hand.
    pub(crate) fn writing(&mut self, job: JobId) {
        self.written.insert(job);
        self.forget(job);
    }

    /// Says that the operation under way has moved the end of a job's events, and nothing else of it.
    pub(crate) fn events_moved(&mut self, job: JobId, event_seq: u64) {
        self.written.insert(job);
        if let Some(slot) = self.slots.get_mut(&job) {
            slot.row.event_seq = event_seq;
        }
    }

    pub(crate) fn op_begin(&mut self) {
        self.written.clear();
    }

    /// The operation was undone: what it wrote is not so.
    pub(crate) fn op_undo(&mut self) {
        for job in std::mem::take(&mut self.written) {
            self.forget(job);
        }
    }

    /// The group was not committed.
    pub(crate) fn clear(&mut self) {
        self.slots.clear();
        self.by_use.clear();
        self.written.clear();
        self.tasks = 0;
    }

    fn forget(&mut self, job: JobId) {
        if let Some(slot) = self.slots.remove(&job) {
            self.by_use.remove(&slot.used);
            self.tasks -= slot.row.record.tasks.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use df_control_audit::Tip;
    use df_control_machine::{TaskRecord, decide};
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use super::*;
    use crate::tests::bench::Bench;

    async fn rows(count: usize, tasks: usize) -> Vec<JobRow> {
        let mut bench = Bench::memory();
        let mut rows = Vec::new();
        for _ in 0..count {
            let job = bench.job_id();
            let command = bench.command(job, "alice", crate::tests::bench::submission(0));
            let mut record = decide(None, &command).unwrap().record;
            for n in 0..tasks {
                let slug: df_contract::TaskSlug = format!("t{n}").parse().unwrap();
                let (kind, role) = (df_contract::LeaseKind::Agent, df_contract::Role::Backend);
                let task = TaskRecord::new(slug.clone(), kind, role, String::new(), BTreeSet::new());
                record.tasks.insert(slug, task);
            }
            rows.push(JobRow { record: Arc::new(record), tip: Tip::empty(), event_seq: 1 });
        }
        rows
    }

    fn held(cache: &mut Cache, rows: &[JobRow]) -> Vec<bool> {
        // Looked at without use, so that looking changes nothing.
        rows.iter().map(|row| cache.slots.contains_key(&row.record.id)).collect()
    }

    #[tokio::test]
    async fn the_least_recently_used_goes_first() {
        let rows = rows(3, 0).await;
        let mut cache = Cache::of(2);
        cache.put(rows[0].clone());
        cache.put(rows[1].clone());
        assert!(cache.get(rows[0].record.id).is_some());
        cache.put(rows[2].clone());
        assert_eq!(held(&mut cache, &rows), [true, false, true]);
        let mut none = Cache::of(0);
        none.put(rows[0].clone());
        assert_eq!(held(&mut none, &rows), [false; 3]);
    }

    #[tokio::test]
    async fn tasks_are_counted_as_well_as_jobs() {
        let rows = rows(3, 4).await;
        let mut cache = Cache { most_tasks: 9, ..Cache::of(100) };
        rows.iter().for_each(|row| cache.put(row.clone()));
        assert_eq!(held(&mut cache, &rows), [false, true, true]);
        cache.put(rows[1].clone());
        assert_eq!(cache.tasks, 8, "put twice is counted once");
        cache.writing(rows[1].record.id);
        assert_eq!((cache.tasks, cache.by_use.len()), (4, 1));
        cache.clear();
        assert_eq!((cache.tasks, cache.by_use.len(), cache.slots.len()), (0, 0, 0));
    }

    #[tokio::test]
    async fn what_is_undone_is_forgotten_even_when_it_was_read_again() {
        let rows = rows(2, 0).await;
        let mut cache = Cache::of(9);
        rows.iter().for_each(|row| cache.put(row.clone()));
        cache.op_begin();
        cache.events_moved(rows[0].record.id, 7);
        assert_eq!(cache.get(rows[0].record.id).unwrap().event_seq, 7);
        cache.put(JobRow { event_seq: 7, ..rows[0].clone() });
        cache.op_undo();
        assert_eq!(held(&mut cache, &rows), [false, true]);
        cache.op_begin();
        cache.op_undo();
        assert_eq!(held(&mut cache, &rows), [false, true], "an operation that wrote nothing loses nothing");
    }
}

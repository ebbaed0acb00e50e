//! What reconcilers look for, found by looking at everything.

use std::collections::BTreeSet;
use std::ops::Bound;

use df_contract::{Digest, JobId, TenantId, Timestamp};
use df_control_machine::due::due_at;
use df_control_machine::job::is_terminal;

use super::{Memory, page};
use crate::StoreError;
use crate::rows::Kept;
use crate::upkeep::{DueJob, KeptAs, OpenJob, Upkeep, take_named};

impl Memory {
    fn open(&self) -> impl Iterator<Item = OpenJob> {
        let records = self.jobs.values().map(|job| &job.row.record);
        records.filter(|record| !is_terminal(record.state)).map(|r| (r.tenant.clone(), r.id))
    }
}

impl Upkeep for Memory {
    /// It follows from the record.
    fn job_due_write(&mut self, _job: JobId, _due: Option<Timestamp>) -> Kept<()> {
        Ok(())
    }

    fn jobs_due(&self, now: Timestamp, after: Option<DueJob>, limit: u32) -> Kept<Vec<DueJob>> {
        let records = self.jobs.values().map(|job| &job.row.record);
        let mut due: Vec<DueJob> = records.filter_map(|r| due_at(r).map(|at| (at, r.id))).collect();
        due.retain(|job| job.0 <= now && after.is_none_or(|after| *job > after));
        due.sort();
        due.truncate(page(limit));
        Ok(due)
    }

    fn jobs_open(&self, after: Option<&OpenJob>, limit: u32) -> Kept<Vec<OpenJob>> {
        let mut open: Vec<OpenJob> =
            self.open().filter(|job| after.is_none_or(|after| job > after)).collect();
        open.sort();
        open.truncate(page(limit));
        Ok(open)
    }

    fn jobs_open_count(&self, tenant: Option<&TenantId>) -> Kept<u64> {
        Ok(self.open().filter(|(of, _)| tenant.is_none_or(|tenant| tenant == of)).count() as u64)
    }

    fn blobs_named(
        &self,
        among: &mut BTreeSet<Digest>,
        after: Option<JobId>,
        limit: u32,
    ) -> Kept<Option<JobId>> {
        let jobs = self.jobs.range((after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded));
        let mut last = None;
        for (id, job) in jobs.take(page(limit)) {
            let text = serde_json::to_string(&job.row.record);
            let text = text.map_err(|e| StoreError::Row { table: "jobs", why: e.to_string() })?;
            take_named(among, &text);
            let kept = |digest: &Digest| {
                let as_any = [KeptAs::Evidence, KeptAs::Tree].map(|kept_as| (*id, kept_as, digest.clone()));
                as_any.iter().any(|key| self.kept_blobs.contains(key))
            };
            among.retain(|digest| !kept(digest));
            last = Some(*id);
        }
        Ok(last)
    }

    fn blobs_keep(&mut self, job: JobId, kept_as: KeptAs, digests: &[Digest]) -> Kept<()> {
        for digest in digests {
            let key = (job, kept_as, digest.clone());
            if self.kept_blobs.insert(key.clone()) {
                self.undoing(move |memory| {
                    memory.kept_blobs.remove(&key);
                });
            }
        }
        Ok(())
    }

    fn blob_kept(&self, job: JobId, digest: &Digest) -> Kept<bool> {
        Ok(self.kept_blobs.contains(&(job, KeptAs::Evidence, digest.clone())))
    }

    /// What is done is forgotten at once.
    fn outbox_forget(&mut self, _before: Timestamp, _limit: u32) -> Kept<u64> {
        Ok(0)
    }
}

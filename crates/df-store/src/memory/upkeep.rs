//! What reconcilers look for, found by looking at everything.

use df_contract::{JobId, TenantId, Timestamp};
use df_control_machine::due::due_at;
use df_control_machine::job::is_terminal;

use super::{Memory, page};
use crate::rows::Kept;
use crate::upkeep::{DueJob, OpenJob, Upkeep};

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

    /// What is done is forgotten at once.
    fn outbox_forget(&mut self, _before: Timestamp, _limit: u32) -> Kept<u64> {
        Ok(0)
    }
}

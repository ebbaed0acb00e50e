//! Queues of tasks that wait for a worker: one for each tenant and each set of needs, so that a claim passes over what
//! its worker cannot do without reading it.

use std::collections::{BTreeMap, BTreeSet};

use df_contract::{JobId, TaskSlug, TenantId, Timestamp};
use df_control_machine::place::{self, Line};
use df_control_machine::schedule::{Breakers, Needs, Runner, Running, urgency};
use df_control_machine::{Breaker, BreakerKey, JobRecord, TaskRecord};

use crate::StoreError;
use crate::rows::Kept;

/// The part of the rows that claims use.
pub(crate) trait Queues {
    /// Queues that hold something and come after `after`, in their own order, which keeps those of a tenant together.
    fn queues(&self, after: &str, limit: u32) -> Kept<Vec<String>>;
    /// What waits in a queue and whose back-off is over, best first; without the tasks of some jobs.
    fn waiting(
        &self,
        queue: &str,
        now: Timestamp,
        without: &BTreeSet<JobId>,
        limit: u32,
    ) -> Kept<Vec<Waiting>>;
    /// Leases that are held now. Merges are not looked at: of each job at most one waits.
    fn running(&self) -> Kept<Running>;

    fn passes(&self) -> Kept<BTreeMap<TenantId, u64>>;
    fn pass_write(&mut self, tenant: &TenantId, pass: u64) -> Kept<()>;
    /// Forgets passes at or below the virtual time.
    fn passes_forget(&mut self, virtual_time: u64) -> Kept<()>;

    /// Of one tenant or of all, in an order that never changes.
    fn breakers(&self, tenant: Option<&TenantId>, limit: u32) -> Kept<Vec<(BreakerKey, Breaker)>>;
    fn breakers_of(&self, worker: &str) -> Kept<Breakers>;
    fn breaker(&self, key: &BreakerKey) -> Kept<Option<Breaker>>;
    /// One that is as good as none is forgotten. Its worker is there at `now`.
    fn breaker_write(&mut self, key: &BreakerKey, breaker: Breaker, now: Timestamp) -> Kept<()>;
    /// Notes which workers are there at `now`. Whatever was noted later than that was noted by a clock that has gone
    /// back since.
    fn breakers_seen(&mut self, workers: &BTreeSet<String>, now: Timestamp) -> Kept<()>;
    /// Forgets those of workers that were last there before `before`; returns how many, at most `limit`.
    fn breakers_forget(&mut self, before: Timestamp, limit: u32) -> Kept<u64>;
}

/// A task in a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) job: JobId,
    pub(crate) slug: TaskSlug,
    pub(crate) urgency: i64,
    pub(crate) rank: u32,
}

/// Where a task stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placement {
    pub(crate) queue: String,
    pub(crate) urgency: i64,
    pub(crate) rank: u32,
    pub(crate) claimable: bool,
    pub(crate) runner: Option<Runner>,
}

/// Where the tasks of a job stand in line, but for what each has been moved by itself.
pub(crate) fn urgency_of(record: &JobRecord) -> i64 {
    urgency(record.created_at, record.spec.deadline, record.priority)
}

pub(crate) fn placement(record: &JobRecord, line: &Line<'_>, task: &TaskRecord) -> Kept<Placement> {
    let needs = place::needs(record, task);
    let queue = name(&record.tenant, &needs)?;
    let (urgency, rank) = (place::urgency(record, task), task.rank);
    Ok(Placement { queue, urgency, rank, claimable: line.has(task), runner: needs.runner })
}

fn name(tenant: &TenantId, needs: &Needs) -> Kept<String> {
    let needs = serde_json::to_string(needs)
        .map_err(|e| StoreError::Row { table: "tasks", why: format!("needs: {e}") })?;
    Ok(format!("{tenant}\n{needs}"))
}

/// A text that comes after every queue of the tenant, and before those of every other that comes later.
pub(crate) fn past(tenant: &TenantId) -> String {
    format!("{tenant}\u{b}")
}

/// Tenant and needs of a queue.
pub(crate) fn parsed(name: &str) -> Option<(TenantId, Needs)> {
    let (tenant, needs) = name.split_once('\n')?;
    Some((tenant.parse().ok()?, serde_json::from_str(needs).ok()?))
}

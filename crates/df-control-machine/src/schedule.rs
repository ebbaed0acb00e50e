//! Who gets a free place: a pure choice among the tasks that are ready, made anew for every claim.
//!
//! **Between tenants**: start-time fair queueing (P. Goyal, H. Vin, H. Cheng, *Start-time Fair Queuing*, SIGCOMM 1996) with
//! the arithmetic of stride scheduling (C. Waldspurger, W. Weihl, *Stride Scheduling*, MIT/LCS/TM-528, 1995). A tenant has a
//! weight and a *pass*; a claim costs [`SCALE`] / weight. The tenant with the lowest start is served, where its
//! start is the greater of its pass and the *virtual time*, which is the start of the claim before. So a tenant that was
//! away, or whose tasks nobody could take, saves nothing up. Tenants that always have work get claims in the
//! proportion of their weights: while n tenants with the weights `w` (sum `W`) all wait, the i-th has had at most one claim more
//! than its share and at most `(n - 1) * w_i / W` fewer, and it never waits longer than [`longest_wait`] claims.
//!
//! **Within a tenant**: by [`urgency`], then by rank (the longest chain of tasks that wait for this one: the critical
//! path first), then by job and slug. Urgency is fixed when a job is submitted, so whatever waits long enough comes
//! before everything new.
//!
//! **What may not be claimed now** is passed over: tasks at a cap of their tenant, job, agent or runtime ([`Rules`]), tasks that
//! this worker cannot do ([`Worker::fits`]), and agents whose [`Breaker`] is open on this worker for the task's tenant: others
//! may take those in the same moment. None of these waits costs anything.
//!
//! Units: passes and virtual time are virtual (`SCALE` = one claim at weight 1), urgency is in milliseconds.

mod pick;
mod rules;

use std::collections::{BTreeMap, BTreeSet};

use df_contract::agent::Runtime;
use df_contract::{
    AgentName, Digest, JobId, LeaseKind, Role, SandboxTier, TaskSlug, TenantId, Timestamp, WorkerClass,
};
use serde::{Deserialize, Serialize};

pub use pick::{longest_wait, pick};
pub use rules::{MAX_CAP, MAX_RULES, MAX_WEIGHT, Rules, RulesError};

use crate::breaker::Breaker;

/// What one claim costs a tenant of weight 1. Even at a thousand claims in a second, passes stay within a signed 64-bit
/// number for 17 years; at the greatest weight, rounding gives a tenant less than 0.01 % too much.
pub const SCALE: u64 = 1 << 24;

/// A step of priority is worth this much waiting.
pub const PRIORITY_STEP_MS: i64 = 10 * 60 * 1000;

/// A job counts as submitted this long before its deadline, when that is earlier than it was.
pub const DEADLINE_LEAD_MS: i64 = 60 * 60 * 1000;

/// The key by which tasks of a tenant are ordered, lowest first, in milliseconds:
/// `min(created_at, deadline - 1 h) - priority * 10 min`.
///
/// A deadline never makes a job more urgent than one submitted an hour before it, so the most that a later job can overtake
/// an earlier one by is one hour and 200 steps of priority.
pub fn urgency(created_at: Timestamp, deadline: Option<Timestamp>, priority: i8) -> i64 {
    let ms = |at: Timestamp| i64::try_from(at.0).unwrap_or(i64::MAX);
    let created = ms(created_at);
    let due = deadline.map_or(created, |end| ms(end).max(created).saturating_sub(DEADLINE_LEAD_MS));
    created.min(due).saturating_sub(i64::from(priority) * PRIORITY_STEP_MS)
}

/// An agent as it is run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Runner {
    pub runtime: Runtime,
    pub agent: AgentName,
}

impl Runner {
    /// The built-in agent of a role. Absent for roles whose name is no name of an agent.
    pub fn builtin(role: Role) -> Option<Self> {
        let agent = role.as_str().parse().ok()?;
        Some(Self { runtime: Runtime::Builtin, agent })
    }
}

/// What a task asks of a worker. Tasks with equal needs fit the same workers, so a store may keep them in one queue.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Needs {
    pub kind: LeaseKind,
    /// The agent, for leases of kind `agent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner: Option<Runner>,
    /// The version of a registered agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Digest>,
    /// Labels the worker must carry, for leases of kind `agent`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub labels: BTreeSet<String>,
    /// The weakest sandbox it may run in; absent where nothing foreign is run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_tier: Option<SandboxTier>,
}

/// A task that is ready, whose job's state admits it, and whose back-off is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub job: JobId,
    pub slug: TaskSlug,
    pub tenant: TenantId,
    pub needs: Needs,
    /// As [`urgency`] says.
    pub urgency: i64,
    /// Length of the longest chain of tasks that wait for this one, itself included.
    pub rank: u32,
}

impl Candidate {
    /// The order within a tenant, first to last.
    pub fn order(&self) -> impl Ord + '_ {
        (self.urgency, std::cmp::Reverse(self.rank), self.job, &self.slug)
    }
}

/// What the session that asks can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {
    pub class: WorkerClass,
    pub labels: BTreeSet<String>,
    pub tiers: BTreeSet<SandboxTier>,
    pub runtimes: BTreeSet<Runtime>,
}

impl Worker {
    /// Whether a task with these needs may be placed here.
    pub fn fits(&self, needs: &Needs) -> bool {
        let tier = needs.min_tier.is_none_or(|least| self.tiers.iter().any(|tier| *tier >= least));
        let agents = match needs.kind {
            LeaseKind::Agent => {
                needs.runner.as_ref().is_none_or(|r| self.runtimes.contains(&r.runtime))
                    && needs.labels.is_subset(&self.labels)
            }
            LeaseKind::Intake | LeaseKind::Integrate | LeaseKind::Validate | LeaseKind::Deliver => true,
        };
        self.class.may_hold(needs.kind) && tier && agents
    }
}

/// How many leases are held now. What is absent counts as none; only what the candidates mention is looked at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Running {
    pub tenants: BTreeMap<TenantId, u32>,
    pub jobs: BTreeMap<JobId, u32>,
    /// Leases of kind `agent`, by tenant and the agent's name.
    pub agents: BTreeMap<TenantId, BTreeMap<AgentName, u32>>,
    /// Leases of kind `agent`, by runtime.
    pub runtimes: BTreeMap<Runtime, u32>,
    /// Jobs in which a change is being merged: one at a time.
    pub merging: BTreeSet<JobId>,
}

/// Breakers of one worker.
pub type Breakers = BTreeMap<TenantId, BTreeMap<Runner, Breaker>>;

/// The breaker of an agent that `tenant`'s tasks ask for, if one is kept.
pub fn breaker_of(breakers: &Breakers, tenant: &TenantId, needs: &Needs) -> Option<Breaker> {
    breakers.get(tenant)?.get(needs.runner.as_ref()?).copied()
}

/// Everything one claim is decided on.
#[derive(Debug, Clone)]
pub struct Round<'a> {
    pub now: Timestamp,
    pub worker: &'a Worker,
    pub rules: &'a Rules,
    /// In any order.
    pub candidates: Vec<Candidate>,
    pub running: Running,
    /// 0 at first, then as the round before left it.
    pub virtual_time: u64,
    /// Passes of the tenants that have candidates; absent = none yet. One at or below the virtual time need not be kept.
    pub passes: BTreeMap<TenantId, u64>,
    /// Breakers on this worker of the agents that have candidates; absent = closed.
    pub breakers: Breakers,
}

/// What a round led to: who was taken, and what to keep for the next round.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Picked {
    /// In the order in which they were taken.
    pub taken: Vec<Candidate>,
    pub virtual_time: u64,
    /// Of the tenants that were served.
    pub passes: BTreeMap<TenantId, u64>,
    /// Of this worker, that changed.
    pub breakers: Breakers,
}

#[cfg(test)]
mod tests;

//! Which tasks of a job stand in line for a worker, and what each asks of it: what a store keeps of every task, so that
//! a claim reads only what it may take.

use df_contract::{JobState, LeaseKind, SandboxTier, TaskSlug, TaskState};

use crate::decide::stage_of;
use crate::record::{JobRecord, TaskRecord};
use crate::retry;
use crate::schedule::{self, Needs, Runner};

/// What a task asks of a worker: its agent with what that one needs, the job's labels, and the tier of the decision
/// wherever something foreign is run.
pub fn needs(record: &JobRecord, task: &TaskRecord) -> Needs {
    let tier = record.decision.as_ref().map(|decision| decision.obligations.min_tier);
    let (runner, labels, min_tier) = match task.kind {
        LeaseKind::Intake | LeaseKind::Deliver => (None, Default::default(), None),
        LeaseKind::Integrate | LeaseKind::Validate => (None, Default::default(), tier),
        LeaseKind::Agent => match record.agent_of(task) {
            None => (Runner::builtin(task.role), record.spec.labels.clone(), tier),
            Some(agent) => {
                let runner = Runner { runtime: agent.runtime, agent: agent.name.clone() };
                let labels = record.spec.labels.union(&agent.sandbox.labels).cloned().collect();
                (Some(runner), labels, stricter(tier, agent.sandbox.min_tier))
            }
        },
    };
    let version = record.agent_of(task).map(|agent| agent.digest.clone());
    Needs { kind: task.kind, runner, version, labels, min_tier }
}

/// Where a task stands in its tenant's line, lowest first: by its job, and later with each hand-back that it does not get
/// for free.
pub fn urgency(record: &JobRecord, task: &TaskRecord) -> i64 {
    let beyond = task.handed_back.saturating_sub(retry::FREE_HAND_BACKS);
    let of_job = schedule::urgency(record.created_at, record.spec.deadline, record.priority);
    of_job.saturating_add(i64::from(beyond) * retry::HAND_BACK_DELAY_MS)
}

fn stricter(one: Option<SandboxTier>, other: Option<SandboxTier>) -> Option<SandboxTier> {
    one.max(other)
}

/// The line of one job.
#[derive(Debug, Clone, Copy)]
pub struct Line<'a> {
    record: &'a JobRecord,
    /// Of the changes that could be merged one may be, and none while another is.
    merge: Option<&'a TaskSlug>,
}

impl<'a> Line<'a> {
    pub fn of(record: &'a JobRecord) -> Self {
        let busy = record.tasks.census().merges.leased > 0;
        Self { record, merge: record.tasks.next_merge().filter(|_| !busy) }
    }

    pub fn state(&self) -> JobState {
        self.record.state
    }

    /// The change that may be merged next.
    pub fn merge(&self) -> Option<&'a TaskSlug> {
        self.merge
    }

    /// Whether a task of this job could be claimed, its back-off apart.
    pub fn has(&self, task: &TaskRecord) -> bool {
        task.state == TaskState::Ready
            && self.record.state == stage_of(task.kind, task.role)
            && (task.kind != LeaseKind::Integrate || self.merge == Some(&task.slug))
    }
}

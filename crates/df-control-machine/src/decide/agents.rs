//! Which registered agents do the tasks that are about to be made.

use std::collections::BTreeMap;
use std::sync::Arc;

use df_contract::{AssignedAgent, JobState, TaskSlug};

use super::{AuditBody, Draft};
use crate::command::Rejection;
use crate::record::COORDINATOR_SLUG;

/// Fixes agents at their versions before the plan is judged, so that whoever approves it approves them with it.
pub(super) fn assign(draft: &mut Draft, agents: &BTreeMap<TaskSlug, AssignedAgent>) -> Result<(), Rejection> {
    let record = &draft.record;
    let plan = record.proposed_plan.clone();
    match record.state {
        // The coordinator, before there is a plan.
        JobState::Approved => {}
        JobState::TaskPlanning if plan.is_some() => {}
        JobState::TaskPlanning
        | JobState::Draft
        | JobState::GovernanceAnalysis
        | JobState::AwaitingApproval
        | JobState::Rejected
        | JobState::InProgress
        | JobState::Validating
        | JobState::Deployable
        | JobState::Completed
        | JobState::Failed
        | JobState::Paused
        | JobState::Cancelled => return Err(draft.not_now("assign_agents", "no task is about to be made")),
    }
    // Tasks that exist keep what they have, and so does whoever plans: a job that came with its plan may be planned anew.
    let mut assigned = BTreeMap::clone(&record.assigned);
    assigned.retain(|slug, _| slug.as_str() == COORDINATOR_SLUG || record.tasks.contains_key(slug));
    for (slug, agent) in agents {
        assigned.entry(slug.clone()).or_insert_with(|| agent.clone());
    }
    if assigned == *record.assigned {
        return Err(draft.not_now("assign_agents", "nothing would change"));
    }
    draft.note(AuditBody::AgentsAssigned { agents: agents.clone() });
    draft.record.assigned = Arc::new(assigned);
    Ok(())
}

//! What a job needs next from the control plane, read off its record alone. Because it takes no other input, a
//! restarted daemon brings every job forward by asking this for each.

use df_contract::{JobState, LeaseKind, OnFailure, Timestamp};

use crate::record::{Integration, JobRecord};

/// The next thing to do for a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// Workers, people or time must act first.
    Wait,
    StartAnalysis,
    /// Governance decides on the facts.
    Decide,
    ExpireApproval,
    StartPlanning,
    /// The plan gate judges the proposed plan.
    JudgePlan,
    StartValidation,
    /// The output gate judges the facts of the validation.
    JudgeOutput,
    AskDelivery,
    StartDelivery,
    Complete,
    /// The budget cap is reached.
    PauseForBudget,
    /// The deadline or the wall-clock budget has passed.
    FailForTime,
    /// A task failed for good, or nothing of the plan came about.
    FailForTask,
    /// A task failed for good, and the rest is planned anew.
    Replan,
}

/// The next step of `record` at `now`. Pure and total.
pub fn next_step(record: &JobRecord, now: Timestamp) -> Step {
    let state = record.state;
    let runs = crate::job::is_working(state) || state == JobState::GovernanceAnalysis;
    // Time goes on while a job is paused: it must not wait for ever for somebody to resume it.
    if out_of_time(record, now) && (runs || state == JobState::Paused) {
        return Step::FailForTime;
    }
    if runs && let Some(step) = after_failure(record) {
        return step;
    }
    if over_budget(record) && crate::job::is_working(state) && state != JobState::Deployable {
        return Step::PauseForBudget;
    }
    if record.budget_request.as_ref().is_some_and(|r| r.approval.expires_at <= now) {
        return Step::ExpireApproval;
    }
    match state {
        JobState::Draft => Step::StartAnalysis,
        JobState::GovernanceAnalysis if record.facts.is_some() => Step::Decide,
        JobState::AwaitingApproval if record.approval.as_ref().is_some_and(|a| a.expires_at <= now) => {
            Step::ExpireApproval
        }
        JobState::Approved => Step::StartPlanning,
        JobState::TaskPlanning if record.proposed_plan.is_some() => Step::JudgePlan,
        JobState::InProgress => match record.integration() {
            Integration::Open => Step::Wait,
            Integration::Done => Step::StartValidation,
            Integration::Empty => Step::FailForTask,
        },
        JobState::Validating if record.gate_facts.is_some() => Step::JudgeOutput,
        JobState::Deployable => deployable(record),
        JobState::GovernanceAnalysis
        | JobState::AwaitingApproval
        | JobState::TaskPlanning
        | JobState::Validating
        | JobState::Paused
        | JobState::Rejected
        | JobState::Completed
        | JobState::Failed
        | JobState::Cancelled => Step::Wait,
    }
}

/// What a task that failed for good, and that the job does not go on without, leads to.
fn after_failure(record: &JobRecord) -> Option<Step> {
    let mut step = None;
    for task in record.tasks.failed() {
        match record.on_failure_of(task) {
            OnFailure::Replan if record.state == JobState::InProgress => step = Some(Step::Replan),
            OnFailure::Replan | OnFailure::Fail | OnFailure::Skip => return Some(Step::FailForTask),
        }
    }
    step
}

fn deployable(record: &JobRecord) -> Step {
    let begun = record.tasks.census().has(LeaseKind::Deliver);
    let wants_approval = record.decision.as_ref().is_some_and(|d| d.obligations.approve_delivery);
    if begun {
        if record.all_succeeded(LeaseKind::Deliver) { Step::Complete } else { Step::Wait }
    } else if wants_approval && !record.delivery_approved {
        Step::AskDelivery
    } else {
        Step::StartDelivery
    }
}

fn out_of_time(record: &JobRecord, now: Timestamp) -> bool {
    let wall = record.spec.budget.wall_ms.map(|w| record.created_at.plus(w));
    record.spec.deadline.into_iter().chain(wall).any(|end| end <= now)
}

/// Whether settled use has reached a cap that the decision set, or that was raised since.
pub fn over_budget(record: &JobRecord) -> bool {
    let Some(caps) = record.caps() else { return false };
    record.spend.tokens() >= caps.tokens
        || caps.money_nano_usd.is_some_and(|cap| record.spend.nano_usd >= cap)
}

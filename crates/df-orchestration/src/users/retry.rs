//! Trying again: a new job, governed anew, from what a job that ended has left.

use std::collections::BTreeSet;

use df_contract::api::Submitted;
use df_contract::{JobId, JobSpec, JobState, Plan, Source, TaskSlug, Timestamp};
use df_control_machine::{JobRecord, Rejection};
use df_store::Refused;

use super::Caller;
use crate::{OrchestrationError, Orchestrator};

impl Orchestrator {
    /// Submits the work of a failed or cancelled job again: from its integrated head and with what is left of its
    /// plan, or `from_start`. Hidden checks go along unseen. The same `key` for the same job returns the first retry.
    pub async fn retry(
        &self,
        caller: &Caller,
        job: JobId,
        from_start: bool,
        key: Option<&str>,
    ) -> Result<Submitted, OrchestrationError> {
        let ended = self.job(job).await?;
        let ids = self.submission_ids(&["retry", &job.to_string()], caller, key);
        if let Some(known) = self.inner.store.job(ids.1).await? {
            // A deadline that has passed since must not make another request of it.
            let same = JobSpec { deadline: known.spec.deadline, ..again(&ended, from_start, Timestamp(0)) };
            return if same == *known.spec {
                Ok(Submitted { id: known.id, state: known.state })
            } else {
                Err(Refused::CommandReused(ids.0).into())
            };
        }
        match ended.state {
            JobState::Failed | JobState::Cancelled => {}
            JobState::Draft
            | JobState::GovernanceAnalysis
            | JobState::AwaitingApproval
            | JobState::Approved
            | JobState::Rejected
            | JobState::TaskPlanning
            | JobState::InProgress
            | JobState::Validating
            | JobState::Deployable
            | JobState::Completed
            | JobState::Paused => {
                let why = "only a job that failed or was cancelled is tried again";
                return Err(Rejection::NotNow { command: "retry", state: ended.state, why }.into());
            }
        }
        let spec = again(&ended, from_start, self.inner.env.now());
        self.submit_as(caller, spec, ids).await
    }
}

/// The submission that goes on where `ended` stopped.
fn again(ended: &JobRecord, from_start: bool, now: Timestamp) -> JobSpec {
    let mut spec = (*ended.spec).clone();
    spec.retry_of = Some(ended.id);
    // Kept, it would fail the new job before it begins.
    spec.deadline = spec.deadline.filter(|deadline| *deadline > now);
    if from_start {
        return spec;
    }
    if let Some(plan) = &ended.plan {
        spec.plan = what_is_left(plan, ended);
    }
    if let Some(head) = ended.head.as_ref().filter(|_| !ended.integrated().is_empty()) {
        spec.source = Source::Bundle { digest: head.bundle.clone() };
    }
    spec
}

/// The plan without what is in the job branch; nothing when all of it is: then the coordinator plans what remains.
fn what_is_left(plan: &Plan, ended: &JobRecord) -> Option<Plan> {
    let (mut left, done) = (plan.clone(), ended.integrated());
    let done: BTreeSet<TaskSlug> = done.into_iter().collect();
    left.tasks.retain(|task| !done.contains(&task.slug));
    for task in &mut left.tasks {
        task.depends_on.retain(|on| !done.contains(on));
    }
    (!left.tasks.is_empty()).then_some(left)
}

//! When time alone moves a job, so that nobody need look at it before.

use df_contract::{JobState, Timestamp};

use crate::job::is_working;
use crate::record::JobRecord;

/// The first moment at which [`crate::next_step`] gives `record` a step that time alone brings: an approval or a
/// request for budget expires, the deadline or the wall-clock budget passes. None = time never moves it.
///
/// Exact in both directions: at that moment there is a step, and before it time changes nothing.
pub fn due_at(record: &JobRecord) -> Option<Timestamp> {
    let waits = record.approval.as_ref().filter(|_| record.state == JobState::AwaitingApproval);
    waits.map(|approval| approval.expires_at).into_iter().chain(out_of_time_at(record)).min()
}

/// The end of the time that the job may take, in the states in which it runs out.
fn out_of_time_at(record: &JobRecord) -> Option<Timestamp> {
    let state = record.state;
    if !is_working(state) && !matches!(state, JobState::GovernanceAnalysis | JobState::Paused) {
        return None;
    }
    let wall = record.spec.budget.wall_ms.map(|wall| record.created_at.plus(wall));
    record.spec.deadline.into_iter().chain(wall).min()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use df_contract::{ApprovalRule, DurationMs, JobId, Role};

    use super::*;
    use crate::record::{Approval, ApprovalSubject};
    use crate::{Actor, Command, CommandBody, decide, next_step};

    fn record() -> JobRecord {
        let spec = serde_json::from_value(serde_json::json!({"title": "t", "description": "d"})).unwrap();
        let command = Command {
            id: df_contract::CommandId::mint(Timestamp(1), [1; 10]),
            job: JobId::mint(Timestamp(1), [1; 10]),
            actor: Actor { name: "alice".into(), role: Role::Submitter },
            at: Timestamp(1_000),
            body: CommandBody::Submit {
                tenant: "acme".parse().unwrap(),
                submitter: "alice".into(),
                spec: Box::new(spec),
            },
        };
        decide(None, &command).unwrap().record
    }

    fn approval(expires_at: Timestamp) -> Approval {
        Approval {
            subject: ApprovalSubject::Job,
            rule: ApprovalRule { count: 1, roles: BTreeSet::from([Role::Approver]) },
            requested_at: Timestamp(1_000),
            expires_at,
            job_version: 1,
            plan_digest: None,
            artefact: None,
            approved_by: BTreeSet::new(),
        }
    }

    proptest::proptest! {
        /// The timer never fires early, late, or for nothing.
        #[test]
        fn a_timer_is_the_moment_at_which_the_next_step_changes(
            state in proptest::sample::select(JobState::ALL),
            deadline in proptest::option::of(1u64..5_000),
            wall in proptest::option::of(1u64..5_000),
            expires in proptest::option::of(1u64..5_000),
        ) {
            let mut record = record();
            let spec = std::sync::Arc::make_mut(&mut record.spec);
            spec.deadline = deadline.map(Timestamp);
            spec.budget.wall_ms = wall.map(DurationMs);
            record.state = state;
            record.approval = expires.map(|at| approval(Timestamp(at)));
            let at_first = next_step(&record, Timestamp(0));
            let at_last = next_step(&record, Timestamp(u64::MAX));
            match due_at(&record) {
                None => proptest::prop_assert_eq!(at_first, at_last),
                Some(due) => {
                    proptest::prop_assert_eq!(next_step(&record, Timestamp(due.0 - 1)), at_first);
                    proptest::prop_assert_ne!(next_step(&record, due), at_first);
                }
            }
        }
    }
}

//! When time alone moves a job, so that nobody need look at it before.

use df_contract::{JobState, Timestamp};

use crate::job::is_working;
use crate::record::JobRecord;

/// The first moment at which [`crate::next_step`] gives `record` a step that time alone brings: an approval or a
/// request for budget expires, the deadline or the wall-clock budget passes. None = time never moves it.
///
/// Exact for a job that waits: at that moment there is a step, and before it there is none.
pub fn due_at(record: &JobRecord) -> Option<Timestamp> {
    let waits = record.approval.as_ref().filter(|_| record.state == JobState::AwaitingApproval);
    let asked = record.budget_request.as_ref().map(|request| &request.approval);
    let expiries = waits.into_iter().chain(asked).map(|approval| approval.expires_at);
    expiries.chain(out_of_time_at(record)).min()
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

    use df_contract::{ApprovalRule, DurationMs, JobId, Role, Tokens};

    use super::*;
    use crate::record::{Approval, ApprovalSubject, BudgetRequest, Caps};
    use crate::{Actor, Command, CommandBody, Step, decide, next_step};

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
        fn a_timer_is_the_moment_at_which_a_waiting_job_gets_a_step(
            state in proptest::sample::select(JobState::ALL),
            deadline in proptest::option::of(1u64..5_000),
            wall in proptest::option::of(1u64..5_000),
            expires in proptest::option::of(1u64..5_000),
            asked in proptest::option::of(1u64..5_000),
        ) {
            let mut record = record();
            let spec = std::sync::Arc::make_mut(&mut record.spec);
            spec.deadline = deadline.map(Timestamp);
            spec.budget.wall_ms = wall.map(DurationMs);
            record.state = state;
            record.approval = expires.map(|at| approval(Timestamp(at)));
            record.budget_request = asked.map(|at| BudgetRequest {
                by: "alice".into(),
                caps: Caps { tokens: Tokens(1), money_nano_usd: None },
                approval: approval(Timestamp(at)),
            });
            let step = |at| next_step(&record, Timestamp(at));
            proptest::prop_assume!(step(0) == Step::Wait);
            match due_at(&record) {
                None => proptest::prop_assert_eq!(step(u64::MAX), Step::Wait),
                Some(due) => {
                    proptest::prop_assert_eq!(step(due.0 - 1), Step::Wait);
                    proptest::prop_assert_ne!(step(due.0), Step::Wait);
                }
            }
        }
    }
}

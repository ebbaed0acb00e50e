//! The life cycle of a task: any unit of work leased to a worker.

use df_contract::TaskState;
use serde::{Deserialize, Serialize};

/// Everything that can happen to a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskEvent {
    /// All it waited for has succeeded.
    Unblocked,
    Claimed,
    Succeeded,
    /// The attempt failed and another is due.
    Retried,
    /// The lease was taken or given back: nobody's fault, no attempt is counted.
    Returned,
    /// The attempt failed for good.
    Failed,
    /// The change could not be merged; it is made again on the new head.
    Reopened,
    /// The merge waits for the change that is made again.
    Requeued,
    Cancelled,
    Skipped,
    /// The job branch went back to before it: it is to be done again.
    RolledBack,
}

impl TaskEvent {
    pub const ALL: &'static [TaskEvent] = &[
        TaskEvent::Unblocked,
        TaskEvent::Claimed,
        TaskEvent::Succeeded,
        TaskEvent::Retried,
        TaskEvent::Returned,
        TaskEvent::Failed,
        TaskEvent::Reopened,
        TaskEvent::Requeued,
        TaskEvent::Cancelled,
        TaskEvent::Skipped,
        TaskEvent::RolledBack,
    ];

    /// Whether the event makes every earlier lease of the task worthless.
    pub const fn bumps_epoch(self) -> bool {
        match self {
            TaskEvent::Claimed
            | TaskEvent::Retried
            | TaskEvent::Returned
            | TaskEvent::Reopened
            | TaskEvent::Requeued
            | TaskEvent::Cancelled
            | TaskEvent::RolledBack => true,
            TaskEvent::Unblocked | TaskEvent::Succeeded | TaskEvent::Failed | TaskEvent::Skipped => false,
        }
    }
}

/// A pair of state and event that the life cycle does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a task in {from} cannot take the event {event:?}")]
pub struct IllegalTaskEvent {
    pub from: TaskState,
    pub event: TaskEvent,
}

/// States in which a task holds up nothing any more.
pub const fn is_ended(state: TaskState) -> bool {
    matches!(state, TaskState::Succeeded | TaskState::Failed | TaskState::Cancelled | TaskState::Skipped)
}

/// The task after `event`. Total: every pair either has a successor or is refused.
pub fn next(from: TaskState, event: TaskEvent) -> Result<TaskState, IllegalTaskEvent> {
    use TaskState as S;
    match (event, from) {
        (TaskEvent::Unblocked, S::Pending) | (TaskEvent::Retried | TaskEvent::Returned, S::Leased) => {
            Ok(S::Ready)
        }
        (TaskEvent::Claimed, S::Ready) => Ok(S::Leased),
        (TaskEvent::Succeeded, S::Leased) => Ok(S::Succeeded),
        (TaskEvent::Failed, S::Leased) => Ok(S::Failed),
        (TaskEvent::Reopened, S::Succeeded) => Ok(S::Ready),
        (TaskEvent::Requeued, S::Leased) => Ok(S::Pending),
        (TaskEvent::Cancelled, S::Pending | S::Ready | S::Leased) => Ok(S::Cancelled),
        (TaskEvent::Skipped, S::Pending | S::Ready) => Ok(S::Skipped),
        (TaskEvent::RolledBack, S::Ready | S::Leased | S::Succeeded) => Ok(S::Pending),
        (
            TaskEvent::Unblocked
            | TaskEvent::Claimed
            | TaskEvent::Succeeded
            | TaskEvent::Retried
            | TaskEvent::Returned
            | TaskEvent::Failed
            | TaskEvent::Reopened
            | TaskEvent::Requeued
            | TaskEvent::Cancelled
            | TaskEvent::Skipped
            | TaskEvent::RolledBack,
            _,
        ) => Err(IllegalTaskEvent { from, event }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_is_legal_as_written_or_refused_with_a_typed_error() {
        use TaskEvent as E;
        for from in TaskState::ALL.iter().copied() {
            let legal: &[TaskEvent] = match from {
                TaskState::Pending => &[E::Unblocked, E::Cancelled, E::Skipped],
                TaskState::Ready => &[E::Claimed, E::Cancelled, E::Skipped, E::RolledBack],
                TaskState::Leased => &[
                    E::Succeeded,
                    E::Retried,
                    E::Returned,
                    E::Failed,
                    E::Requeued,
                    E::Cancelled,
                    E::RolledBack,
                ],
                TaskState::Succeeded => &[E::Reopened, E::RolledBack],
                TaskState::Failed | TaskState::Cancelled | TaskState::Skipped => &[],
            };
            for event in TaskEvent::ALL.iter().copied() {
                match next(from, event) {
                    Ok(_) => assert!(legal.contains(&event), "{from} takes {event:?}"),
                    Err(refused) => {
                        assert_eq!(refused, IllegalTaskEvent { from, event });
                        assert!(!legal.contains(&event), "{from} refuses {event:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn only_a_claim_leads_to_leased_and_only_a_lease_can_succeed() {
        for from in TaskState::ALL {
            for event in TaskEvent::ALL {
                match next(*from, *event) {
                    Ok(TaskState::Leased) => {
                        assert_eq!((*from, *event), (TaskState::Ready, TaskEvent::Claimed))
                    }
                    Ok(TaskState::Succeeded | TaskState::Failed) => assert_eq!(*from, TaskState::Leased),
                    Ok(TaskState::Pending | TaskState::Ready | TaskState::Cancelled | TaskState::Skipped)
                    | Err(_) => {}
                }
            }
        }
    }

    #[test]
    fn leaving_a_lease_without_a_result_bumps_the_epoch() {
        for event in TaskEvent::ALL {
            if let Ok(to) = next(TaskState::Leased, *event) {
                assert_eq!(
                    event.bumps_epoch(),
                    !matches!(to, TaskState::Succeeded | TaskState::Failed),
                    "{event:?}"
                );
            }
        }
    }
}

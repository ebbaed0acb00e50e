//! The life cycle of a job: one total function.

use df_contract::JobState;
use serde::{Deserialize, Serialize};

/// A state together with where a waiting or paused job goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct JobStatus {
    pub state: JobState,
    /// Set exactly while the state is AWAITING_APPROVAL or PAUSED.
    pub resume_to: Option<JobState>,
}

/// Everything that can happen to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobEvent {
    AnalysisStarted,
    DecidedApproved,
    DecidedRejected,
    /// Governance, the plan gate, the output gate or the delivery rule wants a person.
    ApprovalNeeded,
    ApprovalGranted,
    ApprovalDenied,
    ApprovalExpired,
    PlanningStarted,
    PlanAccepted,
    /// A task failed for good, and the rest is planned anew.
    ReplanStarted,
    ValidationStarted,
    GatePassed,
    /// The output gate refused; the job goes back to work.
    GateRefused,
    Delivered,
    Failed,
    Paused,
    Resumed,
    Cancelled,
}

impl JobEvent {
    pub const ALL: &'static [JobEvent] = &[
        JobEvent::AnalysisStarted,
        JobEvent::DecidedApproved,
        JobEvent::DecidedRejected,
        JobEvent::ApprovalNeeded,
        JobEvent::ApprovalGranted,
        JobEvent::ApprovalDenied,
        JobEvent::ApprovalExpired,
        JobEvent::PlanningStarted,
        JobEvent::PlanAccepted,
        JobEvent::ReplanStarted,
        JobEvent::ValidationStarted,
        JobEvent::GatePassed,
        JobEvent::GateRefused,
        JobEvent::Delivered,
        JobEvent::Failed,
        JobEvent::Paused,
        JobEvent::Resumed,
        JobEvent::Cancelled,
    ];
}

impl JobEvent {
    /// What the event does to a job, after "cannot".
    const fn verb(self) -> &'static str {
        match self {
            JobEvent::AnalysisStarted => "be analysed",
            JobEvent::DecidedApproved | JobEvent::DecidedRejected => "be decided on",
            JobEvent::ApprovalNeeded => "wait for an approval",
            JobEvent::ApprovalGranted => "be approved",
            JobEvent::ApprovalDenied => "be rejected",
            JobEvent::ApprovalExpired => "lose an approval",
            JobEvent::PlanningStarted | JobEvent::ReplanStarted => "be planned",
            JobEvent::PlanAccepted => "take a plan",
            JobEvent::ValidationStarted => "be validated",
            JobEvent::GatePassed | JobEvent::GateRefused => "be judged",
            JobEvent::Delivered => "be delivered",
            JobEvent::Failed => "fail",
            JobEvent::Paused => "be paused",
            JobEvent::Resumed => "be resumed",
            JobEvent::Cancelled => "be cancelled",
        }
    }
}

/// A pair of state and event that the life cycle does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a job in {from} cannot {}; {}", .event.verb(), what_to_do(*.from))]
pub struct IllegalJobEvent {
    pub from: JobState,
    pub event: JobEvent,
}

/// What somebody whose command does not fit can do with a job in `state`; the end of a sentence.
pub const fn what_to_do(state: JobState) -> &'static str {
    match state {
        JobState::Draft | JobState::GovernanceAnalysis => "wait for the verdict, or cancel it",
        JobState::AwaitingApproval => "approve, reject or cancel it",
        JobState::Approved | JobState::TaskPlanning => "wait for the plan, or pause or cancel it",
        JobState::InProgress | JobState::Validating | JobState::Deployable => {
            "let it work, or pause or cancel it"
        }
        JobState::Paused => "resume or cancel it, or ask for a higher budget",
        JobState::Failed | JobState::Cancelled => "it has ended; retry it as a new job",
        JobState::Completed | JobState::Rejected => "it has ended; submit a new job",
    }
}

/// States without an exit.
pub const fn is_terminal(state: JobState) -> bool {
    matches!(state, JobState::Completed | JobState::Failed | JobState::Rejected | JobState::Cancelled)
}

/// States from APPROVED to DEPLOYABLE: work may go on, and may be paused.
pub const fn is_working(state: JobState) -> bool {
    matches!(
        state,
        JobState::Approved
            | JobState::TaskPlanning
            | JobState::InProgress
            | JobState::Validating
            | JobState::Deployable
    )
}

/// Where a state goes once a person has approved what it asked for.
const fn after_approval(state: JobState) -> Option<JobState> {
    match state {
        JobState::GovernanceAnalysis => Some(JobState::Approved),
        JobState::TaskPlanning => Some(JobState::InProgress),
        JobState::Validating | JobState::Deployable => Some(JobState::Deployable),
        JobState::Draft
        | JobState::AwaitingApproval
        | JobState::Approved
        | JobState::Rejected
        | JobState::InProgress
        | JobState::Completed
        | JobState::Failed
        | JobState::Paused
        | JobState::Cancelled => None,
    }
}

/// The job after `event`. Total: every pair either has a successor or is refused.
pub fn next(now: JobStatus, event: JobEvent) -> Result<JobStatus, IllegalJobEvent> {
    use JobState as S;
    let illegal = IllegalJobEvent { from: now.state, event };
    let plain = |state| Ok(JobStatus { state, resume_to: None });
    match (event, now.state) {
        (JobEvent::AnalysisStarted, S::Draft) => plain(S::GovernanceAnalysis),
        (JobEvent::DecidedApproved, S::GovernanceAnalysis) => plain(S::Approved),
        (JobEvent::DecidedRejected, S::GovernanceAnalysis) => plain(S::Rejected),
        (JobEvent::ApprovalNeeded, from) => after_approval(from)
            .map(|to| JobStatus { state: S::AwaitingApproval, resume_to: Some(to) })
            .ok_or(illegal),
        (JobEvent::ApprovalGranted, S::AwaitingApproval) | (JobEvent::Resumed, S::Paused) => {
            now.resume_to.map(|state| JobStatus { state, resume_to: None }).ok_or(illegal)
        }
        (JobEvent::ApprovalDenied | JobEvent::ApprovalExpired, S::AwaitingApproval) => plain(S::Rejected),
        (JobEvent::PlanningStarted, S::Approved) => plain(S::TaskPlanning),
        (JobEvent::PlanAccepted, S::TaskPlanning) => plain(S::InProgress),
        (JobEvent::ReplanStarted, S::InProgress) => plain(S::TaskPlanning),
        (JobEvent::ValidationStarted, S::InProgress) => plain(S::Validating),
        (JobEvent::GatePassed, S::Validating) => plain(S::Deployable),
        (JobEvent::GateRefused, S::Validating) => plain(S::InProgress),
        (JobEvent::Delivered, S::Deployable) => plain(S::Completed),
        (JobEvent::Failed, S::GovernanceAnalysis | S::Paused) => plain(S::Failed),
        (JobEvent::Failed, from) if is_working(from) => plain(S::Failed),
        (JobEvent::Paused, from) if is_working(from) => {
            Ok(JobStatus { state: S::Paused, resume_to: Some(from) })
        }
        (JobEvent::Cancelled, from) if !is_terminal(from) => plain(S::Cancelled),
        (
            JobEvent::AnalysisStarted
            | JobEvent::DecidedApproved
            | JobEvent::DecidedRejected
            | JobEvent::ApprovalGranted
            | JobEvent::ApprovalDenied
            | JobEvent::ApprovalExpired
            | JobEvent::PlanningStarted
            | JobEvent::PlanAccepted
            | JobEvent::ReplanStarted
            | JobEvent::ValidationStarted
            | JobEvent::GatePassed
            | JobEvent::GateRefused
            | JobEvent::Delivered
            | JobEvent::Failed
            | JobEvent::Paused
            | JobEvent::Resumed
            | JobEvent::Cancelled,
            _,
        ) => Err(illegal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(state: JobState, resume_to: Option<JobState>) -> JobStatus {
        JobStatus { state, resume_to }
    }

    /// The life cycle, written out by hand: what each state can take, and nothing else.
    fn legal(state: JobState) -> Vec<JobEvent> {
        use JobEvent as E;
        let working = [E::Failed, E::Paused, E::Cancelled];
        let own: &[JobEvent] = match state {
            JobState::Draft => return vec![E::AnalysisStarted, E::Cancelled],
            JobState::GovernanceAnalysis => {
                return vec![
                    E::DecidedApproved,
                    E::DecidedRejected,
                    E::ApprovalNeeded,
                    E::Failed,
                    E::Cancelled,
                ];
            }
            JobState::AwaitingApproval => {
                return vec![E::ApprovalGranted, E::ApprovalDenied, E::ApprovalExpired, E::Cancelled];
            }
            JobState::Paused => return vec![E::Failed, E::Resumed, E::Cancelled],
            JobState::Rejected | JobState::Completed | JobState::Failed | JobState::Cancelled => {
                return vec![];
            }
            JobState::Approved => &[E::PlanningStarted],
            JobState::TaskPlanning => &[E::ApprovalNeeded, E::PlanAccepted],
            JobState::InProgress => &[E::ValidationStarted, E::ReplanStarted],
            JobState::Validating => &[E::ApprovalNeeded, E::GatePassed, E::GateRefused],
            JobState::Deployable => &[E::ApprovalNeeded, E::Delivered],
        };
        own.iter().chain(&working).copied().collect()
    }

    #[test]
    fn every_pair_is_legal_as_written_or_refused_with_a_typed_error() {
        for state in JobState::ALL.iter().copied() {
            for event in JobEvent::ALL.iter().copied() {
                let waits = matches!(state, JobState::AwaitingApproval | JobState::Paused);
                let from = status(state, waits.then_some(JobState::InProgress));
                match next(from, event) {
                    Ok(_) => assert!(legal(state).contains(&event), "{state} takes {event:?}"),
                    Err(refused) => {
                        assert_eq!(refused, IllegalJobEvent { from: state, event });
                        assert!(!legal(state).contains(&event), "{state} refuses {event:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn terminal_states_have_no_exit() {
        for state in JobState::ALL.iter().copied().filter(|s| is_terminal(*s)) {
            for event in JobEvent::ALL {
                assert!(next(status(state, None), *event).is_err(), "{state} {event:?}");
            }
        }
    }

    #[test]
    fn resume_to_is_set_exactly_while_waiting() {
        for state in JobState::ALL {
            for event in JobEvent::ALL {
                if let Ok(to) = next(status(*state, Some(JobState::Approved)), *event) {
                    let waits = matches!(to.state, JobState::AwaitingApproval | JobState::Paused);
                    assert_eq!(to.resume_to.is_some(), waits, "{state} {event:?} -> {to:?}");
                }
            }
        }
    }

    #[test]
    fn nothing_starts_without_a_verdict() {
        // The only ways out of GOVERNANCE_ANALYSIS towards work are a verdict or a person's approval.
        let from = status(JobState::GovernanceAnalysis, None);
        for event in JobEvent::ALL {
            if let Ok(to) = next(from, *event) {
                assert!(
                    !is_working(to.state) || *event == JobEvent::DecidedApproved,
                    "{event:?} leads to {}",
                    to.state
                );
            }
        }
    }

    #[test]
    fn the_straight_way_leads_to_completed() {
        let way = [
            JobEvent::AnalysisStarted,
            JobEvent::ApprovalNeeded,
            JobEvent::ApprovalGranted,
            JobEvent::PlanningStarted,
            JobEvent::PlanAccepted,
            JobEvent::ReplanStarted,
            JobEvent::PlanAccepted,
            JobEvent::Paused,
            JobEvent::Resumed,
            JobEvent::ValidationStarted,
            JobEvent::GateRefused,
            JobEvent::ValidationStarted,
            JobEvent::GatePassed,
            JobEvent::ApprovalNeeded,
            JobEvent::ApprovalGranted,
            JobEvent::Delivered,
        ];
        let end = way.iter().try_fold(status(JobState::Draft, None), |s, e| next(s, *e)).unwrap();
        assert_eq!(end.state, JobState::Completed);
    }
}

//! Steps of the life cycles by the wire names that audit records carry, for whoever folds a log back to states.

use df_contract::{JobState, TaskState};
use serde::de::DeserializeOwned;

use crate::job::{self, JobEvent, JobStatus};
use crate::task::{self, TaskEvent};

fn event<E: DeserializeOwned>(name: &str) -> Result<E, String> {
    serde_json::from_value(name.into()).map_err(|_| format!("there is no event `{name}`"))
}

/// The job's state and where it resumes to after the event called `name`, or why there is no such step.
pub fn job_step(
    state: JobState,
    resume_to: Option<JobState>,
    name: &str,
) -> Result<(JobState, Option<JobState>), String> {
    let to =
        job::next(JobStatus { state, resume_to }, event::<JobEvent>(name)?).map_err(|e| e.to_string())?;
    Ok((to.state, to.resume_to))
}

/// The task's state and epoch after the event called `name`, or why there is no such step.
pub fn task_step(state: TaskState, epoch: u64, name: &str) -> Result<(TaskState, u64), String> {
    let event = event::<TaskEvent>(name)?;
    let to = task::next(state, event).map_err(|e| e.to_string())?;
    Ok((to, if event.bumps_epoch() { epoch + 1 } else { epoch }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_where_the_life_cycle_leads() {
        assert_eq!(
            job_step(JobState::Paused, Some(JobState::Validating), "resumed"),
            Ok((JobState::Validating, None))
        );
        assert_eq!(task_step(TaskState::Ready, 4, "claimed"), Ok((TaskState::Leased, 5)));
        assert!(job_step(JobState::Draft, None, "delivered").is_err());
        assert!(task_step(TaskState::Ready, 4, "no_such_event").is_err());
    }
}

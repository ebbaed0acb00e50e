//! How each job must end, and what people do on its way there.

use df_contract::api::JobView;
use df_contract::{JobState, LeaseKind, TaskState};
use df_testkit::{Limit, TestFactory, poll};
use serde_json::json;

use crate::Made;
use crate::scenario::Ends;

const ENDED: [JobState; 4] = [JobState::Completed, JobState::Failed, JobState::Rejected, JobState::Cancelled];

/// Jobs at their end.
pub(crate) async fn count(factory: &TestFactory) -> usize {
    let by_state = factory.admin().system().await.unwrap().jobs_by_state;
    ENDED.iter().filter_map(|state| by_state.get(state)).sum::<u64>() as usize
}

/// Waits until the job is paused for want of budget; who submitted it asks for more, and another says yes.
pub(crate) async fn raise_budget(factory: &TestFactory, job: &Made) {
    factory.reached(job.id, JobState::Paused, Limit::TORTURE).await;
    let more = json!({"tokens": 500_000});
    let _: JobView = job.by.post(&format!("/v1/jobs/{}/budget", job.id), &more).await.unwrap();
    factory.admin().approve(job.id).await.unwrap();
}

/// Waits until the job has ended as its scenario says, and looks at its tasks.
pub(crate) async fn as_written(factory: &TestFactory, job: &Made) {
    let (id, scenario) = (job.id, job.scenario);
    let end = match scenario.ends() {
        Ends::Completed | Ends::CompletedWithout(_) => JobState::Completed,
        Ends::Failed(_) => JobState::Failed,
    };
    let what = format!("{id} ({scenario:?}) in {end}");
    let view = poll(Limit::TORTURE, &what, async || {
        let view = factory.admin().job(id).await.map_err(|e| format!("{e:?}"))?;
        let state = view.summary.state;
        if state == end {
            return Ok(view);
        }
        // Nobody resumes a job here any more.
        let over = ENDED.contains(&state) || state == JobState::Paused;
        assert!(!over, "{what}: it is {state} because {:?}", view.cause);
        let tasks: Vec<String> = view.tasks.iter().map(|t| format!("{} {}", t.slug, t.state)).collect();
        Err(format!("{state} {:?} {}", view.cause, tasks.join(", ")))
    })
    .await;
    match scenario.ends() {
        Ends::Completed => {
            for task in view.tasks.iter().filter(|t| t.kind == LeaseKind::Integrate) {
                let kept = matches!(task.state, TaskState::Succeeded | TaskState::Cancelled);
                assert!(kept, "{what}: {} is {}", task.slug, task.state);
            }
        }
        Ends::CompletedWithout(left_out) => {
            let skipped = view.tasks.iter().find(|t| t.slug.as_str() == left_out).unwrap();
            assert!(matches!(skipped.state, TaskState::Skipped | TaskState::Failed), "{what}: {skipped:?}");
        }
        Ends::Failed(says) => {
            let cause = view.cause.unwrap_or_default();
            assert!(cause.contains(says), "{what}: the cause is `{cause}`, which does not name {says}");
            assert!(view.artefacts.is_empty(), "{what}: it delivered");
        }
    }
}

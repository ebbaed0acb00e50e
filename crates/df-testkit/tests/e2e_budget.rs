//! Money and tokens: a job stops at its cap, and not a call later.

use df_contract::{JobState, Tokens};
use df_testkit::{Limit, ScriptedModel, TestFactory, file_task, planned_job, write_file_task};
use serde_json::json;

/// Enough for the first calls of a task and too little for all of them.
const SHORT_BUDGET: u64 = 6_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_paused_at_its_cap() {
    let model = ScriptedModel::start(write_file_task).await;
    let factory = TestFactory::start(model.setup()).await;
    let mut job = planned_job("Short of tokens", &[file_task("first", &[]), file_task("second", &["first"])]);
    job["budget"] = json!({"tokens": SHORT_BUDGET});
    let job = factory.admin().submit(&job).await.unwrap().id;
    let view = factory.reached(job, JobState::Paused, Limit::JOB).await;
    assert!(view.cause.as_deref().is_some_and(|cause| cause.contains("budget")), "{:?}", view.cause);
    let settled = factory.settled(job).await;
    assert_eq!(settled, model.tally().spend, "what was called is accounted, and nothing else was called");
    assert!(settled.calls > 0, "a budget is there to be used");
    assert!(settled.tokens() <= Tokens(SHORT_BUDGET), "{settled:?}");
    factory.verify_audit();
}

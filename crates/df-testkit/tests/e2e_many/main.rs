//! Many jobs of mixed shapes over several workers, with every kind of failure put in: each job ends as its failures say
//! it must, and nothing is lost, doubled or charged wrongly.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test that prints its counts")]

mod model;
mod scenario;

use std::collections::BTreeMap;

use df_contract::{Digest, JobId, JobState, LeaseKind, Role, TaskState};
use df_testkit::{Api, FaultyWorker, Limit, ScriptedModel, Setup, TestFactory, full_run, poll};
use scenario::{Ends, Faulted, Scenario};
use serde_json::json;

/// One job of every scenario.
const JOBS: usize = Scenario::ALL.len();
/// Worker processes.
const WORKERS: u32 = 4;
/// An attempt without progress is taken back after this; nothing a real attempt does here takes as long.
const PROGRESS_TIMEOUT_MS: i64 = 60_000;

async fn start(model: &ScriptedModel) -> TestFactory {
    let mut setup: Setup = model.setup();
    setup.capacity = 2;
    setup.more_workers = WORKERS - 2;
    setup.orchestration.insert("attempt_max_steps".into(), 12.into());
    setup.orchestration.insert("progress_timeout_ms".into(), PROGRESS_TIMEOUT_MS.into());
    TestFactory::start(setup).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_failure_ends_its_job_as_written_and_touches_no_other() {
    if !full_run() {
        println!("SKIPPED: many jobs with every failure put in: scripts/test.sh --full runs them");
        return;
    }
    let model = ScriptedModel::start(model::script()).await;
    let mut factory = start(&model).await;
    // At first the only worker with the label is one that never works: it makes its leases fail, each as its scenario
    // says. When all have failed, another with the label comes and does the rest.
    let lanes = JOBS * 2;
    let faulted = Faulted::default();
    let faulty = FaultyWorker::start(&factory.as_worker(), &["patched"], lanes, scenario::fault(&faulted));
    let digest = Digest::of(scenario::NO_ARCHIVE);
    let address = format!("/v1/blobs/{digest}");
    let put = factory.admin().raw(reqwest::Method::PUT, &address, &[], scenario::NO_ARCHIVE.to_vec());
    let (status, _) = put.await.unwrap();
    assert!((200..300).contains(&status), "a blob could not be uploaded: {status}");
    let approver = factory.identity("second", &[Role::Approver]).await;

    let mut jobs: Vec<(JobId, Scenario)> = Vec::new();
    for (n, scenario) in Scenario::ALL.into_iter().enumerate() {
        let job = factory.admin().submit(&scenario.job(n)).await.unwrap();
        jobs.push((job.id, scenario));
    }
    let meant = jobs.iter().filter(|(_, scenario)| scenario.is_faulty()).count();
    poll(Limit::TORTURE, "every lease of the worker that fails", async || {
        let done = faulted.lock().unwrap().len();
        if done == meant { Ok(()) } else { Err(format!("{done} of {meant}")) }
    })
    .await;
    faulty.stop();
    factory.add_worker(&toml::Table::from_iter([("labels".to_owned(), vec!["patched"].into())]));
    for (job, scenario) in &jobs {
        ended(&factory, &approver, *job, *scenario).await;
    }
    faulty.ended().await;
    factory.verify_audit();
    let failures = count_failures(&factory);
    println!("jobs {JOBS}, workers {WORKERS}, failures by kind: {failures:?}");
    for scenario in Scenario::ALL {
        for kind in scenario.injects() {
            let seen = failures.get(*kind).copied().unwrap_or(0);
            assert!(seen > 0, "{kind} was never put in");
        }
    }
    let ledger = factory.ledger().await;
    for (job, _) in &jobs {
        let view = factory.admin().job(*job).await.unwrap();
        let charged = ledger.iter().filter(|row| row.job == *job).count() as u64;
        assert_eq!(view.spend.calls, charged, "{job}: its calls and the ledger's rows");
    }
}

/// Waits until the job has ended as its scenario says, and looks at its tasks.
async fn ended(factory: &TestFactory, approver: &Api, job: JobId, scenario: Scenario) {
    if scenario == Scenario::BudgetRaised {
        factory.reached(job, JobState::Paused, Limit::TORTURE).await;
        let more = json!({"tokens": 500_000});
        let _: df_contract::api::JobView =
            factory.admin().post(&format!("/v1/jobs/{job}/budget"), &more).await.unwrap();
        approver.approve(job).await.unwrap();
    }
    let end = match scenario.ends() {
        Ends::Completed | Ends::CompletedWithout(_) => JobState::Completed,
        Ends::Failed(_) => JobState::Failed,
    };
    let what = format!("{job} ({scenario:?}) in {end}");
    let view = poll(Limit::TORTURE, &what, async || {
        let view = factory.admin().job(job).await.map_err(|e| format!("{e:?}"))?;
        if view.summary.state == end {
            return Ok(view);
        }
        let over = matches!(
            view.summary.state,
            JobState::Completed | JobState::Failed | JobState::Rejected | JobState::Cancelled
        );
        assert!(!over, "{what}: it is {} because {:?}", view.summary.state, view.cause);
        Err(format!("{} {:?}", view.summary.state, view.cause))
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

/// Failures of attempts in the audit log, by kind.
fn count_failures(factory: &TestFactory) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for line in factory.audit() {
        let text = serde_json::to_value(&line).unwrap().to_string();
        for kind in df_contract::FailureKind::ALL {
            // Causes of failed attempts begin with the kind.
            if text.contains(&format!("\"cause\":\"{}: ", kind.as_str())) {
                *found.entry(kind.as_str().to_owned()).or_insert(0) += 1;
            }
        }
    }
    found
}

/// A supplied plan of many tasks runs to its end: of a thousand in a full run.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_many_tasks_completes() {
    let count = if full_run() { 1_000 } else { 40 };
    let model = ScriptedModel::start(model::script()).await;
    let factory = start(&model).await;
    let job = factory.admin().submit(&scenario::wide_and_deep(count)).await.unwrap().id;
    let view = factory.completed(job, if full_run() { Limit::MANY_TASKS } else { Limit::TORTURE }).await;
    let merged =
        view.tasks.iter().filter(|t| t.kind == LeaseKind::Integrate && t.state == TaskState::Succeeded);
    assert_eq!(merged.count(), count);
    factory.verify_audit();
}

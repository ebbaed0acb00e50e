//! The wall clock is set an hour back and a day forward while a job runs: the job completes, and nothing is done twice.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests fail as tests do, and a skip is said"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use df_contract::{JobId, Role, TaskState};
use df_control_audit::ExportLine;
use df_testkit::{
    Limit, Member, ScriptedModel, Setup, TestFactory, clocks_can_be_set, file_task, planned_job, poll,
    write_file_task,
};

const HOUR_S: i64 = 3_600;
const DAY_S: i64 = 24 * HOUR_S;
const HOUR_MS: u64 = 3_600_000;
/// Long enough that the clock is set while calls are under way.
const THINKS: Duration = Duration::from_millis(700);
const SLUGS: [&str; 4] = ["first", "second", "third", "fourth"];

/// Waits until an attempt at the task is under way, or over.
async fn begun(factory: &TestFactory, job: JobId, slug: &str) {
    poll(Limit::JOB, "a task has begun", async || {
        let view = factory.admin().job(job).await.unwrap();
        let state = view.tasks.iter().find(|task| task.slug.as_str() == slug).map(|task| task.state);
        match state {
            Some(TaskState::Leased | TaskState::Succeeded) => Ok(()),
            other => Err(format!("{slug} is {other:?}, the job {}: {:?}", view.summary.state, view.cause)),
        }
    })
    .await;
}

/// Every task was accepted once and merged once, the log verifies, the money adds up; answers how far apart the log's
/// times are.
async fn check_books(factory: &TestFactory, job: JobId) -> u64 {
    factory.verify_audit();
    let mut accepted: BTreeMap<String, u32> = BTreeMap::new();
    let mut times = BTreeSet::new();
    for line in factory.audit() {
        let ExportLine::Record(record) = line else { continue };
        times.insert(record.at);
        if let (true, Some(slug)) = (record.body["to"] == "SUCCEEDED", record.slug) {
            *accepted.entry(slug.to_string()).or_default() += 1;
        }
    }
    for slug in SLUGS {
        assert_eq!(accepted.get(slug), Some(&1), "{accepted:?}");
        assert_eq!(accepted.get(&format!("integrate.{slug}")), Some(&1), "{accepted:?}");
    }
    factory.settled(job).await;
    times.last().unwrap().since(*times.first().unwrap()).0
}

async fn a_job_survives_steps_of(clocks: &[Member]) {
    if !clocks_can_be_set() {
        println!("SKIPPED: no clock can be set without libfaketime (scripts/install-deps.sh installs it)");
        return;
    }
    let model = ScriptedModel::start(|ask| write_file_task(ask).after(THINKS)).await;
    let mut factory = TestFactory::start(Setup { clocks: clocks.to_vec(), ..model.setup() }).await;
    let alice = factory.identity("alice", &[Role::Submitter]).await;
    let tasks: Vec<_> =
        SLUGS.iter().enumerate().map(|(n, slug)| file_task(slug, &SLUGS[n.saturating_sub(1)..n])).collect();
    let job = alice.submit(&planned_job("Through time", &tasks)).await.unwrap().id;
    begun(&factory, job, "first").await;
    factory.set_clock(-HOUR_S);
    begun(&factory, job, "second").await;
    // A worker that dies now is missed as soon as ever, and not when the old time comes again.
    factory.kill(Member::Worker);
    factory.restart(Member::Worker).await;
    begun(&factory, job, "third").await;
    factory.set_clock(DAY_S);
    begun(&factory, job, "fourth").await;
    factory.set_clock(0);
    let done = factory.completed(job, Limit::JOB).await;
    assert_eq!(done.integrated.len(), SLUGS.len());
    let apart = check_books(&factory, job).await;
    assert!(apart > 24 * HOUR_MS, "the clock was never set: the log covers {apart} ms");
}

/// The daemon's machine alone: its worker and its proxy have other clocks from then on.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_survives_steps_of_the_daemons_clock() {
    a_job_survives_steps_of(&[Member::Daemon]).await;
}

/// Daemon and proxy on one machine.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_survives_steps_of_the_control_planes_clock() {
    a_job_survives_steps_of(&[Member::Daemon, Member::Proxy]).await;
}

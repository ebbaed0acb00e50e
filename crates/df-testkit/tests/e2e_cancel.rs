//! Cancelling a job whose agents are at work: what runs in their sandboxes ends, their leases and grants are over, and
//! nothing is spent any more.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::time::Duration;

use df_contract::api::JobView;
use df_contract::{JobId, JobState, TaskState};
use df_testkit::{
    Ask, Limit, Reply, ScriptedModel, TestFactory, file_task, marker, planned_job, poll, processes_with,
    revoked, task_grant, write_file_task,
};
use serde_json::json;

/// A model call that is under way for as long as anybody listens.
const THINKS: Duration = Duration::from_secs(20);
/// Seconds that a command in a sandbox would run.
const RUNS_S: u32 = 3_600;

/// Sleeps under a mark that can be seen from outside.
fn sleeper(marker: &str, before: &str) -> String {
    format!("python3 -c 'import signal, time; {before}time.sleep({RUNS_S})' {marker}")
}

/// Three agents: one runs a long command, one a command with a child in a session of its own that is deaf to SIGTERM,
/// and one waits for its model.
fn script(plain: String, deaf: String) -> impl Fn(&Ask) -> Reply + Send + Sync + 'static {
    let deaf_child = sleeper(&deaf, "signal.signal(signal.SIGTERM, signal.SIG_IGN); ");
    move |ask| {
        let run = |command: &str| Reply::calls(&[("exec", json!({"command": command, "timeout_s": RUNS_S}))]);
        match ask.task().as_str() {
            "runs" => run(&sleeper(&plain, "")),
            "deaf" => run(&format!("trap '' TERM; setsid {deaf_child} & {}", sleeper(&deaf, ""))),
            "asks" => Reply::text("not yet").after(THINKS),
            _ => write_file_task(ask),
        }
    }
}

/// Until each agent is where it is to be cancelled.
async fn all_at_work(model: &ScriptedModel, job: JobId, factory: &TestFactory, markers: [(&str, usize); 2]) {
    poll(Limit::JOB, "every agent is at work", async || {
        let seen = markers.map(|(marker, _)| processes_with(marker).len());
        let asked = model.tally().tasks.iter().any(|task| task == "asks");
        let state = factory.admin().job(job).await.unwrap().summary.state;
        let there = markers.iter().zip(seen).all(|((_, wanted), seen)| seen >= *wanted);
        if asked && there { Ok(()) } else { Err(format!("{state}, processes {seen:?}, asked {asked}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_ends_every_process_lease_and_grant() {
    let (plain, deaf) = (marker("plain"), marker("deaf"));
    let model = ScriptedModel::start(script(plain.clone(), deaf.clone())).await;
    let factory = TestFactory::start(model.setup()).await;
    let tasks = [file_task("runs", &[]), file_task("deaf", &[]), file_task("asks", &[])];
    let job = factory.admin().submit(&planned_job("To be cancelled", &tasks)).await.unwrap().id;
    // Two of the deaf: the command that ignores SIGTERM, and its child in a session of its own.
    all_at_work(&model, job, &factory, [(&plain, 1), (&deaf, 2)]).await;
    let before = factory.admin().job(job).await.unwrap();
    let proxy = task_grant(&factory, &before, "runs");
    assert!(!revoked(&proxy).await);
    let asked = model.tally();

    let cancelled = factory.cli_as(factory.admin(), &["--json", "cancel", &job.to_string()]);
    assert_eq!(cancelled.succeeded().json::<JobView>().summary.state, JobState::Cancelled);
    poll(Limit::STEP, "the grant is withdrawn", async || {
        if revoked(&proxy).await { Ok(()) } else { Err("it still opens the proxy".to_owned()) }
    })
    .await;
    for marker in [&plain, &deaf] {
        poll(Limit::STEP, "what ran in the sandboxes is gone", async || {
            let left = processes_with(marker);
            if left.is_empty() { Ok(()) } else { Err(format!("{marker}: {left:?}")) }
        })
        .await;
    }
    poll(Limit::STEP, "no lease is held", async || {
        let held: u32 = factory.admin().system().await.unwrap().workers.iter().map(|w| w.held).sum();
        if held == 0 { Ok(()) } else { Err(format!("{held} are held")) }
    })
    .await;
    let after = factory.admin().job(job).await.unwrap();
    let ended = [TaskState::Cancelled, TaskState::Succeeded];
    assert!(after.tasks.iter().all(|task| ended.contains(&task.state)), "{:?}", after.tasks);

    // What was under way is charged; nothing else is, by whomever it is tried.
    let charged = poll(Limit::STEP, "the calls under way are charged", async || {
        let (rows, calls) = (factory.ledger().await.len() as u64, model.tally().spend.calls);
        if rows == calls { Ok(rows) } else { Err(format!("{rows} rows for {calls} calls")) }
    })
    .await;
    factory.settled(job).await;
    for _ in 0..3 {
        assert!(revoked(&proxy).await);
    }
    let now = model.tally();
    let own = |tally: &df_testkit::Tally| tally.tasks.iter().filter(|task| *task != "plan").count();
    assert_eq!(own(&now), own(&asked), "no agent asked its model again: {:?}", now.tasks);
    assert_eq!(factory.ledger().await.len() as u64, charged);
    factory.verify_audit();
}

/// What the worker was doing is over for it: it takes the next job at once, with all its capacity.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_job_was_cancelled_takes_the_next() {
    let plain = marker("plain");
    let model = ScriptedModel::start(script(plain.clone(), marker("deaf"))).await;
    let mut setup = model.setup();
    setup.capacity = 1;
    let factory = TestFactory::start(setup).await;
    let job = planned_job("To be cancelled", &[file_task("runs", &[])]);
    let job = factory.admin().submit(&job).await.unwrap().id;
    poll(Limit::JOB, "the command runs", async || {
        if processes_with(&plain).is_empty() { Err("not yet".to_owned()) } else { Ok(()) }
    })
    .await;
    factory.cli_as(factory.admin(), &["cancel", &job.to_string()]).succeeded();
    let next = planned_job("The next", &[file_task("next", &[])]);
    let next = factory.admin().submit(&next).await.unwrap().id;
    factory.completed(next, Limit::JOB).await;
    assert_eq!(processes_with(&plain), [0; 0]);
    factory.verify_audit();
}

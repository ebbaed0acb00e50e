//! What people do with a running job, through the command line: speak to it, raise its budget, take it back, try it
//! again.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use df_contract::api::{JobView, Submitted};
use df_contract::{ErrorCode, JobId, JobState, Role, TaskState};
use df_testkit::{
    Api, Ask, CliOutput, Limit, Reply, ScriptedModel, TestFactory, file_task, planned_job, poll,
    write_file_task,
};
use serde_json::json;

const MESSAGE: &str = "Mind the umlauts: ทดสอบ.";

fn cli(factory: &TestFactory, who: &Api, args: &[&str]) -> CliOutput {
    let mut all = vec!["--json"];
    all.extend(args);
    factory.cli_as(who, &all)
}

#[track_caller]
fn view(out: &CliOutput) -> JobView {
    out.succeeded().json()
}

/// Waits until a task is in a state.
async fn task_is(factory: &TestFactory, job: JobId, slug: &str, state: TaskState) {
    poll(Limit::JOB, "a task's state", async || {
        let view = factory.admin().job(job).await.unwrap();
        let found = view.tasks.iter().find(|task| task.slug.as_str() == slug).map(|task| task.state);
        if found == Some(state) {
            Ok(())
        } else {
            Err(format!("{slug}: {found:?}, job {}", view.summary.state))
        }
    })
    .await;
}

/// A gate before each of two tasks: until it is open the model is busy, for the worker to try again.
#[derive(Clone, Default)]
struct Gates {
    first: Arc<AtomicBool>,
    third: Arc<AtomicBool>,
}

impl Gates {
    fn script(&self) -> impl Fn(&Ask) -> Reply + Send + Sync + 'static {
        let gates = self.clone();
        move |ask| {
            let shut = |gate: &AtomicBool| !gate.load(Ordering::SeqCst);
            match ask.task().as_str() {
                "first" if shut(&gates.first) => Reply::error(503, "busy"),
                "third" if shut(&gates.third) => Reply::error(503, "busy"),
                "second" if ask.brief().contains(MESSAGE) && ask.turn() == 2 => {
                    Reply::finish("wrote second as I was told")
                }
                _ => write_file_task(ask),
            }
        }
    }
}

/// A message reaches the task that starts next; a paused job is taken back and does its work again; afterwards every
/// command is refused and nothing changes.
#[tokio::test(flavor = "multi_thread")]
async fn a_running_job_is_spoken_to_and_taken_back() {
    let gates = Gates::default();
    let model = ScriptedModel::start(gates.script()).await;
    let factory = TestFactory::start(model.setup()).await;
    let alice = factory.identity("alice", &[Role::Submitter]).await;
    let tasks = [file_task("first", &[]), file_task("second", &["first"]), file_task("third", &["second"])];
    let job = alice.submit(&planned_job("Three files", &tasks)).await.unwrap().id;
    let id = job.to_string();
    task_is(&factory, job, "first", TaskState::Leased).await;
    assert_eq!(view(&cli(&factory, &alice, &["message", &id, MESSAGE])).messages.len(), 1);
    assert_eq!(view(&cli(&factory, &alice, &["priority", &id, "-5"])).summary.priority, -5);
    let none = cli(&factory, &alice, &["tasks", "rollback", &id]);
    assert_eq!(none.problem().code, ErrorCode::InvalidRequest, "nothing is merged yet");
    gates.first.store(true, Ordering::SeqCst);
    task_is(&factory, job, "integrate.second", TaskState::Succeeded).await;
    let paused = view(&cli(&factory, factory.admin(), &["pause", &id]));
    assert_eq!(paused.resume_to, Some(JobState::InProgress));
    let back = view(&cli(&factory, &alice, &["tasks", "rollback", &id, "first"]));
    assert_eq!(back.integrated.iter().map(|slug| slug.as_str()).collect::<Vec<_>>(), ["first"]);
    assert_eq!(back.summary.state, JobState::Paused);
    gates.third.store(true, Ordering::SeqCst);
    cli(&factory, factory.admin(), &["resume", &id]).succeeded();
    let done = factory.completed(job, Limit::JOB).await;
    let second = done.tasks.iter().find(|task| task.slug.as_str() == "second").unwrap();
    assert_eq!(second.summary, "wrote second as I was told");
    assert_eq!(done.integrated.len(), 3);
    for args in [
        vec!["message", &id, "too late"],
        vec!["budget", &id, "--tokens", "900000"],
        vec!["priority", &id, "1"],
        vec!["tasks", "rollback", &id],
        vec!["retry", &id],
    ] {
        let refused = cli(&factory, &alice, &args);
        assert_eq!(
            (refused.code, refused.problem().code),
            (Some(1), ErrorCode::IllegalTransition),
            "{args:?}"
        );
    }
    assert_eq!(factory.admin().job(job).await.unwrap().version, done.version);
    let shown = factory.cli_as(&alice, &["tasks", "list", &id]);
    assert!(shown.succeeded().stdout.contains("integrate.third"), "{shown:?}");
    let watched = factory.cli_as(&alice, &["watch", &id]);
    assert!(watched.stdout.contains("alice sent a message"), "{watched:?}");
    factory.verify_audit();
}

/// Enough for the first calls of a task and too little for all of them.
const SHORT_BUDGET: u64 = 6_000;

/// A job that stopped at its cap goes on when somebody else has agreed to a higher one; the proxy agrees, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_higher_budget_lets_a_paused_job_go_on() {
    let model = ScriptedModel::start(write_file_task).await;
    let factory = TestFactory::start(model.setup()).await;
    let alice = factory.identity("alice", &[Role::Submitter]).await;
    let bob = factory.identity("bob", &[Role::Approver]).await;
    let mut spec =
        planned_job("Short of tokens", &[file_task("first", &[]), file_task("second", &["first"])]);
    spec["budget"] = json!({"tokens": SHORT_BUDGET});
    let job = alice.submit(&spec).await.unwrap().id;
    let id = job.to_string();
    factory.reached(job, JobState::Paused, Limit::JOB).await;
    let beyond = cli(&factory, &alice, &["budget", &id, "--tokens", "99000000000"]);
    assert_eq!(beyond.problem().code, ErrorCode::PolicyRefused, "{beyond:?}");
    let asked = view(&cli(&factory, &alice, &["budget", &id, "--tokens", "400000"]));
    assert_eq!((asked.summary.state, asked.budget_request.is_some()), (JobState::Paused, true));
    assert_eq!(cli(&factory, &alice, &["approve", &id]).problem().code, ErrorCode::FourEyes);
    view(&cli(&factory, &bob, &["approve", &id]));
    let done = factory.completed(job, Limit::JOB).await;
    assert!(done.spend.tokens().0 > SHORT_BUDGET, "{:?}", done.spend);
    assert_eq!(factory.settled(job).await, model.tally().spend);
    factory.verify_audit();
}

/// A retry does what was left and keeps what was merged.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_job_is_tried_again_from_what_is_merged() {
    let mended = Arc::new(AtomicBool::new(false));
    let model = {
        let mended = Arc::clone(&mended);
        ScriptedModel::start(move |ask| {
            if ask.task() == "second" && !mended.load(Ordering::SeqCst) {
                return Reply::error(400, "the model will not");
            }
            write_file_task(ask)
        })
        .await
    };
    let factory = TestFactory::start(model.setup()).await;
    let alice = factory.identity("alice", &[Role::Submitter]).await;
    let tasks = [file_task("first", &[]), file_task("second", &["first"])];
    let job = alice.submit(&planned_job("Two files", &tasks)).await.unwrap().id;
    let id = job.to_string();
    let failed = factory.reached(job, JobState::Failed, Limit::JOB).await;
    assert_eq!(
        failed.root_cause.as_ref().map(|cause| cause.task.as_str()),
        Some("second"),
        "{:?}",
        failed.cause
    );
    mended.store(true, Ordering::SeqCst);
    let again = ["retry", id.as_str(), "--idempotency-key", "k"];
    let made: Submitted = cli(&factory, &alice, &again).succeeded().json();
    let same: Submitted = cli(&factory, &alice, &again).succeeded().json();
    assert_eq!(made.id, same.id);
    let done = factory.completed(made.id, Limit::JOB).await;
    assert!(done.tasks.iter().all(|task| task.slug.as_str() != "first"), "what is merged is not done again");
    let out = factory.root().join("delivered");
    factory.cli_as(&alice, &["artifacts", &made.id.to_string(), "--out", out.to_str().unwrap()]).succeeded();
    for slug in ["first", "second"] {
        let file = std::fs::read_to_string(out.join("software").join(format!("{slug}.txt"))).unwrap();
        assert_eq!(file, format!("this is {slug}\n"));
    }
    factory.verify_audit();
}

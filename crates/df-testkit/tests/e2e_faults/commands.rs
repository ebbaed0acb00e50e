//! Commands that do not fit, given through the command line to a job that runs, waits, or has ended.

use df_contract::{ErrorCode, JobId, JobState, Role};
use df_testkit::{
    Api, Limit, Reply, ScriptedModel, TestFactory, file_task, planned_job, poll, write_file_task,
};
use reqwest::Method;
use serde_json::{Value, json};

const ILLEGAL: ErrorCode = ErrorCode::IllegalTransition;
const INVALID: ErrorCode = ErrorCode::InvalidRequest;

/// A command with `JOB` for the job's id, the code it is refused with, and what the refusal says.
type Refused = (&'static [&'static str], ErrorCode, &'static str);

/// The job as it is shown, and its whole record.
async fn seen(factory: &TestFactory, job: JobId) -> (Value, String) {
    let view = factory.admin().get(&format!("/v1/jobs/{job}")).await.unwrap();
    let path = format!("/v1/jobs/{job}/audit");
    let (status, audit) = factory.admin().raw(Method::GET, &path, &[], Vec::new()).await.unwrap();
    assert_eq!(status, 200);
    (view, String::from_utf8(audit).unwrap())
}

/// Each is refused with its code and says what can be done instead; nothing has changed.
async fn refused(factory: &TestFactory, who: &Api, job: JobId, commands: &[Refused]) {
    let id = job.to_string();
    for (command, code, says) in commands {
        let args: Vec<&str> = ["--json"]
            .into_iter()
            .chain(command.iter().map(|arg| if *arg == "JOB" { id.as_str() } else { arg }))
            .collect();
        let before = seen(factory, job).await;
        let out = factory.cli_as(who, &args);
        let problem = out.problem();
        assert_eq!((out.code, problem.code), (Some(1), *code), "{command:?}: {problem}");
        assert!(problem.to_string().contains(says), "{command:?}: {problem}");
        assert_eq!(seen(factory, job).await, before, "{command:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_that_do_not_fit_a_running_job_are_refused_and_change_nothing() {
    // The first task runs for as long as it is looked at, and nothing about it changes meanwhile.
    let model = ScriptedModel::start(|ask| match ask.task().as_str() {
        "stuck" => Reply::calls(&[(
            "exec",
            json!({"command": "echo begun > begun; sleep 3600", "timeout_s": 3_600}),
        )]),
        _ => write_file_task(ask),
    })
    .await;
    let factory = TestFactory::start(model.setup()).await;
    let admin = factory.admin();
    let alice = factory.identity("alice", &[Role::Submitter]).await;
    let job = alice.submit(&planned_job("Stuck", &[file_task("stuck", &[])])).await.unwrap().id;
    poll(Limit::JOB, "the task's command runs", async || match model.tally().spend.calls {
        0 => Err("no model was asked".to_owned()),
        _ => Ok(()),
    })
    .await;
    factory.settled(job).await;
    let running: &[Refused] = &[
        (&["resume", "JOB"], ILLEGAL, "pause or cancel it"),
        (&["approve", "JOB"], ILLEGAL, "pause or cancel it"),
        (&["reject", "JOB"], ILLEGAL, "pause or cancel it"),
        (&["retry", "JOB"], ILLEGAL, "pause or cancel it"),
        (&["tasks", "rollback", "JOB"], INVALID, "nothing to undo"),
        (&["tasks", "rollback", "JOB", "nobody"], INVALID, "nobody"),
        (&["budget", "JOB", "--tokens", "1"], INVALID, "lower"),
        (&["message", "JOB", "\u{1b}[2Jgone"], INVALID, "U+001B"),
        (&["message", "JOB", " "], INVALID, "1 to"),
    ];
    refused(&factory, admin, job, running).await;
    refused(&factory, &alice, job, &[(&["pause", "JOB"], ErrorCode::Forbidden, "pause")]).await;

    factory.cli_as(admin, &["pause", &job.to_string()]).succeeded();
    let paused: &[Refused] = &[
        (&["pause", "JOB"], ILLEGAL, "resume or cancel it"),
        (&["approve", "JOB"], ILLEGAL, "resume or cancel it"),
        (&["retry", "JOB"], ILLEGAL, "resume or cancel it"),
        (&["tasks", "rollback", "JOB"], INVALID, "nothing to undo"),
    ];
    refused(&factory, admin, job, paused).await;

    factory.cli_as(admin, &["cancel", &job.to_string()]).succeeded();
    let ended: &[Refused] = &[
        (&["cancel", "JOB"], ILLEGAL, "retry it as a new job"),
        (&["pause", "JOB"], ILLEGAL, "retry it as a new job"),
        (&["resume", "JOB"], ILLEGAL, "retry it as a new job"),
        (&["message", "JOB", "too late"], ILLEGAL, "retry it as a new job"),
        (&["budget", "JOB", "--tokens", "9000000"], ILLEGAL, "retry it as a new job"),
        (&["tasks", "rollback", "JOB"], ILLEGAL, "retry it as a new job"),
    ];
    refused(&factory, admin, job, ended).await;

    factory.verify_audit();
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_to_a_completed_job_are_refused_and_change_nothing() {
    let model = ScriptedModel::start(write_file_task).await;
    let factory = TestFactory::start(model.setup()).await;
    let admin = factory.admin();
    let alice = factory.identity("alice", &[Role::Submitter]).await;
    let done = alice.submit(&planned_job("Done", &[file_task("done", &[])])).await.unwrap().id;
    factory.reached(done, JobState::Completed, Limit::JOB).await;
    factory.settled(done).await;
    let completed: &[Refused] = &[
        (&["pause", "JOB"], ILLEGAL, "submit a new job"),
        (&["resume", "JOB"], ILLEGAL, "submit a new job"),
        (&["cancel", "JOB"], ILLEGAL, "submit a new job"),
        (&["approve", "JOB"], ILLEGAL, "submit a new job"),
        (&["retry", "JOB"], ILLEGAL, "submit a new job"),
    ];
    refused(&factory, admin, done, completed).await;
    factory.verify_audit();
}

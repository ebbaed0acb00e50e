//! Changes that do not fit together, and a job branch that goes back: through the daemon, a real worker and real git.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use df_contract::api::JobView;
use df_contract::{EventKind, JobEventView, JobId, TaskState};
use df_testkit::{
    Ask, Limit, Reply, ScriptedModel, TestFactory, file_task, planned_job, poll, write_file_task,
};
use serde_json::{Value, json};

fn task(slug: &str, depends_on: &[&str], paths: &[&str], check: &str) -> Value {
    json!({
        "slug": slug, "role": "backend", "title": slug, "instructions": format!("Do {slug}."),
        "depends_on": depends_on, "paths": paths,
        "checks": [{"id": format!("{slug}-done"), "command": check}],
    })
}

async fn start(model: &ScriptedModel) -> TestFactory {
    let mut setup = model.setup();
    // One after the other, so that it is known which change finds the other in its way.
    setup.capacity = 1;
    TestFactory::start(setup).await
}

fn delivered(factory: &TestFactory, job: JobId, path: &str) -> Option<String> {
    let out = factory.root().join(job.to_string());
    if !out.exists() {
        let args = ["artifacts", &job.to_string(), "--out", out.to_str().unwrap()];
        factory.cli_as(factory.admin(), &args).succeeded();
    }
    std::fs::read_to_string(out.join("software").join(path)).ok()
}

fn state(view: &JobView, slug: &str) -> Option<TaskState> {
    view.tasks.iter().find(|t| t.slug.as_str() == slug).map(|t| t.state)
}

fn unexpected(ask: &Ask) -> Reply {
    Reply::error(400, &format!("not as expected in {} {}: {}", ask.task(), ask.turn(), ask.last_result()))
}

fn when(ask: &Ask, text: &str, wanted: &[&str], next: Reply) -> Reply {
    if wanted.iter().all(|w| text.contains(w)) { next } else { unexpected(ask) }
}

/// Two tasks want one name for a file and for a directory. What resolves it needs the paths of both sides: it moves the
/// one's file out of the way of the other's directory.
fn clash(ask: &Ask) -> Reply {
    let moved = "*** Begin Patch\n*** Update File: x\n*** Move to: x-file\n@@\n-a file\n+a file, moved\n*** End Patch";
    match (ask.task().as_str(), ask.turn()) {
        ("file", 0) => Reply::write("x", "a file\n"),
        ("folder", 0) => Reply::write("x/inner", "below\n"),
        ("resolve.folder.1", 0) => {
            let told =
                ["## A change that does not merge", "x/inner: ", "`x` is in the way", "below", "x/inner, x*"];
            when(ask, ask.brief(), &told, Reply::write("y/inner", "below\n"))
        }
        ("resolve.folder.1", 1) => {
            let told = ["outside this task's paths", "x/inner, x*"];
            when(ask, ask.last_result(), &told, Reply::calls(&[("apply_patch", json!({"patch": moved}))]))
        }
        ("resolve.folder.1", 2) => Reply::write("x/inner", "below\n"),
        _ if ask.last_result().contains("error") => unexpected(ask),
        (slug, 1..=3) => Reply::finish(&format!("did {slug}")),
        _ => unexpected(ask),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_becomes_a_task_whose_result_is_merged() {
    let model = ScriptedModel::start(clash).await;
    let factory = start(&model).await;
    let names = [
        task("file", &[], &["x*"], "test -s x || test -s x-file"),
        task("folder", &[], &["x/inner"], "grep -qx below x/inner"),
    ];
    let job = factory.admin().submit(&planned_job("One name", &names)).await.unwrap().id;
    let view = factory.completed(job, Limit::JOB).await;
    assert_eq!(state(&view, "resolve.folder.1"), Some(TaskState::Succeeded), "{:?}", view.tasks);
    assert_eq!(delivered(&factory, job, "x/inner").as_deref(), Some("below\n"));
    assert_eq!(delivered(&factory, job, "x-file").as_deref(), Some("a file, moved\n"));
    factory.verify_audit();
}

/// The way back while an agent works on what was merged: its lease ends, what was undone is done again.
#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_takes_the_branch_back_and_the_work_goes_on_from_there() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let model = ScriptedModel::start(move |ask| {
        // The first attempt at the second task never comes to an answer in time.
        if ask.task() == "second" && count.fetch_add(1, Ordering::SeqCst) == 0 {
            return write_file_task(ask).after(Duration::from_secs(120));
        }
        write_file_task(ask)
    })
    .await;
    let factory = start(&model).await;
    let tasks = [file_task("first", &[]), file_task("second", &["first"])];
    let job = factory.admin().submit(&planned_job("Back and forth", &tasks)).await.unwrap().id;
    poll(Limit::JOB, "the second task at work", async || {
        let view = factory.admin().job(job).await.map_err(|e| format!("{e:?}"))?;
        let works = asked.load(Ordering::SeqCst) > 0 && state(&view, "second") == Some(TaskState::Leased);
        if works { Ok(()) } else { Err(format!("{:?}", view.tasks)) }
    })
    .await;
    let id = job.to_string();
    let refused = factory.cli_as(factory.admin(), &["--json", "tasks", "rollback", &id, "second"]);
    assert_ne!(refused.code, Some(0), "it is not merged: {refused:?}");
    factory.cli_as(factory.admin(), &["tasks", "rollback", &id]).succeeded();

    let view = factory.completed(job, Limit::JOB).await;
    let attempts = |slug: &str| view.tasks.iter().find(|t| t.slug.as_str() == slug).unwrap().attempts;
    assert_eq!((attempts("first"), attempts("integrate.first"), attempts("second")), (2, 2, 2));
    assert_eq!(delivered(&factory, job, "second.txt").as_deref(), Some("this is second\n"));
    let watched = factory.cli_as(factory.admin(), &["--json", "watch", &id]);
    let events: Vec<JobEventView> =
        watched.succeeded().stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let steps = events.iter().filter(|e| matches!(e.event, EventKind::RolledBack { .. })).count();
    assert_eq!(steps, 1, "the way back is a step of its own");
    factory.verify_audit();
}

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

/// Edited by two tasks at once. The name of the directory looks like that of a file: that is how two tasks side by
/// side come to share a path at all.
const LIST: &str = "list.d/items.txt";

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

/// Two tasks edit one line; two others want one name for a file and for a directory.
fn clash(ask: &Ask) -> Reply {
    let list = |middle: &str| Reply::write(LIST, &format!("one\n{middle}\nthree\n"));
    let marked = ["<<<<<<< job branch", "LEFT", "||||||| before both", "two", "RIGHT", ">>>>>>> right"];
    match (ask.task().as_str(), ask.turn()) {
        ("first", 0) => list("two"),
        ("left" | "right", 0) => Reply::calls(&[("read", json!({"path": LIST}))]),
        ("left", 1) => when(ask, ask.last_result(), &["two"], list("LEFT")),
        ("right", 1) => when(ask, ask.last_result(), &["two"], list("RIGHT")),
        ("resolve.right.1", 0) => {
            let told = ["## A change that does not merge", "Files with conflict markers", LIST];
            when(ask, ask.brief(), &told, Reply::calls(&[("read", json!({"path": LIST}))]))
        }
        ("resolve.right.1", 1) => when(ask, ask.last_result(), &marked, Reply::finish("it is fine as it is")),
        ("resolve.right.1", 2) => {
            when(ask, ask.last_result(), &["markers remain", LIST], list("LEFT and RIGHT"))
        }

        ("file", 0) => Reply::write("clash.txt", "a file\n"),
        ("folder", 0) => Reply::write("clash.txt/inner", "below\n"),
        ("resolve.folder.1", 0) => {
            let told = ["clash.txt/inner: ", "`clash.txt` is in the way", "below"];
            when(ask, ask.brief(), &told, Reply::write("elsewhere.txt", "below\n"))
        }
        _ if ask.last_result().contains("error") => unexpected(ask),
        (slug, 1..=3) => Reply::finish(&format!("did {slug}")),
        _ => unexpected(ask),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_becomes_a_task_whose_result_is_merged() {
    let model = ScriptedModel::start(clash).await;
    let factory = start(&model).await;
    let both = "grep -q LEFT list.d/items.txt && grep -q RIGHT list.d/items.txt || ! grep -q '<<<<' list.d/items.txt";
    let lines = [
        task("first", &[], &["list.d"], "test -s list.d/items.txt"),
        task("left", &["first"], &["list.d"], "grep -q LEFT list.d/items.txt"),
        task("right", &["first"], &[LIST], both),
    ];
    let names = [
        task("file", &[], &["clash.txt"], "test -f clash.txt"),
        task(
            "folder",
            &[],
            &["clash.txt/inner", "elsewhere.txt"],
            "grep -qx below clash.txt/inner || grep -qx below elsewhere.txt",
        ),
    ];
    let lines = factory.admin().submit(&planned_job("One line", &lines)).await.unwrap().id;
    let names = factory.admin().submit(&planned_job("One name", &names)).await.unwrap().id;

    let view = factory.completed(lines, Limit::JOB).await;
    assert_eq!(state(&view, "resolve.right.1"), Some(TaskState::Succeeded), "{:?}", view.tasks);
    assert_eq!(delivered(&factory, lines, LIST).as_deref(), Some("one\nLEFT and RIGHT\nthree\n"));
    let view = factory.completed(names, Limit::JOB).await;
    assert_eq!(state(&view, "resolve.folder.1"), Some(TaskState::Succeeded), "{:?}", view.tasks);
    assert_eq!(delivered(&factory, names, "clash.txt").as_deref(), Some("a file\n"));
    assert_eq!(delivered(&factory, names, "elsewhere.txt").as_deref(), Some("below\n"));
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

//! A model that misbehaves: what it may not do is not done, and a job that cannot be saved fails with its cause.

use std::path::PathBuf;

use df_contract::{FailureKind, JobId, JobState};
use df_testkit::{Ask, Limit, Reply, ScriptedModel, TestFactory, file_task, planned_job, write_file_task};
use serde_json::{Value, json};

/// Model turns of one attempt, so that a model that never stops is stopped soon.
const MAX_STEPS: i64 = 12;

/// Fails the attempt, and with it the test, with the reason.
fn unexpected(ask: &Ask) -> Reply {
    Reply::error(400, &format!("not as expected in {} {}: {}", ask.task(), ask.turn(), ask.last_result()))
}

/// Goes on to `next` when the last result says `wanted`.
fn if_told(ask: &Ask, wanted: &str, next: Reply) -> Reply {
    if ask.last_result().contains(wanted) { next } else { unexpected(ask) }
}

fn exec(command: &str) -> Reply {
    Reply::calls(&[("exec", json!({"command": command}))])
}

/// Every misbehaviour, by the slug of its task.
fn misbehave(ask: &Ask) -> Reply {
    let slug = ask.task();
    let line = format!("this is {slug}\n");
    let good = Reply::write(&format!("{slug}.txt"), &line);
    match (slug.as_str(), ask.turn()) {
        ("outside", 0) => Reply::write("elsewhere.txt", "x"),
        ("outside", 1) => {
            if_told(ask, "error", exec("echo x > elsewhere.txt; echo x > /etc/elsewhere; true"))
        }
        ("outside", 2) => Reply::write("../../elsewhere.txt", "x"),
        ("outside", 3) => if_told(ask, "error", Reply::write(".git/hooks/post-commit", "x")),
        ("outside", 4) => if_told(ask, "error", good),
        ("outside", 5) => Reply::finish("kept to the paths in the end"),

        ("patch", 0) => Reply::write("patch.txt", &line),
        ("patch", 1) => Reply::calls(&[(
            "apply_patch",
            json!({"patch":
            "*** Begin Patch\n*** Update File: patch.txt\n-this is patch\n+half\n\
             *** Update File: missing.txt\n-a\n+b\n*** End Patch\n"}),
        )]),
        ("patch", 2) => if_told(ask, "error", exec("cat patch.txt")),
        ("patch", 3) => if_told(ask, "this is patch", Reply::finish("nothing of the patch was applied")),

        ("mended", 0) => Reply::raw_call("write", "{\"path\": \"mended.txt\", \"content\": "),
        ("mended", 1) => if_told(ask, "not valid JSON", Reply::raw_call("finish", "finish")),
        ("mended", 2) => if_told(ask, "not valid JSON", good),
        ("mended", 3) => Reply::finish("sent it again"),

        ("broken", turn) => Reply::raw_call("write", &format!("{{{turn}")),
        ("endless", turn) => exec(&format!("echo turn {turn}")),
        ("circling", _) => exec("echo the same"),
        ("silent", _) => Reply::text("I am thinking about it."),
        ("failing", _) => Reply::finish("the check will not pass"),
        _ => unexpected(ask),
    }
}

async fn start(model: &ScriptedModel) -> TestFactory {
    let mut setup = model.setup();
    setup.capacity = 4;
    setup.orchestration.insert("attempt_max_steps".into(), MAX_STEPS.into());
    TestFactory::start(setup).await
}

async fn submit(factory: &TestFactory, slug: &str) -> JobId {
    factory.admin().submit(&planned_job(slug, &[file_task(slug, &[])])).await.unwrap().id
}

fn delivered(factory: &TestFactory, job: JobId) -> Vec<String> {
    let out = factory.root().join(job.to_string());
    let args = ["artifacts", &job.to_string(), "--out", out.to_str().unwrap()];
    factory.cli_as(factory.admin(), &args).succeeded();
    let mut names: Vec<String> = std::fs::read_dir(out.join("software"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_that_can_be_mended_are_told_and_leave_nothing_behind() {
    let model = ScriptedModel::start(misbehave).await;
    let factory = start(&model).await;
    let mut jobs = Vec::new();
    for slug in ["outside", "patch", "mended"] {
        jobs.push((slug, submit(&factory, slug).await));
    }
    for (slug, job) in jobs {
        factory.completed(job, Limit::JOB).await;
        assert_eq!(delivered(&factory, job), [format!("{slug}.txt")]);
    }
    assert!(!PathBuf::from("/etc/elsewhere").exists(), "a command wrote outside the sandbox");
    factory.verify_audit();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_beyond_hope_fails_its_job_with_the_cause() {
    let model = ScriptedModel::start(misbehave).await;
    let factory = start(&model).await;
    let mut jobs = Vec::new();
    for (slug, kind, says) in [
        ("broken", FailureKind::ContractBreach, "no JSON"),
        ("endless", FailureKind::LimitReached, "12 steps"),
        ("circling", FailureKind::LimitReached, "circles"),
        ("silent", FailureKind::ContractBreach, "without calling a tool"),
        ("failing", FailureKind::CheckFailure, "failing-is-written"),
    ] {
        jobs.push((slug, kind, says, submit(&factory, slug).await));
    }
    for (slug, kind, says, job) in jobs {
        let view = factory.reached(job, JobState::Failed, Limit::JOB).await;
        let cause = view.cause.unwrap_or_default();
        assert!(cause.contains(slug) && cause.contains(says), "{slug}: {cause}");
        let task = view.tasks.iter().find(|task| task.slug.as_str() == slug).unwrap();
        let failure = task.failure.as_ref().unwrap();
        assert_eq!(failure.kind, kind, "{slug}: {failure:?}");
        assert!(failure.detail.contains(says), "{slug}: {failure:?}");
        assert!(view.artefacts.is_empty(), "{slug} delivered");
    }
    factory.verify_audit();
}

fn plan(path: &str) -> Value {
    let mut task = file_task("good", &[]);
    task["paths"] = json!([path]);
    task["expected_outputs"] = json!([path]);
    json!({"summary": "one file", "tasks": [task]})
}

fn unplanned(title: &str) -> Value {
    let mut job = planned_job(title, &[]);
    job.as_object_mut().unwrap().remove("plan");
    job["protected_paths"] = json!(["checks/**"]);
    job
}

/// A coordinator that plans outside the granted paths is told so, and may correct itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_plan_outside_the_granted_paths_is_corrected_or_fails_the_job() {
    let model = ScriptedModel::start(|ask| {
        let stubborn = ask.brief().contains("Stubborn");
        let cyclic =
            json!({"summary": "a circle", "tasks": [file_task("a", &["b"]), file_task("b", &["a"])]});
        match (ask.task().as_str(), ask.turn()) {
            ("plan", turn) if stubborn => Reply::plan(&plan(&format!("checks/{turn}.txt"))),
            ("plan", 0) => Reply::plan(&plan("checks/good.txt")),
            ("plan", 1) => if_told(ask, "protected", Reply::plan(&plan("../good.txt"))),
            ("plan", 2) => if_told(ask, "not a relative path", Reply::plan(&cyclic)),
            ("plan", 3) => if_told(ask, "circle", Reply::plan(&plan("good.txt"))),
            _ => write_file_task(ask),
        }
    })
    .await;
    let factory = start(&model).await;
    let good = factory.admin().submit(&unplanned("Corrected")).await.unwrap().id;
    let stubborn = factory.admin().submit(&unplanned("Stubborn")).await.unwrap().id;
    factory.completed(good, Limit::JOB).await;
    assert_eq!(delivered(&factory, good), ["good.txt"]);
    let view = factory.reached(stubborn, JobState::Failed, Limit::JOB).await;
    let cause = view.cause.unwrap_or_default();
    assert!(cause.contains("not valid") && cause.contains("protected"), "{cause}");
    assert!(view.plan.is_none() && view.artefacts.is_empty());
    let planning = view.tasks.iter().find(|task| task.slug.as_str() == "plan").unwrap();
    assert_eq!(planning.failure.as_ref().unwrap().kind, FailureKind::ContractBreach);
    factory.verify_audit();
}

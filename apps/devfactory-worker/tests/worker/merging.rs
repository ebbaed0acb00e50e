//! Merges that break what was there, and conflicts that agents resolve.

use df_contract::lease::{Recheck, Work};
use df_contract::task::{Conflict, Product, TreeRef};
use df_contract::{AgentTask, AttemptOutcome, FailureKind, Role};
use serde_json::json;

use crate::daemon::call;
use crate::leases::{finish, integrate, task};
use crate::{World, check};

fn recheck(task: &str, check: df_contract::AcceptanceCheck) -> Recheck {
    Recheck { task: task.parse().unwrap(), check }
}

#[tokio::test]
async fn a_merge_that_breaks_what_an_earlier_task_made_fails_with_that_tasks_check() {
    let w = World::new().await;
    let base = w.tree(None, &[("src/api.py", "A = 1\n"), ("src/old.py", "O = 1\n")]).await;
    // `users` was merged before and needs both names; the change renames one of them.
    let head = w
        .tree(
            Some(&base),
            &[("src/api.py", "A = 1\n"), ("src/old.py", "O = 1\n"), ("users.py", "from src.api import A\n")],
        )
        .await;
    let change = w.tree(Some(&base), &[("src/api.py", "B = 1\n"), ("src/old.py", "O = 1\n")]).await;
    let with = |change: &TreeRef, more: Vec<Recheck>| {
        let mut work = integrate(&head, change, vec![check("own", "test -f src/api.py")]);
        let Work::Integrate { rechecks, .. } = &mut work else { unreachable!() };
        *rechecks = more;
        work
    };
    let imports = || recheck("users", check("imports", "python3 users.py"));
    let report = w.report(with(&change, vec![imports()])).await;
    let AttemptOutcome::Failed { kind, detail, .. } = report.outcome else { panic!("it breaks a check") };
    assert_eq!(kind, FailureKind::CheckFailure);
    // The whole output outlives the attempt.
    let logs: Vec<Vec<u8>> = report.evidence.iter().map(|log| w.stage.scene().blobs[log].clone()).collect();
    assert!(logs.iter().any(|log| String::from_utf8_lossy(log).contains("ImportError")), "{logs:?}");
    assert!(detail.contains("merging `api` breaks what `users` made"), "{detail}");
    assert!(
        detail.contains("check `users/imports` failed (exit 1)") && detail.contains("ImportError"),
        "{detail}"
    );

    // What was broken before it is not held against it.
    let harmless = w.tree(Some(&base), &[("src/api.py", "A = 2\n"), ("src/old.py", "O = 1\n")]).await;
    let broken = recheck("docs", check("there", "test -f docs.md"));
    let Product::Merge { checks, .. } = w.product(with(&harmless, vec![imports(), broken])).await else {
        panic!()
    };
    let shown: Vec<(&str, bool)> = checks.iter().map(|c| (c.id.as_str(), c.passed)).collect();
    assert_eq!(shown, [("own", true), ("users/imports", true), ("docs/there", false)]);
    let told = |text: &str| w.stage.scene().lines.iter().any(|l| l.text.contains(text));
    assert!(told("docs/there: it failed before this merge as well"));
}

/// Both sides of a conflict, and the task that is to bring them together.
async fn conflict(w: &World) -> AgentTask {
    let ancestor =
        w.tree(None, &[("src/a.py", "one\ntwo\nthree\n"), ("src/gone.py", "g\n"), ("web/w", "w")]).await;
    let theirs = w
        .tree(
            Some(&ancestor),
            &[
                ("src/a.py", "one\nTHEIRS\nthree\n"),
                ("src/gone.py", "edited\n"),
                ("src/new.py", "n\n"),
                ("web/w", "w"),
            ],
        )
        .await;
    let base = w.tree(Some(&ancestor), &[("src/a.py", "one\nOURS\nthree\n"), ("web/w", "w2")]).await;
    let mut task = task(w, &base, Role::Backend, &["src/**"]);
    task.input.conflict = Some(Conflict {
        of: "api".parse().unwrap(),
        theirs,
        ancestor,
        detail: "`api` does not merge: both sides changed src/a.py, src/gone.py".into(),
    });
    task
}

#[tokio::test]
async fn a_conflict_is_laid_out_and_resolved_on_top_of_the_job_branch() {
    let w = World::new().await;
    let mut task = conflict(&w).await;
    task.checks =
        vec![check("both", "grep -q OURS src/a.py && grep -q THEIRS src/a.py && test -f src/new.py")];
    w.stage.scene().answers = [
        call("read", json!({"path": "src/a.py"})),
        finish(),
        call("write", json!({"path": "src/a.py", "content": "one\nOURS\nTHEIRS\nthree\n"})),
        finish(),
    ]
    .into();
    let base = task.base.clone();
    let Product::Change { tree, .. } = w.product(Work::Agent { task: Box::new(task) }).await else {
        panic!()
    };
    let text = |path: &str, content: &str| (path.to_owned(), content.to_owned());
    let expect =
        [text("src/a.py", "one\nOURS\nTHEIRS\nthree\n"), text("src/new.py", "n\n"), text("web/w", "w2")];
    assert_eq!(w.files(&tree).await, expect);

    // The result is a change on top of the job branch, so that it merges.
    let Product::Merge { .. } = w.product(integrate(&base, &tree, vec![])).await else { panic!() };

    let calls = w.stage.scene().model_calls.clone();
    let brief = calls[0]["messages"][1]["content"].as_str().unwrap().to_owned();
    for expect in [
        "## A change that does not merge\nThe task `api` made a change",
        "### Files with conflict markers\n- src/a.py\n",
        "- src/gone.py: the job branch removed it, the change edited it; the change's version:\n```\nedited\n```",
        "### Taken from the change without a question\n- src/new.py",
    ] {
        assert!(brief.contains(expect), "{expect}\n{brief}");
    }
    let answers = calls.last().unwrap()["messages"].to_string();
    assert!(answers.contains("<<<<<<< job branch") && answers.contains("||||||| before both"), "{answers}");
    assert!(answers.contains("files in which conflict markers remain: src/a.py"), "{answers}");
}

#[tokio::test]
async fn a_conflict_that_is_left_standing_is_no_result() {
    let w = World::new().await;
    let task = conflict(&w).await;
    w.stage.scene().answers = std::iter::repeat_with(finish).take(5).collect();
    let (kind, detail) = w.failure(Work::Agent { task: Box::new(task) }).await;
    assert_eq!(kind, FailureKind::CheckFailure);
    assert!(detail.contains("conflict markers remain: src/a.py"), "{detail}");
}

/// More conflicts than one attempt can be asked to resolve: that is the change, not the machine.
#[tokio::test]
async fn too_many_conflicts_are_a_breach_and_no_fault_of_the_machine() {
    let w = World::new().await;
    let names: Vec<String> = (0..600).map(|n| format!("src/f{n}.py")).collect();
    let with =
        |text: &'static str| -> Vec<(&str, &str)> { names.iter().map(|n| (n.as_str(), text)).collect() };
    let ancestor = w.tree(None, &[("web/w", "w")]).await;
    let theirs = w.tree(Some(&ancestor), &with("theirs\n")).await;
    let base = w.tree(Some(&ancestor), &with("ours\n")).await;
    let mut task = task(&w, &base, Role::Backend, &["src/**"]);
    let detail = "`api` does not merge".to_owned();
    task.input.conflict = Some(Conflict { of: "api".parse().unwrap(), theirs, ancestor, detail });
    let (kind, detail) = w.failure(Work::Agent { task: Box::new(task) }).await;
    assert_eq!(kind, FailureKind::ContractBreach);
    assert!(detail.contains("conflicts"), "{detail}");
}

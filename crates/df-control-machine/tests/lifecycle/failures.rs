//! What becomes of failures: other attempts, tasks left out, plans made anew, conflicts resolved.

use df_contract::api::Spend;
use df_contract::{FailureKind, JobState, OnFailure, Role, TaskState, Tokens};
use df_control_machine::{CommandBody, Integration, ReturnCause, Step, next_step};

use crate::driver::{Driver, plan, plan_of, slug, task};

fn spec(more: serde_json::Value) -> serde_json::Value {
    let mut spec = serde_json::json!({"title": "t", "description": "d"});
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    spec
}

fn plain() -> serde_json::Value {
    spec(serde_json::json!({}))
}

#[test]
fn a_task_waits_for_what_it_builds_on_and_for_every_earlier_wave() {
    let tasks = vec![task("a", &[], None), task("b", &[], None), task("c", &["a"], None)];
    let mut job = Driver::in_progress(plain(), plan_of(tasks));
    let (a, b, c) = (job.task("a"), job.task("b"), job.task("c"));
    assert_eq!((a.wave, b.wave, c.wave), (1, 1, 2));
    assert_eq!((a.rank, job.task("integrate.a").rank, b.rank, c.rank), (4, 3, 2, 2));
    assert_eq!(c.depends_on, [slug("integrate.a")].into());
    for name in ["a", "integrate.a", "b"] {
        job.succeed(name);
        assert_eq!(job.task("c").state, TaskState::Pending, "after {name}");
    }
    job.succeed("integrate.b");
    assert_eq!(job.task("c").state, TaskState::Ready);
    assert_eq!(job.task("c").base, job.record().head);
}

#[test]
fn each_way_to_lose_a_lease_counts_as_what_it_is() {
    let mut job = Driver::in_progress(plain(), plan());
    for (cause, lost, failed) in [
        (ReturnCause::Drained, 0, None),
        (ReturnCause::SessionEnded, 1, None),
        (ReturnCause::NotMade, 2, None),
        (ReturnCause::Stalled, 2, Some(FailureKind::Stalled)),
        (ReturnCause::Deadline, 2, Some(FailureKind::LimitReached)),
    ] {
        job.take(&slug("a"));
        job.give_back("a", cause);
        let task = job.task("a");
        assert_eq!(task.state, TaskState::Ready, "{cause:?}");
        assert_eq!((task.lost_leases, task.failures.last().map(|f| f.kind)), (lost, failed), "{cause:?}");
    }
    job.take(&slug("a"));
    job.give_back("a", ReturnCause::Deadline);
    assert_eq!(job.task("a").state, TaskState::Failed, "an attempt may run past its deadline twice");
}

#[test]
fn attempts_end_with_the_rule_the_jobs_own_word_or_the_share_of_the_budget() {
    let attempts = |mut job: Driver, spend: u64| {
        for attempt in 1.. {
            job.take(&slug("a"));
            let spend = Spend { calls: 1, input_tokens: Tokens(spend), ..Spend::default() };
            job.send("daemon", CommandBody::RecordSpend { slug: slug("a"), spend, through: attempt })
                .unwrap();
            job.report(&slug("a"), crate::driver::failure(FailureKind::CheckFailure, "red")).unwrap();
            if job.task("a").state == TaskState::Failed {
                return (attempt, job.record().root_cause.clone().unwrap().detail);
            }
        }
        unreachable!("a task fails for good at some time")
    };
    let own = spec(serde_json::json!({"retries": {"check_failure": {"attempts": 5}}}));
    assert_eq!(attempts(Driver::in_progress(plain(), plan()), 0), (3, "red".to_owned()));
    assert_eq!(attempts(Driver::in_progress(own, plan()), 0).0, 5);
    // Three tasks share 1,000 tokens; 90 % of 333 are used after two attempts of 150.
    let (count, why) = attempts(Driver::in_progress(plain(), plan()), 150);
    assert_eq!(count, 2);
    assert!(why.contains("300 of the task's 333 tokens"), "{why}");
}

#[test]
fn a_task_that_may_be_skipped_takes_along_what_builds_on_it_and_no_more() {
    let tasks = vec![
        task("a", &[], None),
        task("extra", &[], Some(OnFailure::Skip)),
        task("polish", &["extra"], None),
        task("b", &["a"], None),
    ];
    let plan = plan_of(tasks);
    let mut job = Driver::in_progress(spec(serde_json::json!({"plan": plan})), plan);
    job.fail("extra", FailureKind::PolicyBreach);
    assert_eq!(
        job.states(&["extra", "integrate.extra", "polish", "integrate.polish"]),
        "FAILED SKIPPED SKIPPED SKIPPED"
    );
    assert_eq!(job.run(), "a integrate.a b integrate.b validate.1 deliver.bundle");
    assert_eq!(job.record().state, JobState::Completed);
    assert_eq!(job.record().cause.as_deref(), Some("without `extra`, `polish`"));
}

#[test]
fn a_job_of_which_nothing_is_left_fails() {
    let mut job = Driver::in_progress(
        spec(serde_json::json!({"on_failure": "skip"})),
        plan_of(vec![task("a", &[], None), task("b", &["a"], None)]),
    );
    job.fail("a", FailureKind::PolicyBreach);
    assert_eq!(job.record().integration(), Integration::Empty);
    job.advance();
    assert_eq!(job.record().state, JobState::Failed);
    assert_eq!(job.record().root_cause.as_ref().unwrap().task, slug("a"));
}

#[test]
fn planning_anew_keeps_what_is_merged_and_drops_the_rest() {
    let mut job = Driver::in_progress(spec(serde_json::json!({"on_failure": "replan"})), plan());
    job.succeed("a");
    job.succeed("integrate.a");
    let head = job.record().head.clone();
    job.take(&slug("c"));
    job.fail("b", FailureKind::PolicyBreach);
    assert_eq!(job.record().state, JobState::InProgress);
    job.advance();
    assert_eq!(job.record().state, JobState::TaskPlanning);
    assert_eq!(job.states(&["b", "c", "integrate.c", "plan.2"]), "FAILED CANCELLED CANCELLED READY");
    let replan = job.record().replan.clone().unwrap();
    assert_eq!(replan.finished.into_keys().collect::<Vec<_>>(), [slug("a")]);
    assert_eq!(replan.dropped.into_keys().collect::<Vec<_>>(), [slug("b"), slug("c")]);
    assert!(replan.cause.contains("b went wrong"), "{}", replan.cause);
    assert_eq!(job.task("plan.2").base, head);
    job.succeed("plan.2");
    job.advance();
    let plan = job.record().plan.clone().unwrap();
    let slugs: Vec<&str> = plan.tasks.iter().map(|t| t.slug.as_str()).collect();
    assert_eq!(slugs, ["a", "a-1", "b-1", "c-1"]);
    assert_eq!(Some(df_contract::digest_json(plan.as_ref()).unwrap()), job.record().plan_digest);
    assert_eq!((job.task("a-1").wave, job.task("b-1").wave), (3, 4));
    assert_eq!(job.task("a-1").depends_on, [slug("integrate.a")].into());
    job.run();
    assert_eq!(job.record().state, JobState::Completed);
    assert_eq!(job.record().cause, None);
}

#[test]
fn a_job_is_planned_anew_twice_and_then_fails() {
    let mut job = Driver::in_progress(spec(serde_json::json!({"on_failure": "replan"})), plan());
    for (failing, next) in [("a", "plan.2"), ("a-1", "plan.3")] {
        job.fail(failing, FailureKind::PolicyBreach);
        job.advance();
        job.succeed(next);
        job.advance();
    }
    job.fail("a-2", FailureKind::PolicyBreach);
    assert_eq!(next_step(job.record(), df_contract::Timestamp(job.clock)), Step::FailForTask);
    job.advance();
    assert_eq!(job.record().state, JobState::Failed);
    assert_eq!(job.record().root_cause.as_ref().unwrap().task, slug("a-2"), "the last is what ended it");
}

#[test]
fn a_new_plan_may_not_use_old_names() {
    let mut job = Driver::in_progress(spec(serde_json::json!({"on_failure": "replan"})), plan());
    job.fail("a", FailureKind::PolicyBreach);
    job.advance();
    job.take(&slug("plan.2"));
    let again = df_contract::task::Product::Plan { plan: plan(), result: crate::driver::result() };
    let outcome = df_contract::AttemptOutcome::Succeeded { product: again };
    job.report(&slug("plan.2"), outcome).unwrap();
    let failure = job.task("plan.2").failures.last().unwrap().clone();
    assert_eq!(failure.kind, FailureKind::ContractBreach);
    assert!(failure.detail.contains("`a`"), "{}", failure.detail);
}

#[test]
fn a_conflict_becomes_a_task_with_both_sides_and_what_they_began_from() {
    let tasks = vec![task("a", &[], None), task("b", &[], None)];
    let mut job = Driver::in_progress(plain(), plan_of(tasks));
    let ancestor = job.task("b").base.clone().unwrap();
    for name in ["a", "b", "integrate.a"] {
        job.succeed(name);
    }
    let theirs = job.task("b").output.tree.clone().unwrap();
    job.fail("integrate.b", FailureKind::MergeConflict);
    let resolve = job.task("resolve.b.1");
    let conflict = resolve.conflict.clone().unwrap();
    assert_eq!((conflict.of, conflict.theirs, conflict.ancestor), (slug("b"), theirs, ancestor));
    assert_eq!(resolve.base, job.record().head, "our side");
    assert_eq!(resolve.plan_task, job.task("b").plan_task, "what was merged is not in its way");
    assert_eq!(job.states(&["b", "integrate.b", "resolve.b.1"]), "SUCCEEDED PENDING READY");
    job.succeed("resolve.b.1");
    assert_eq!(job.task("integrate.b").merges, Some(slug("resolve.b.1")));
    // A check that fails after this merge is the resolved change's failure.
    job.fail("integrate.b", FailureKind::CheckFailure);
    assert_eq!(job.states(&["b", "integrate.b", "resolve.b.1"]), "SUCCEEDED PENDING READY");
    job.succeed("resolve.b.1");
    job.succeed("integrate.b");
    assert_eq!(job.record().integrated(), [slug("a"), slug("b")]);
    job.run();
    assert_eq!(job.record().state, JobState::Completed);
}

/// A name that one task needs for a file and another for a directory: what came to the branch before the change began,
/// and what cannot stand in its way, is not given to who resolves it.
#[test]
fn a_conflicts_task_may_write_what_either_side_may() {
    let with = |name: &str, on: &[&str], role: Role, paths: &[&str]| {
        let paths = paths.iter().map(|p| (*p).to_owned()).collect();
        df_contract::PlanTask { paths, role, ..task(name, on, None) }
    };
    for (role, expect) in [
        (Role::Backend, &["tests/x/inner", "tests/x*", "notes/**"][..]),
        (Role::Qa, &["tests/x/inner", "tests/x*"]),
    ] {
        let tasks = vec![
            with("early", &[], Role::Backend, &["tests/x/**"]),
            with("file", &["early"], Role::Backend, &["tests/x*", "notes/**"]),
            with("far", &["early"], Role::Backend, &["far/**"]),
            with("folder", &["early"], role, &["tests/x/inner"]),
        ];
        let mut job = Driver::in_progress(plain(), plan_of(tasks));
        for name in ["early", "integrate.early", "file", "far", "folder", "integrate.file", "integrate.far"] {
            job.succeed(name);
        }
        job.fail("integrate.folder", FailureKind::MergeConflict);
        assert_eq!(job.task("resolve.folder.1").plan_task.as_ref().unwrap().paths, expect);
        assert_eq!(
            job.task("folder").plan_task.as_ref().unwrap().paths,
            ["tests/x/inner"],
            "the plan stays as it is"
        );
        // What does not fit even then is resolved with no less.
        job.succeed("resolve.folder.1");
        job.fail("integrate.folder", FailureKind::MergeConflict);
        assert_eq!(job.task("resolve.folder.2").plan_task.as_ref().unwrap().paths, expect);
    }
}

#[test]
fn packages_that_contradict_each_other_send_the_change_back_to_its_task() {
    let mut job = Driver::in_progress(plain(), plan_of(vec![task("a", &[], None), task("b", &[], None)]));
    for name in ["a", "b", "integrate.a"] {
        job.succeed(name);
    }
    job.fail("integrate.b", FailureKind::DependencyConflict);
    assert_eq!(job.states(&["b", "integrate.b"]), "READY PENDING");
    assert_eq!(job.task("b").base, job.record().head, "it is done again on the new head");
    assert_eq!(job.task("b").failures.last().unwrap().kind, FailureKind::DependencyConflict);
    job.succeed("b");
    job.fail("integrate.b", FailureKind::DependencyConflict);
    assert_eq!(job.states(&["integrate.b"]), "FAILED", "twice is what its rule allows");
}

#[test]
fn a_change_that_never_fits_fails_its_task() {
    let mut job = Driver::in_progress(plain(), plan_of(vec![task("a", &[], None), task("b", &["a"], None)]));
    job.succeed("a");
    job.fail("integrate.a", FailureKind::MergeConflict);
    job.succeed("resolve.a.1");
    job.fail("integrate.a", FailureKind::MergeConflict);
    job.succeed("resolve.a.2");
    job.fail("integrate.a", FailureKind::MergeConflict);
    assert_eq!(job.states(&["integrate.a", "b"]), "FAILED SKIPPED");
    let cause = job.record().root_cause.clone().unwrap();
    assert_eq!((cause.task, cause.kind), (slug("a"), FailureKind::MergeConflict));
    job.advance();
    assert_eq!(job.record().state, JobState::Failed);
}

#[test]
fn a_share_that_is_used_up_is_the_tasks_failure_and_a_budget_that_is_used_up_a_pause() {
    for (share, account, expect) in [
        (Some(Tokens(300)), "task", JobState::Failed),
        (Some(Tokens(300)), "attempt", JobState::Failed),
        (Some(Tokens(300)), "job", JobState::Paused),
        (None, "task", JobState::Paused),
        (None, "attempt", JobState::Paused),
    ] {
        let mut planned = plan();
        planned.tasks[0].tokens = share;
        let mut job = Driver::in_progress(plain(), planned);
        job.take(&slug("a"));
        let account = match account {
            "task" => job.record().task_account(&slug("a")),
            "attempt" => df_control_machine::JobRecord::attempt_account(job.task("a").attempt.unwrap()),
            other => format!("{other}:{}", job.record().id),
        };
        let detail = format!("402, budget_exhausted: `{account}` has 5 tokens of 300 left");
        job.report(&slug("a"), crate::driver::failure(FailureKind::BudgetExhausted, &detail)).unwrap();
        job.advance();
        assert_eq!(job.record().state, expect, "{detail}");
    }
}

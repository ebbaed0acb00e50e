//! The job branch back at an earlier point.

use df_contract::api::Spend;
use df_contract::{ErrorCode, FailureKind, JobState, TaskState, Tokens, Verdict};
use df_control_machine::{CommandBody, Effect};

use crate::driver::{Driver, plan, plan_of, slug, task};

fn spec() -> serde_json::Value {
    serde_json::json!({"title": "t", "description": "d"})
}

fn back(job: &mut Driver, to: Option<&str>) -> Result<(), ErrorCode> {
    job.send("op", CommandBody::Rollback { to: to.map(slug) }).map_err(|e| e.code())
}

#[test]
fn what_was_undone_and_all_that_came_after_is_done_again() {
    let mut job = Driver::in_progress(spec(), plan());
    let base = job.record().base.clone();
    for name in ["a", "integrate.a", "b", "integrate.b"] {
        job.succeed(name);
    }
    job.take(&slug("c"));
    let held = job.task("c").epoch;
    back(&mut job, Some("a")).unwrap();
    assert_eq!(job.record().head, job.task("integrate.a").output.tree);
    assert_eq!(
        job.states(&["a", "integrate.a", "b", "integrate.b", "c"]),
        "SUCCEEDED SUCCEEDED READY PENDING LEASED"
    );
    assert_eq!(job.task("c").epoch, held, "the same wave began from a tree that still stands");
    back(&mut job, None).unwrap();
    assert_eq!(job.record().head, base);
    assert_eq!(job.states(&["a", "integrate.a", "b", "c"]), "READY PENDING PENDING PENDING");
    assert!(job.task("c").epoch > held);
    assert_eq!(job.task("a").base, base);
    job.run();
    assert_eq!(job.record().state, JobState::Completed);
    assert_eq!(job.record().integrated().len(), 3);
}

#[test]
fn a_rollback_ends_the_grants_of_what_runs() {
    let mut job = Driver::in_progress(spec(), plan());
    for name in ["a", "integrate.a"] {
        job.succeed(name);
    }
    job.take(&slug("b"));
    let (record, epoch) = (job.record().clone(), job.task("b").epoch);
    let command = df_control_machine::Command {
        id: df_contract::CommandId::mint(df_contract::Timestamp(9), [9; 10]),
        job: record.id,
        actor: df_control_machine::Actor { name: "op".into(), role: df_contract::Role::Operator },
        at: df_contract::Timestamp(job.clock),
        body: CommandBody::Rollback { to: None },
    };
    let decided = df_control_machine::decide(Some(&record), &command).unwrap();
    assert_eq!(decided.effects, [Effect::RevokeGrants { slug: slug("b"), epoch }]);
}

#[test]
fn a_resolved_conflict_that_was_undone_starts_with_the_change_itself() {
    let mut job = Driver::in_progress(spec(), plan_of(vec![task("a", &[], None), task("b", &[], None)]));
    for name in ["a", "b", "integrate.a"] {
        job.succeed(name);
    }
    job.fail("integrate.b", FailureKind::MergeConflict);
    job.take(&slug("resolve.b.1"));
    // What resolves the conflict began from the merge of `a`, which is no more.
    back(&mut job, None).unwrap();
    assert_eq!(job.states(&["a", "b", "resolve.b.1", "integrate.b"]), "READY SUCCEEDED CANCELLED READY");
    assert_eq!(job.task("integrate.b").merges, Some(slug("b")));
    job.run();
    assert_eq!(job.record().state, JobState::Completed);
}

#[test]
fn a_merge_that_runs_is_taken_back_with_the_head_it_began_from() {
    let mut job = Driver::in_progress(spec(), plan_of(vec![task("a", &[], None), task("b", &[], None)]));
    for name in ["a", "b", "integrate.a"] {
        job.succeed(name);
    }
    job.take(&slug("integrate.b"));
    back(&mut job, None).unwrap();
    assert_eq!(job.states(&["a", "b", "integrate.b"]), "READY SUCCEEDED READY");
}

#[test]
fn a_rollback_does_not_bring_back_what_a_new_plan_dropped() {
    let mut wish = spec();
    wish["on_failure"] = "replan".into();
    let mut job = Driver::in_progress(wish, plan());
    for name in ["a", "integrate.a", "b"] {
        job.succeed(name);
    }
    job.fail("c", FailureKind::PolicyBreach);
    job.advance();
    job.succeed("plan.2");
    job.advance();
    back(&mut job, None).unwrap();
    assert_eq!(
        job.states(&["a", "b", "integrate.b", "c", "a-1"]),
        "READY SUCCEEDED CANCELLED FAILED PENDING"
    );
    let order = job.run();
    assert!(order.starts_with("a integrate.a a-1 integrate.a-1"), "{order}");
    assert_eq!(job.record().state, JobState::Completed);
}

/// What was spent on what was undone is gone for the job, but not for the task that is done again.
#[test]
fn a_task_that_was_undone_has_its_share_anew_and_the_job_has_not() {
    let mut planned = plan();
    planned.tasks[0].tokens = Some(Tokens(300));
    let mut job = Driver::in_progress(spec(), planned);
    let spend = |job: &mut Driver, tokens, through| {
        let spend = Spend { calls: 1, input_tokens: Tokens(tokens), ..Spend::default() };
        job.send("daemon", CommandBody::RecordSpend { slug: slug("a"), spend, through }).unwrap();
    };
    let first = job.record().task_account(&slug("a"));
    job.take(&slug("a"));
    spend(&mut job, 290, 1);
    let product = job.product_of(&slug("a"));
    job.report(&slug("a"), df_contract::AttemptOutcome::Succeeded { product }).unwrap();
    job.succeed("integrate.a");
    back(&mut job, None).unwrap();
    let again = job.record().task_account(&slug("a"));
    assert_eq!(again, format!("{first}@1"));
    assert_eq!(job.record().spend.tokens(), Tokens(290));
    // 90 % of 300 end it by the share; 290 were used before.
    job.take(&slug("a"));
    spend(&mut job, 100, 2);
    job.report(&slug("a"), crate::driver::failure(FailureKind::CheckFailure, "red")).unwrap();
    assert_eq!(job.task("a").state, TaskState::Ready, "another attempt");
    job.take(&slug("a"));
    spend(&mut job, 180, 3);
    job.report(&slug("a"), crate::driver::failure(FailureKind::CheckFailure, "red")).unwrap();
    let cause = job.record().root_cause.clone().unwrap().detail;
    assert!(cause.contains("280 of the task's 300 tokens"), "{cause}");
    assert_eq!(job.record().spend.tokens(), Tokens(570), "the job's cap counts all of it");
}

#[test]
fn what_the_gate_asked_for_in_vain_does_not_count_against_the_job() {
    let mut job = Driver::in_progress(spec(), plan_of(vec![task("a", &[], None)]));
    let refused = |job: &mut Driver| {
        while job.record().state != JobState::Validating || job.record().gate_facts.is_none() {
            if !job.step(&mut || Verdict::Approved).unwrap() {
                let ready = job.ready().remove(0);
                job.succeed(ready.as_str());
            }
        }
        job.step(&mut || Verdict::Rejected).unwrap();
    };
    for _ in 0..3 {
        refused(&mut job);
        assert_eq!(job.record().state, JobState::InProgress, "{:?}", job.record().cause);
        back(&mut job, None).unwrap();
    }
    for _ in 0..2 {
        refused(&mut job);
        assert_eq!(job.record().state, JobState::InProgress, "{:?}", job.record().cause);
    }
    refused(&mut job);
    assert_eq!(job.record().state, JobState::Failed, "twice is as often as the gate sends work back");
}

#[test]
fn what_cannot_be_undone_is_refused() {
    let mut job = Driver::in_progress(spec(), plan());
    assert_eq!(back(&mut job, None), Err(ErrorCode::InvalidRequest), "nothing is merged");
    for name in ["a", "integrate.a"] {
        job.succeed(name);
    }
    for to in ["a", "b", "plan", "integrate.a"] {
        assert_eq!(back(&mut job, Some(to)), Err(ErrorCode::InvalidRequest), "{to}");
    }
    job.send("op", CommandBody::Pause { cause: "look".into() }).unwrap();
    back(&mut job, None).unwrap();
    assert_eq!(job.record().state, JobState::Paused);
    job.send("op", CommandBody::Resume).unwrap();
    assert_eq!(job.ready(), [slug("a")]);
    job.run();
    assert_eq!(back(&mut job, None), Err(ErrorCode::IllegalTransition), "it is delivered");
    assert!(job.in_state(TaskState::Leased).is_empty());
}

//! Any commands in any order: every invariant holds, and afterwards the job can still be brought to its end.

use df_contract::decision::Verdict;
use df_contract::{AttemptOutcome, FailureKind, JobState, OnFailure, TaskSlug, TaskState, Timestamp, Tokens};
use df_control_machine::step::over_budget;
use df_control_machine::{Caps, CommandBody, ReturnCause, job};
use proptest::prelude::*;

use crate::driver::{Driver, failure, plan_of, rule, task};

#[derive(Debug, Clone)]
enum Move {
    Step(u8),
    Claim(u8),
    Succeed(u8),
    Fail(u8, u8),
    Conflict(u8),
    Return(u8),
    Vote(bool, u8),
    Pause,
    Resume,
    Cancel(u8),
    Spend(u8, u16),
    Sleep(u32),
    Message(u8),
    Raise(u8, u16),
    Priority(i8),
    Rollback(u8),
}

fn moves() -> impl Strategy<Value = Move> {
    prop_oneof![
        12 => any::<u8>().prop_map(Move::Step),
        10 => any::<u8>().prop_map(Move::Claim),
        10 => any::<u8>().prop_map(Move::Succeed),
        2 => any::<(u8, u8)>().prop_map(|(a, b)| Move::Fail(a, b)),
        1 => any::<u8>().prop_map(Move::Conflict),
        1 => any::<u8>().prop_map(Move::Return),
        3 => any::<(bool, u8)>().prop_map(|(a, b)| Move::Vote(a, b)),
        1 => Just(Move::Pause),
        2 => Just(Move::Resume),
        1 => any::<u8>().prop_map(Move::Cancel),
        1 => any::<(u8, u16)>().prop_map(|(a, b)| Move::Spend(a, b % 100)),
        2 => (0u32..100_000).prop_map(Move::Sleep),
        1 => any::<u8>().prop_map(Move::Message),
        1 => any::<(u8, u16)>().prop_map(|(a, b)| Move::Raise(a, b)),
        1 => any::<i8>().prop_map(Move::Priority),
        1 => any::<u8>().prop_map(Move::Rollback),
    ]
}

fn policies() -> impl Strategy<Value = Option<OnFailure>> {
    prop_oneof![
        Just(None),
        Just(Some(OnFailure::Fail)),
        Just(Some(OnFailure::Skip)),
        Just(Some(OnFailure::Replan))
    ]
}

/// Any job: the tasks of its plan with what they build on, and what becomes of it when they fail.
fn jobs() -> impl Strategy<Value = Driver> {
    let tasks = proptest::collection::vec((any::<u8>(), policies()), 1..7);
    (tasks, policies(), 1u32..5).prop_map(|(tasks, policy, attempts)| {
        let spec = serde_json::json!({
            "title": "t", "description": "d", "on_failure": policy.unwrap_or_default(),
            "retries": {"check_failure": {"attempts": attempts}, "tool_failure": {"attempts": 1}},
        });
        let mut job = Driver::of(spec);
        let name = |i: usize| format!("t{i}");
        let planned = tasks.iter().enumerate().map(|(i, (on, policy))| {
            let on: Vec<String> = (0..i).filter(|d| on & (1 << d) != 0).map(name).collect();
            task(&name(i), &on.iter().map(String::as_str).collect::<Vec<_>>(), *policy)
        });
        job.plan = plan_of(planned.collect());
        job
    })
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").field("spec", &self.record().spec).field("plan", &self.plan).finish()
    }
}

fn pick(job: &Driver, n: u8, state: TaskState) -> Option<TaskSlug> {
    let found = job.in_state(state);
    (!found.is_empty()).then(|| found[n as usize % found.len()].clone())
}

/// Does `one`; answers whether it was refused. What does not apply counts as done.
fn refused(job: &mut Driver, one: Move) -> bool {
    let leased = |job: &Driver, n| pick(job, n, TaskState::Leased);
    let verdict = |n: u8| match n {
        0..40 => Verdict::NeedsApproval,
        40..48 => Verdict::Rejected,
        _ => Verdict::Approved,
    };
    let outcome = match one {
        Move::Step(n) => job.step(&mut || verdict(n)).map(|_| ()),
        Move::Claim(n) => pick(job, n, TaskState::Ready).map_or(Ok(()), |slug| job.claim(&slug)),
        Move::Succeed(n) => leased(job, n).map_or(Ok(()), |slug| {
            let product = job.product_of(&slug);
            job.report(&slug, AttemptOutcome::Succeeded { product })
        }),
        Move::Fail(n, k) => leased(job, n).map_or(Ok(()), |slug| {
            let kind = FailureKind::ALL[k as usize % FailureKind::ALL.len()];
            job.report(&slug, failure(kind, "d"))
        }),
        Move::Conflict(n) => leased(job, n)
            .filter(|slug| slug.as_str().starts_with("integrate."))
            .map_or(Ok(()), |slug| job.report(&slug, failure(FailureKind::MergeConflict, "d"))),
        Move::Return(n) => leased(job, n).map_or(Ok(()), |slug| {
            let epoch = job.record().tasks[&slug].epoch;
            let causes = [
                ReturnCause::SessionEnded,
                ReturnCause::Drained,
                ReturnCause::NotMade,
                ReturnCause::Deadline,
                ReturnCause::Stalled,
            ];
            let cause = causes[n as usize % causes.len()];
            job.send("reaper", CommandBody::Return { slug, epoch, cause, detail: "gone".into() })
        }),
        Move::Vote(approve, n) => job.vote(if n < 60 { "alice" } else { "bob" }, approve || n > 20, None),
        Move::Pause => job.send("op", CommandBody::Pause { cause: "op".into() }),
        Move::Resume => job.send("op", CommandBody::Resume),
        Move::Cancel(n) if n < 20 => job.send("op", CommandBody::Cancel { cause: "op".into() }),
        Move::Cancel(_) => Ok(()),
        Move::Spend(n, amount) => leased(job, n).map_or(Ok(()), |slug| {
            let spend = df_contract::api::Spend {
                calls: 1,
                input_tokens: Tokens(u64::from(amount)),
                ..Default::default()
            };
            job.send("daemon", CommandBody::RecordSpend { slug, spend, through: 1 })
        }),
        Move::Message(n) => {
            job.send("op", CommandBody::Message { by: "op".into(), text: "x".repeat(n as usize) })
        }
        Move::Raise(n, more) => {
            let caps = Caps { tokens: Tokens(1_000 + u64::from(more)), money_nano_usd: None };
            let by = if n < 128 { "bob" } else { "carol" };
            let expires_at = Timestamp(job.clock + 10_000);
            job.send(by, CommandBody::RequestBudget { by: by.into(), caps, rule: rule(), expires_at })
        }
        Move::Priority(priority) => job.send("op", CommandBody::SetPriority { priority }),
        Move::Rollback(n) => {
            let integrated = &job.record().integrated();
            let to = integrated.get(n as usize % (integrated.len() + 1)).cloned();
            job.send("op", CommandBody::Rollback { to })
        }
        Move::Sleep(ms) => {
            job.clock += u64::from(ms);
            Ok(())
        }
    };
    outcome.is_err()
}

/// Whether people and workers that do all they are asked bring the job to an end.
fn can_end(job: &mut Driver) -> bool {
    for _ in 0..400 {
        while job.step(&mut || Verdict::Approved).unwrap() {}
        let state = job.record().state;
        if job::is_terminal(state) {
            return true;
        }
        if state == JobState::AwaitingApproval {
            job.vote("dora", true, None).unwrap();
        } else if state == JobState::Paused {
            // More budget is not theirs to give.
            if over_budget(job.record()) {
                return true;
            }
            job.send("op", CommandBody::Resume).unwrap();
        } else if let Some(slug) = pick(job, 0, TaskState::Leased) {
            let product = job.product_of(&slug);
            job.report(&slug, AttemptOutcome::Succeeded { product }).unwrap();
        } else if let Some(slug) = pick(job, 0, TaskState::Ready) {
            job.take(&slug);
        } else {
            return false;
        }
    }
    false
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 768, ..ProptestConfig::default() })]
    #[test]
    fn random_commands_keep_every_invariant(mut job in jobs(), way in proptest::collection::vec(moves(), 1..160)) {
        for one in way {
            let before = job.record().clone();
            if refused(&mut job, one) {
                prop_assert_eq!(job.record(), &before, "a refused command writes nothing");
            }
            if job::is_terminal(before.state) {
                prop_assert_eq!(job.record().state, before.state, "terminal states have no exit");
            }
        }
        prop_assert!(can_end(&mut job), "stuck in {}: {:#?}", job.record().state, job.record().tasks);
    }
}

//! Single ways through the life cycle.

use std::collections::BTreeSet;

use df_contract::decision::Verdict;
use df_contract::task::{AgentStatus, Product};
use df_contract::{
    AgentResult, AttemptOutcome, ErrorCode, FailureKind, JobState, LeaseKind, Role, TaskSlug, TaskState,
};
use df_control_machine::{CommandBody, ReturnCause};

use crate::driver::{Driver, plan, product, result};

#[test]
fn the_straight_way_completes_in_order() {
    let mut job = Driver::submitted();
    let mut order = Vec::new();
    for _ in 0..200 {
        while job.step(&mut || Verdict::Approved).unwrap() {}
        let Some(slug) = job.ready().first().cloned() else { break };
        job.claim(&slug).unwrap();
        let task = &job.record().tasks[&slug];
        let made = product(task.kind, task.role, order.len() as u64 + 1);
        job.report(&slug, AttemptOutcome::Succeeded { product: made }).unwrap();
        order.push(slug.to_string());
    }
    assert_eq!(job.record().state, JobState::Completed);
    let want = "intake plan a integrate.a b c integrate.b integrate.c validate.1 deliver.bundle";
    assert_eq!(order.join(" "), want);
    let base = |slug: &str| job.record().tasks[&slug.parse::<TaskSlug>().unwrap()].base.clone();
    assert_eq!(base("b"), base("c"), "tasks side by side start from the same tree, whoever merges first");
    assert_ne!(base("b"), base("a"));
}

#[test]
fn four_eyes_and_changed_subjects_are_refused() {
    let mut job = Driver::submitted();
    job.step(&mut || Verdict::Approved).unwrap();
    let intake: TaskSlug = "intake".parse().unwrap();
    job.claim(&intake).unwrap();
    job.report(&intake, AttemptOutcome::Succeeded { product: product(LeaseKind::Intake, Role::Worker, 1) })
        .unwrap();
    job.step(&mut || Verdict::NeedsApproval).unwrap();
    assert_eq!(job.record().state, JobState::AwaitingApproval);
    let before = job.record().clone();
    assert_eq!(job.vote("alice", true, None).unwrap_err().code(), ErrorCode::FourEyes);
    assert_eq!(job.vote("bob", true, Some(1)).unwrap_err().code(), ErrorCode::ApprovalStale);
    let wrong = CommandBody::Vote {
        approve: true,
        roles: BTreeSet::from([Role::Viewer]),
        seen: df_control_machine::Seen::default(),
        comment: String::new(),
    };
    assert_eq!(job.send("bob", wrong).unwrap_err().code(), ErrorCode::Forbidden);
    assert_eq!(job.record(), &before, "a refused vote writes nothing");
    let version = job.record().approval.as_ref().unwrap().job_version;
    job.vote("bob", true, Some(version)).unwrap();
    assert_eq!(job.record().state, JobState::Approved);
}

#[test]
fn a_stale_report_is_refused_and_a_redone_change_merges() {
    let mut job = Driver::submitted();
    for _ in 0..2 {
        while job.step(&mut || Verdict::Approved).unwrap() {}
        let slug = job.ready()[0].clone();
        job.claim(&slug).unwrap();
        let task = &job.record().tasks[&slug];
        let made = product(task.kind, task.role, 1);
        job.report(&slug, AttemptOutcome::Succeeded { product: made }).unwrap();
    }
    while job.step(&mut || Verdict::Approved).unwrap() {}
    let (a, merge): (TaskSlug, TaskSlug) = ("a".parse().unwrap(), "integrate.a".parse().unwrap());
    job.claim(&a).unwrap();
    let held = job.record().tasks[&a].epoch;
    job.send(
        "reaper",
        CommandBody::Return {
            slug: a.clone(),
            epoch: held,
            cause: ReturnCause::SessionEnded,
            detail: "the session died".into(),
        },
    )
    .unwrap();
    let attempt = job.record().tasks[&a].attempt.unwrap();
    let late = CommandBody::Report {
        slug: a.clone(),
        epoch: held,
        attempt,
        outcome: Box::new(AttemptOutcome::Succeeded { product: product(LeaseKind::Agent, Role::Backend, 7) }),
        sandbox_layers: vec![],
        evidence: Vec::new(),
    };
    assert_eq!(job.send("worker", late).unwrap_err().code(), ErrorCode::StaleLease);
    job.claim(&a).unwrap();
    job.report(&a, AttemptOutcome::Succeeded { product: product(LeaseKind::Agent, Role::Backend, 8) })
        .unwrap();
    let head = job.record().head.clone();
    job.claim(&merge).unwrap();
    let failed =
        AttemptOutcome::Failed { kind: FailureKind::CheckFailure, detail: "a/x".into(), trace: None };
    job.report(&merge, failed).unwrap();
    assert_eq!(job.record().head, head, "a failed merge leaves the job branch alone");
    assert_eq!(job.record().tasks[&a].state, TaskState::Ready);
    assert_eq!(job.record().tasks[&merge].state, TaskState::Pending);
}

fn analysed(spec: serde_json::Value) -> Driver {
    let mut job = Driver::submitted();
    if let Some(record) = &mut job.record {
        record.spec = serde_json::from_value(spec).unwrap();
    }
    job.step(&mut || Verdict::Approved).unwrap();
    let intake: TaskSlug = "intake".parse().unwrap();
    job.claim(&intake).unwrap();
    let made = product(LeaseKind::Intake, Role::Worker, 1);
    job.report(&intake, AttemptOutcome::Succeeded { product: made }).unwrap();
    job
}

#[test]
fn a_vote_after_the_expiry_does_not_count() {
    let mut job = analysed(serde_json::json!({"title": "t", "description": "d"}));
    job.step(&mut || Verdict::NeedsApproval).unwrap();
    job.clock = job.record().approval.as_ref().unwrap().expires_at.0;
    assert_eq!(job.vote("bob", true, None).unwrap_err().code(), ErrorCode::IllegalTransition);
    job.step(&mut || Verdict::Approved).unwrap();
    assert_eq!(job.record().state, JobState::Rejected);
}

#[test]
fn a_paused_job_ends_at_its_deadline() {
    let mut job = analysed(serde_json::json!({"title": "t", "description": "d", "deadline": 100_000}));
    job.step(&mut || Verdict::Approved).unwrap();
    job.send("op", CommandBody::Pause { cause: "op".into() }).unwrap();
    job.clock = 100_000;
    job.step(&mut || Verdict::Approved).unwrap();
    assert_eq!(job.record().state, JobState::Failed);
}

#[test]
fn a_plan_cannot_take_the_place_of_a_task_of_the_factory() {
    for taken in ["plan", "intake"] {
        let mut planned = plan();
        planned.tasks.truncate(1);
        planned.tasks[0].slug = taken.parse().unwrap();
        let spec = serde_json::json!({"title": "t", "description": "d", "plan": planned});
        let mut job = analysed(serde_json::json!({"title": "t", "description": "d"}));
        job.step(&mut || Verdict::Approved).unwrap();
        job.step(&mut || Verdict::Approved).unwrap();
        let slug: TaskSlug = "plan".parse().unwrap();
        job.claim(&slug).unwrap();
        let made = Product::Plan { plan: planned, result: result() };
        job.report(&slug, AttemptOutcome::Succeeded { product: made }).unwrap();
        assert_eq!(job.record().tasks[&slug].failures[0].kind, FailureKind::ContractBreach);
        // A plan that comes with the job is checked at the door; what slips through is refused, not carried out.
        let mut job = analysed(spec);
        while job.step(&mut || Verdict::Approved).unwrap_or(false) {}
        assert_eq!(job.record().tasks[&"intake".parse::<TaskSlug>().unwrap()].kind, LeaseKind::Intake);
    }
}

#[test]
fn a_report_that_breaks_its_contract_is_a_failed_attempt() {
    let start = || {
        let mut job = Driver::submitted();
        job.step(&mut || Verdict::Approved).unwrap();
        job.claim(&"intake".parse().unwrap()).unwrap();
        job
    };
    let intake: TaskSlug = "intake".parse().unwrap();
    let mut job = start();
    let made = product(LeaseKind::Deliver, Role::Deployer, 1);
    job.report(&intake, AttemptOutcome::Succeeded { product: made }).unwrap();
    let task = &job.record().tasks[&intake];
    assert_eq!((task.state, task.failures.len()), (TaskState::Ready, 1));
    assert_eq!(task.failures[0].kind, FailureKind::ContractBreach);
    let mut job = start();
    let detail = "ไ".repeat(1_000_000);
    job.report(&intake, AttemptOutcome::Failed { kind: FailureKind::Infrastructure, detail, trace: None })
        .unwrap();
    assert!(job.record().tasks[&intake].failures[0].detail.len() <= 16 * 1024);
}

#[test]
fn an_agent_that_reports_no_success_has_not_succeeded() {
    let mut job = analysed(serde_json::json!({"title": "t", "description": "d"}));
    job.step(&mut || Verdict::Approved).unwrap();
    job.step(&mut || Verdict::Approved).unwrap();
    let slug: TaskSlug = "plan".parse().unwrap();
    job.claim(&slug).unwrap();
    let asks = AgentResult { status: AgentStatus::NeedsInput { question: "which?".into() }, ..result() };
    let made = Product::Plan { plan: plan(), result: asks };
    job.report(&slug, AttemptOutcome::Succeeded { product: made }).unwrap();
    assert!(job.record().tasks[&slug].failures[0].detail.contains("which?"));
    assert!(job.record().proposed_plan.is_none());
}

#[test]
fn a_target_named_twice_is_delivered_to_once() {
    let spec = serde_json::json!({"title": "t", "description": "d", "delivery": ["shop", "shop", "bundle"]});
    let mut job = analysed(spec);
    for _ in 0..200 {
        while job.step(&mut || Verdict::Approved).unwrap() {}
        let Some(slug) = job.ready().first().cloned() else { break };
        job.claim(&slug).unwrap();
        let task = &job.record().tasks[&slug];
        let made = product(task.kind, task.role, 1);
        job.report(&slug, AttemptOutcome::Succeeded { product: made }).unwrap();
    }
    assert_eq!(job.record().state, JobState::Completed);
    assert_eq!(job.record().tasks.values().filter(|t| t.kind == LeaseKind::Deliver).count(), 2);
}

/// Drives a job of which everything needs approval, and approves the first `votes` times that it is asked. Whether it
/// is asked once more.
fn asked_after(votes: usize) -> Option<Driver> {
    let mut job = Driver::of(serde_json::json!({"title": "t", "description": "d"}));
    let mut left = votes;
    for n in 1..400 {
        if job.record().state == JobState::AwaitingApproval {
            if left == 0 {
                return Some(job);
            }
            left -= 1;
            job.vote("bob", true, None).unwrap();
        } else if !job.step(&mut || Verdict::NeedsApproval).unwrap() {
            let slug = job.ready().first().cloned()?;
            job.claim(&slug).unwrap();
            let task = &job.record().tasks[&slug];
            let made = product(task.kind, task.role, n);
            job.report(&slug, AttemptOutcome::Succeeded { product: made }).unwrap();
        }
    }
    panic!("the job never ends");
}

#[test]
fn a_rejected_job_leaves_no_open_tasks() {
    let mut asked = 0;
    while let Some(mut denied) = asked_after(asked) {
        let mut expired = asked_after(asked).unwrap();
        denied.vote("bob", false, None).unwrap();
        expired.clock += 1_000_000;
        expired.send("daemon", CommandBody::ExpireApproval).unwrap();
        for job in [denied, expired] {
            assert_eq!(job.record().state, JobState::Rejected, "the approval after {asked} others");
            let open =
                |task: &&df_control_machine::TaskRecord| !df_control_machine::task::is_ended(task.state);
            assert_eq!(job.record().tasks.values().find(open), None);
        }
        asked += 1;
    }
    assert!(asked >= 3, "the job, its plan and its result were asked for, not {asked} things");
}

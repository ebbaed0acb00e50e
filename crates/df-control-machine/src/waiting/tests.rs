use std::collections::BTreeSet;

use df_contract::agent::Runtime;
use df_contract::{JobId, LeaseKind, Role, WorkerClass};

use super::*;
use crate::schedule::Runner;
use crate::{Actor, Command, CommandBody, decide};

fn record() -> JobRecord {
    let spec = serde_json::json!({"title": "t", "description": "d", "labels": ["gpu"]});
    let command = |body| Command {
        id: df_contract::CommandId::mint(Timestamp(1), [1; 10]),
        job: JobId::mint(Timestamp(1), [1; 10]),
        actor: Actor { name: "alice".into(), role: Role::Submitter },
        at: Timestamp(1_000),
        body,
    };
    let submit = CommandBody::Submit {
        tenant: "acme".parse().unwrap(),
        submitter: "alice".into(),
        spec: Box::new(serde_json::from_value(spec).unwrap()),
    };
    let record = decide(None, &command(submit)).unwrap().record;
    let mut record = decide(Some(&record), &command(CommandBody::StartAnalysis)).unwrap().record;
    record.state = df_contract::JobState::TaskPlanning;
    let slug: df_contract::TaskSlug = "plan".parse().unwrap();
    let (kind, role) = (LeaseKind::Agent, Role::Coordinator);
    let task = TaskRecord::new(slug.clone(), kind, role, "Plan".into(), BTreeSet::new());
    record.tasks.insert(slug, task);
    record
}

fn worker() -> Worker {
    Worker {
        class: WorkerClass::Trusted,
        labels: ["gpu".to_owned()].into(),
        tiers: [SandboxTier::Bwrap].into(),
        runtimes: [Runtime::Builtin].into(),
    }
}

fn check(room: &Room, expect: Option<WaitingKind>) {
    let record = record();
    let task = &record.tasks[&"plan".parse().unwrap()];
    let found = waiting_for(&record, task, room, Timestamp(5_000));
    assert_eq!(found.as_ref().map(|view| view.kind), expect, "{found:?}");
}

fn room(worker: Worker, free: u32) -> Room {
    Room { workers: vec![Present { worker, free, breakers: Breakers::default() }], ..Room::default() }
}

#[test]
fn a_task_says_the_first_thing_that_is_missing() {
    check(&Room::default(), Some(WaitingKind::Worker));
    check(&room(Worker { runtimes: BTreeSet::new(), ..worker() }, 1), Some(WaitingKind::Runtime));
    check(&room(Worker { labels: BTreeSet::new(), ..worker() }, 1), Some(WaitingKind::Label));
    check(&room(worker(), 0), Some(WaitingKind::Place));
    check(&room(worker(), 1), Some(WaitingKind::Place));
}

#[test]
fn caps_and_breakers_are_named_before_a_free_place() {
    let mut full = room(worker(), 1);
    full.rules.max_per_tenant = Some(2);
    full.running.tenants.insert("acme".parse().unwrap(), 2);
    check(&full, Some(WaitingKind::Cap));
    let mut failing = room(worker(), 1);
    let runner = Runner::builtin(Role::Coordinator).unwrap();
    let open = |until| Breaker::Open { until: Timestamp(until), trips: 1 };
    let kept = |tenant: &str, until| {
        Breakers::from([(tenant.parse().unwrap(), [(runner.clone(), open(until))].into())])
    };
    failing.workers[0].breakers = kept("acme", 6_000);
    check(&failing, Some(WaitingKind::Breaker));
    failing.workers.push(Present { breakers: Breakers::default(), ..failing.workers[0].clone() });
    check(&failing, Some(WaitingKind::Place));
    failing.workers.truncate(1);
    failing.workers[0].breakers = kept("acme", 5_000);
    check(&failing, Some(WaitingKind::Place));
    failing.workers[0].breakers = kept("beta", 6_000);
    check(&failing, Some(WaitingKind::Place));
}

#[test]
fn only_ready_tasks_wait_and_a_back_off_goes_first() {
    let mut record = record();
    let slug: df_contract::TaskSlug = "plan".parse().unwrap();
    let mut task = record.tasks[&slug].clone();
    task.not_before = Timestamp(7_000);
    let found = waiting_for(&record, &task, &Room::default(), Timestamp(5_000)).unwrap();
    assert_eq!((found.kind, found.detail.as_str()), (WaitingKind::BackOff, "tried again in 2.0 s"));
    let long_ago = waiting_for(&record, &task, &Room::default(), Timestamp(0)).unwrap();
    assert_eq!(long_ago.kind, WaitingKind::BackOff);
    task.not_before = Timestamp(3_600_000);
    let back = waiting_for(&record, &task, &Room::default(), Timestamp(5_000)).unwrap();
    assert_eq!(back.kind, WaitingKind::Worker, "the clock went back: it is due");
    task.state = TaskState::Leased;
    assert_eq!(waiting_for(&record, &task, &Room::default(), Timestamp(5_000)), None);
    task.state = TaskState::Ready;
    record.state = df_contract::JobState::Paused;
    assert_eq!(
        waiting_for(&record, &task, &Room::default(), Timestamp(5_000)),
        None,
        "its job waits, not the task"
    );
}

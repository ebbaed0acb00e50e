//! A worker that takes leases and hands every one of them back holds up nobody.

use std::collections::BTreeSet;
use std::convert::Infallible;

use df_contract::agent::Runtime;
use df_contract::{
    AttemptId, CommandId, DurationMs, JobId, Role, SandboxTier, SessionId, TaskSlug, TenantId, Timestamp,
    WorkerClass,
};
use df_control_machine::place::{self, Line};
use df_control_machine::schedule::{Candidate, Picked, Round, Rules, Running, Worker, longest_wait, pick};
use df_control_machine::{Actor, Command, CommandBody, JobRecord, ReturnCause, decide, retry};
use proptest::prelude::*;

/// Jobs whose intake waits, the worker that hands it back, and a clock.
struct World {
    clock: u64,
    minted: u64,
    jobs: Vec<JobRecord>,
    kept: Picked,
    worker: Worker,
}

fn tenant(n: usize) -> TenantId {
    format!("t{n}").parse().unwrap()
}

fn intake() -> TaskSlug {
    "intake".parse().unwrap()
}

impl World {
    fn random(&mut self) -> [u8; 10] {
        self.minted += 1;
        let mut random = [0; 10];
        random[2..].copy_from_slice(&self.minted.to_be_bytes());
        random
    }

    fn decided(&mut self, record: Option<&JobRecord>, job: JobId, body: CommandBody) -> JobRecord {
        let (at, actor) = (Timestamp(self.clock), Actor { name: "x".into(), role: Role::Operator });
        let id = CommandId::mint(at, self.random());
        decide(record, &Command { id, job, actor, at, body }).unwrap().record
    }

    fn submit(&mut self, of: usize) {
        let spec = serde_json::from_value(serde_json::json!({"title": "t", "description": "d"})).unwrap();
        let job = JobId::mint(Timestamp(self.clock), self.random());
        let body =
            CommandBody::Submit { tenant: tenant(of), submitter: "alice".into(), spec: Box::new(spec) };
        let record = self.decided(None, job, body);
        let record = self.decided(Some(&record), job, CommandBody::StartAnalysis);
        self.jobs.push(record);
    }

    fn candidates(&self) -> Vec<Candidate> {
        let due = self.jobs.iter().filter_map(|record| {
            let task = &record.tasks[&intake()];
            let stands = Line::of(record).has(task);
            (stands && retry::is_due(task.not_before, Timestamp(self.clock))).then(|| Candidate {
                job: record.id,
                slug: intake(),
                tenant: record.tenant.clone(),
                needs: place::needs(record, task),
                urgency: place::urgency(record, task),
                rank: task.rank,
            })
        });
        due.collect()
    }

    /// The worker takes what it is given, holds it for a while and hands it back; answers whose it was.
    fn claim_and_return(&mut self, held: u64) -> Option<usize> {
        let (worker, rules) = (self.worker.clone(), Rules::default());
        let round = Round {
            now: Timestamp(self.clock),
            worker: &worker,
            rules: &rules,
            candidates: self.candidates(),
            running: Running::default(),
            virtual_time: self.kept.virtual_time,
            passes: self.kept.passes.clone(),
            breakers: Default::default(),
        };
        let picked = pick(round, 1, |_| Ok::<_, Infallible>(true)).unwrap_or_else(|never| match never {});
        self.kept.virtual_time = picked.virtual_time;
        self.kept.passes.extend(picked.passes);
        let taken = picked.taken.first()?.job;
        let at = self.jobs.iter().position(|record| record.id == taken).unwrap();
        let session = SessionId::mint(Timestamp(1), [1; 10]);
        let attempt = AttemptId::mint(Timestamp(self.clock), self.random());
        let deadline = Timestamp(self.clock + 3_600_000);
        let body = CommandBody::Claim { slug: intake(), session, attempt, deadline };
        let record = self.decided(Some(&self.jobs[at].clone()), taken, body);
        self.clock += held;
        let epoch = record.tasks[&intake()].epoch;
        let (cause, detail) = (ReturnCause::Drained, String::new());
        let body = CommandBody::Return { slug: intake(), epoch, cause, detail };
        self.jobs[at] = self.decided(Some(&record), taken, body);
        Some(at)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Every task, of whatever tenant and however late it was submitted, is offered within a bounded number of claims, though
    /// the only worker there is hands everything back, after however long. Nothing that it does counts as a failure.
    #[test]
    fn a_worker_that_hands_everything_back_keeps_nobody_waiting_for_ever(
        tenants in prop::collection::vec(0usize..3, 2..10),
        apart in 1u64..1_200_000,
        held in prop_oneof![1u64..1_000, 1_000u64..200_000],
    ) {
        let worker = Worker {
            class: WorkerClass::Trusted,
            labels: BTreeSet::new(),
            tiers: [SandboxTier::Bwrap].into(),
            runtimes: [Runtime::Builtin].into(),
        };
        let mut world =
            World { clock: 1_000_000_000, minted: 0, jobs: Vec::new(), kept: Picked::default(), worker };
        for of in &tenants {
            world.submit(*of);
            world.clock += apart;
        }
        // Before the last of a tenant comes first, each of the others is taken for nothing, and then once for each delay between
        // them; and every tenant takes its turn.
        let spread = apart * tenants.len() as u64 / retry::HAND_BACK_DELAY_MS.unsigned_abs();
        let each = u64::from(retry::FREE_HAND_BACKS) + 2 + spread;
        let most = each * tenants.len() as u64 * longest_wait(1, [1, 1]);
        let mut offered = BTreeSet::new();
        for _ in 0..most {
            match world.claim_and_return(held) {
                Some(at) => {
                    offered.insert(at);
                }
                None => {
                    let next = world.jobs.iter().map(|record| record.tasks[&intake()].not_before).min();
                    let next = next.unwrap();
                    prop_assert!(next.since(Timestamp(world.clock)) <= retry::MAX_HAND_BACK_WAIT);
                    world.clock = next.0;
                }
            }
        }
        prop_assert_eq!(offered.len(), tenants.len(), "in {} claims: {:?}", most, offered);
        for record in &world.jobs {
            let task = &record.tasks[&intake()];
            prop_assert_eq!((task.lost_leases, task.failures.len()), (0, 0));
        }
    }
}

/// A report, whatever it says, begins the count anew.
#[test]
fn a_reported_attempt_ends_the_row() {
    use crate::driver::{Driver, plan, slug};
    let mut job = Driver::in_progress(serde_json::json!({"title": "t", "description": "d"}), plan());
    let give_back = |job: &mut Driver| {
        job.take(&slug("a"));
        let before = job.clock;
        job.give_back("a", ReturnCause::Drained);
        job.task("a").not_before.since(Timestamp(before))
    };
    for wait in [0, 0, 1_000, 2_000] {
        let left = give_back(&mut job);
        assert!(left >= DurationMs(wait) && left.0 < wait + 1_000, "{left:?} for {wait}");
    }
    let urgency = |job: &Driver| place::urgency(job.record(), job.task("a"));
    let later = urgency(&job);
    job.fail("a", df_contract::FailureKind::AgentCrash);
    assert_eq!(job.task("a").handed_back, 0);
    assert_eq!(later - urgency(&job), 2 * retry::HAND_BACK_DELAY_MS);
}

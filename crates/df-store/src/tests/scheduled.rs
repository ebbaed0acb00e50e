//! Who is served: what the store hands to the scheduler, and what it keeps of its choice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use df_contract::decision::Verdict;
use df_contract::lease::{HeldLease, SESSION_TTL, SessionOpen};
use df_contract::{AttemptOutcome, DurationMs, FailureKind, JobId, Timestamp, WorkerClass};
use df_control_machine::CommandBody;
use df_control_machine::breaker::{COOL_OFF, OPEN_AFTER};
use df_control_machine::schedule::{Needs, Rules};

use crate::claim::queues_for;
use crate::transition::Tx;

use super::bench::{Bench, submission_of};

const TRUSTED: WorkerClass = WorkerClass::Trusted;

macro_rules! on_both {
    ($($test:ident),+ $(,)?) => {
        mod memory {
            $(#[tokio::test] async fn $test() { super::$test(crate::tests::bench::Bench::memory()).await; })+
        }
        mod sqlite {
            $(#[tokio::test] async fn $test() { super::$test(crate::tests::bench::Bench::sqlite()).await; })+
        }
    };
}

on_both!(
    tenants_take_turns_by_their_weights,
    caps_hold_and_what_is_behind_them_is_served,
    labels_place_agent_tasks_and_hold_up_nobody,
    the_many_queues_of_a_tenant_hide_nobody_elses,
    an_agent_that_keeps_failing_is_shut_off_and_tried_again,
    a_breaker_shuts_off_one_worker_for_one_tenant,
    an_older_attempt_lets_no_second_probe_through,
    breakers_of_workers_unseen_for_long_are_forgotten,
    a_paused_job_leaves_its_queues_and_comes_back,
    priority_moves_what_waits,
    a_worker_that_hands_everything_back_holds_up_nothing,
    a_clock_that_goes_back_holds_up_no_task,
    passes_survive_reopening,
);

fn rules(json: serde_json::Value) -> Arc<Rules> {
    let rules: Rules = serde_json::from_value(json).unwrap();
    rules.validate().unwrap();
    Arc::new(rules)
}

/// A job whose intake waits.
async fn waiting(bench: &mut Bench, tenant: &str) -> JobId {
    let job = bench.submit_body(submission_of(tenant, 0, &[])).await;
    bench.advance(job, Verdict::Approved).await;
    job
}

async fn tenants_of(bench: &Bench, leases: &[HeldLease]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for lease in leases {
        *counts.entry(bench.record(lease.job).await.tenant.to_string()).or_default() += 1;
    }
    counts
}

async fn tenants_take_turns_by_their_weights(mut bench: Bench) {
    for _ in 0..20 {
        waiting(&mut bench, "flood").await;
    }
    for tenant in ["modest", "heavy", "heavy", "heavy", "heavy"] {
        waiting(&mut bench, tenant).await;
    }
    bench.rules = rules(serde_json::json!({"tenant_weights": {"heavy": 2}}));
    let session = bench.session(TRUSTED, 99).await;
    let mut taken = Vec::new();
    for _ in 0..8 {
        taken.extend(bench.claim(session, 1).await);
    }
    let counts = tenants_of(&bench, &taken).await;
    assert_eq!(counts, [("flood".into(), 3), ("heavy".into(), 4), ("modest".into(), 1)].into());
}

async fn caps_hold_and_what_is_behind_them_is_served(mut bench: Bench) {
    let mut wide = Vec::new();
    for _ in 0..2 {
        let job = bench.in_progress().await;
        let session = bench.session(TRUSTED, 2).await;
        for _ in 0..2 {
            let lease = bench.claim(session, 1).await.remove(0);
            bench.succeed(&lease).await;
        }
        wide.push(job);
        // Out of the way of the next one.
        bench.send(job, "bob", CommandBody::Pause { cause: "later".into() }).await.unwrap();
    }
    for job in &wide {
        bench.send(*job, "bob", CommandBody::Resume).await.unwrap();
    }
    let session = bench.session(TRUSTED, 99).await;
    bench.rules = rules(serde_json::json!({"max_per_job": 1}));
    let one_each = bench.claim(session, 9).await;
    assert_eq!(one_each.iter().map(|lease| lease.job).collect::<Vec<_>>(), wide, "b and c are ready in both");
    assert_eq!(bench.claim(session, 9).await, vec![]);
    bench.rules = rules(serde_json::json!({"agents": {"backend": 3}}));
    assert_eq!(bench.claim(session, 9).await.len(), 1);
    assert_eq!(bench.claim(session, 9).await, vec![]);
    let other = waiting(&mut bench, "beta").await;
    bench.rules = rules(serde_json::json!({"max_per_tenant": 3, "tenants": {"beta": 1}}));
    assert_eq!(bench.claim(session, 9).await[0].job, other, "acme holds three");
    waiting(&mut bench, "beta").await;
    assert_eq!(bench.claim(session, 9).await, vec![]);
    bench.rules = rules(serde_json::json!({}));
    assert_eq!(bench.claim(session, 9).await.len(), 2);
}

async fn labels_place_agent_tasks_and_hold_up_nobody(mut bench: Bench) {
    let special = bench.submit_body(submission_of("acme", 100, &["gpu"])).await;
    let mut able = SessionOpen::plain("able", 4);
    able.labels = ["gpu".to_owned(), "zone-a".to_owned()].into();
    bench.bring_in_progress(special, able.clone()).await;
    let plain = waiting(&mut bench, "acme").await;
    let session = bench.session(TRUSTED, 4).await;
    let leases = bench.claim(session, 4).await;
    assert_eq!(leases.iter().map(|lease| lease.job).collect::<Vec<_>>(), [plain]);
    let able = bench.session_of(TRUSTED, able).await;
    let lease = bench.claim(able, 4).await.remove(0);
    assert_eq!((lease.job, lease.slug.as_str()), (special, "a"));
    bench.succeed(&lease).await;
    let merge = bench.claim(session, 4).await.remove(0);
    assert_eq!((merge.job, merge.slug.as_str()), (special, "integrate.a"), "labels are for agents");
}

/// Needs of `acme` that differ from job to job, then `beta`, which comes later in every order.
async fn the_many_queues_of_a_tenant_hide_nobody_elses(mut bench: Bench) {
    for label in ["a", "b", "c", "d"] {
        let job = bench.submit_body(submission_of("acme", 0, &[label])).await;
        let mut able = SessionOpen::plain("able", 4);
        able.labels = [label.to_owned()].into();
        bench.bring_in_progress(job, able).await;
    }
    waiting(&mut bench, "acme").await;
    waiting(&mut bench, "beta").await;
    let look = async |fitting: fn(&Needs) -> bool, most, in_all| {
        let look = move |tx: &mut Tx<'_>| queues_for(tx, &fitting, most, in_all);
        let found = bench.store.owner.call(look).await.unwrap();
        found.iter().map(|(_, tenant, _)| tenant.to_string()).collect::<Vec<_>>().join(" ")
    };
    let unlabelled: fn(&Needs) -> bool = |needs| needs.labels.is_empty();
    assert_eq!(look(|_| true, 100, 100).await, "acme acme acme acme acme beta");
    assert_eq!(look(|_| true, 2, 100).await, "acme acme beta");
    assert_eq!(look(unlabelled, 2, 100).await, "acme beta", "what does not fit is not counted");
    assert_eq!(look(unlabelled, 2, 3).await, "beta");
}

async fn fail(bench: &mut Bench, lease: &HeldLease, kind: FailureKind) {
    let mut body = bench.report_body(lease, 1).await;
    if let CommandBody::Report { outcome, .. } = &mut body {
        **outcome = AttemptOutcome::Failed { kind, detail: "d".into(), trace: None };
    }
    bench.send(lease.job, "worker", body).await.unwrap();
}

/// Jobs of a tenant whose agent fails on the worker `worker` until its breaker opens; all of them wait again.
async fn broken(bench: &mut Bench, tenant: &str) -> Vec<JobId> {
    let (mut jobs, mut held) = (Vec::new(), Vec::new());
    for _ in 0..OPEN_AFTER + 2 {
        let job = bench.submit_body(submission_of(tenant, 0, &[])).await;
        bench.bring_in_progress(job, SessionOpen::plain("worker", 1)).await;
        let session = bench.session(TRUSTED, 1).await;
        held.extend(bench.claim(session, 1).await);
        assert_eq!(held.last().unwrap().job, job);
        jobs.push(job);
    }
    for lease in held.drain(..OPEN_AFTER as usize) {
        fail(bench, &lease, FailureKind::AgentCrash).await;
    }
    jobs.truncate(OPEN_AFTER as usize);
    jobs
}

async fn an_agent_that_keeps_failing_is_shut_off_and_tried_again(mut bench: Bench) {
    broken(&mut bench, "acme").await;
    let waits = bench.in_progress().await;
    let session = bench.session(TRUSTED, 9).await;
    assert_eq!(bench.claim(session, 9).await, vec![], "the breaker is open");
    let intake = waiting(&mut bench, "acme").await;
    assert_eq!(bench.claim(session, 9).await[0].job, intake, "other work goes on");
    bench.sleep(COOL_OFF);
    bench.store.session_heartbeat(session, bench.now, vec![]).await.unwrap_err();
    let session = bench.session(TRUSTED, 9).await;
    let probe = bench.claim(session, 9).await;
    assert_eq!(probe.len(), 1, "one task as a probe, of {waits} and those that failed");
    assert_eq!(bench.claim(session, 9).await, vec![]);
    let twin = bench.session(TRUSTED, 9).await;
    assert_eq!(bench.claim(twin, 9).await, vec![], "the same worker in another session");
    bench.succeed(&probe[0]).await;
    assert!(bench.claim(session, 99).await.len() > 1, "it works again");
    assert!(bench.queues().await[2].contains("[]"), "a closed breaker is not kept");
}

async fn a_breaker_shuts_off_one_worker_for_one_tenant(mut bench: Bench) {
    let jobs = broken(&mut bench, "acme").await;
    bench.sleep(DurationMs(20_000));
    let worker = bench.session(TRUSTED, 9).await;
    assert_eq!(bench.claim(worker, 9).await, vec![], "their back-offs are over, the breaker is open");
    let beta = bench.submit_body(submission_of("beta", 0, &[])).await;
    bench.bring_in_progress(beta, SessionOpen::plain("worker", 1)).await;
    let lease = bench.claim(worker, 9).await;
    assert_eq!(lease.iter().map(|l| l.job).collect::<Vec<_>>(), [beta], "another tenant, the same agent");
    let other = bench.session_of(TRUSTED, SessionOpen::plain("other", 9)).await;
    let claimed: BTreeSet<JobId> = bench.claim(other, 9).await.into_iter().map(|l| l.job).collect();
    let waits = jobs.iter().filter(|job| !claimed.contains(job)).count();
    assert_eq!(waits, 0, "another worker takes at once what this one may not");
    let kept = bench.store.breakers(None).await.unwrap();
    let shown: Vec<_> = kept.iter().map(|(key, _)| (key.worker.as_str(), key.tenant.as_str())).collect();
    assert_eq!(shown, [("worker", "acme")]);
    assert_eq!(bench.store.breakers(Some("beta".parse().unwrap())).await.unwrap(), vec![]);
}

/// An attempt that began before the breaker opened, and that ends while the probe is out.
async fn an_older_attempt_lets_no_second_probe_through(mut bench: Bench) {
    broken(&mut bench, "acme").await;
    let older = bench.session(TRUSTED, 1).await;
    bench.store.session_close(older).await.unwrap();
    bench.sleep(COOL_OFF);
    let session = bench.session(TRUSTED, 9).await;
    assert_eq!(bench.claim(session, 9).await.len(), 1);
    // The two that were never reported are taken back with their sessions, and so tell nothing.
    assert_eq!(bench.reap(9).await.returned.len(), 2);
    assert_eq!(bench.claim(session, 9).await, vec![], "the probe is still out");
}

async fn breakers_of_workers_unseen_for_long_are_forgotten(mut bench: Bench) {
    let day = DurationMs::from_secs(24 * 3_600);
    broken(&mut bench, "acme").await;
    let forget = async |bench: &Bench| {
        let before = Timestamp(bench.now.0 - day.0);
        bench.store.breakers_forget(bench.now, before, 9).await.unwrap()
    };
    bench.sleep(day);
    let session = bench.session(TRUSTED, 1).await;
    assert_eq!(forget(&bench).await, 0, "the worker is there");
    bench.store.session_close(session).await.unwrap();
    bench.sleep(day);
    assert_eq!(forget(&bench).await, 0, "it was, a day ago");
    bench.sleep(DurationMs(1));
    let later = bench.now;
    bench.now = Timestamp(later.0 - day.0 - day.0);
    assert_eq!(forget(&bench).await, 0, "the clock went back");
    bench.sleep(day);
    assert_eq!(forget(&bench).await, 0, "seen a day ago, by this clock");
    bench.sleep(DurationMs(1));
    assert_eq!(forget(&bench).await, 1);
    assert_eq!(bench.store.breakers(None).await.unwrap(), vec![]);
}

async fn a_paused_job_leaves_its_queues_and_comes_back(mut bench: Bench) {
    let job = bench.in_progress().await;
    let session = bench.session(TRUSTED, 9).await;
    let waits = bench.queues().await.len();
    bench.send(job, "bob", CommandBody::Pause { cause: "p".into() }).await.unwrap();
    assert_eq!(bench.claim(session, 9).await, vec![]);
    assert_eq!(bench.queues().await.len(), waits - 1);
    bench.send(job, "bob", CommandBody::Resume).await.unwrap();
    assert_eq!(bench.claim(session, 9).await.len(), 1);
    bench.send(job, "bob", CommandBody::Cancel { cause: "c".into() }).await.unwrap();
    assert_eq!(bench.queues().await.len(), waits - 1);
}

async fn priority_moves_what_waits(mut bench: Bench) {
    let first = waiting(&mut bench, "acme").await;
    let second = waiting(&mut bench, "acme").await;
    bench.send(second, "bob", CommandBody::SetPriority { priority: 1 }).await.unwrap();
    let session = bench.session(TRUSTED, 9).await;
    let order: Vec<JobId> = bench.claim(session, 9).await.into_iter().map(|lease| lease.job).collect();
    assert_eq!(order, [second, first]);
}

/// Claims one task in a session of its own, and closes that.
async fn hand_back(bench: &mut Bench) -> Option<JobId> {
    let session = bench.session(TRUSTED, 1).await;
    let lease = bench.claim(session, 1).await.pop();
    bench.store.session_close(session).await.unwrap();
    bench.reap(1).await;
    lease.map(|lease| lease.job)
}

async fn a_worker_that_hands_everything_back_holds_up_nothing(mut bench: Bench) {
    let first = waiting(&mut bench, "acme").await;
    let second = waiting(&mut bench, "acme").await;
    let mut taken = Vec::new();
    for _ in 0..6 {
        taken.push(hand_back(&mut bench).await.unwrap());
    }
    assert_eq!(taken, [first, first, first, second, second, second]);
    assert_eq!(hand_back(&mut bench).await, None, "both wait");
    bench.sleep(DurationMs(1_000));
    assert_eq!(hand_back(&mut bench).await, Some(first));
    assert_eq!(bench.record(first).await.tasks[&"intake".parse().unwrap()].lost_leases, 0);
    // Later in line than what was submitted ten minutes after, and moved by priority all the same.
    bench.sleep(DurationMs(60_000));
    let third = waiting(&mut bench, "acme").await;
    let session = bench.session(TRUSTED, 9).await;
    bench.send(second, "bob", CommandBody::SetPriority { priority: 1 }).await.unwrap();
    let order: Vec<JobId> = bench.claim(session, 9).await.into_iter().map(|lease| lease.job).collect();
    assert_eq!(order, [second, third, first]);
}

async fn a_clock_that_goes_back_holds_up_no_task(mut bench: Bench) {
    let job = bench.in_progress().await;
    let (hour, day) = (DurationMs(3_600_000), DurationMs(86_400_000));
    let session = bench.session(TRUSTED, 9).await;
    let lease = bench.claim(session, 1).await.remove(0);
    fail(&mut bench, &lease, FailureKind::AgentCrash).await;
    assert_eq!(bench.claim(session, 1).await, vec![], "it backs off");
    bench.now = Timestamp(bench.now.0 - hour.0);
    let lease = bench.claim(session, 1).await.remove(0);
    assert_eq!(lease.job, job, "no back-off takes an hour");
    fail(&mut bench, &lease, FailureKind::AgentCrash).await;
    assert_eq!(bench.claim(session, 1).await, vec![], "it backs off by the new clock");
    bench.sleep(day);
    let session = bench.session(TRUSTED, 9).await;
    assert_eq!(bench.claim(session, 1).await[0].job, job);
}

async fn passes_survive_reopening(mut bench: Bench) {
    for tenant in ["a", "a", "a", "a", "b", "b"] {
        waiting(&mut bench, tenant).await;
    }
    let session = bench.session(TRUSTED, 9).await;
    let mut taken = Vec::new();
    for _ in 0..4 {
        taken.extend(bench.claim(session, 1).await);
        bench.reopen().await;
    }
    assert_eq!(tenants_of(&bench, &taken).await, [("a".into(), 2), ("b".into(), 2)].into());
    bench.sleep(SESSION_TTL);
    bench.sleep(DurationMs(1));
    assert_eq!(bench.reap(9).await.returned.len(), 4);
}

/// More tasks of a damaged job than a claim reads at once: the sound job behind them is served all the same.
#[tokio::test]
async fn a_damaged_wide_job_does_not_fill_the_page() {
    let mut bench = Bench::sqlite();
    let mut damaged = Vec::new();
    for _ in 0..12 {
        damaged.push(waiting(&mut bench, "acme").await);
    }
    let sound = waiting(&mut bench, "acme").await;
    let file = bench.dir.as_ref().unwrap().path().join(crate::sqlite::FILE);
    let database = rusqlite::Connection::open(file).unwrap();
    let sql = "UPDATE jobs SET body = '{' WHERE id <> ?1";
    assert_eq!(database.execute(sql, [sound.to_string()]).unwrap(), damaged.len());
    drop(database);
    bench.reopen().await;
    let session = bench.session(TRUSTED, 9).await;
    let leases = bench.claim(session, 1).await;
    assert_eq!(leases.iter().map(|lease| lease.job).collect::<Vec<_>>(), [sound]);
}

//! The same seeded life on both backends leads to the same answers and the same rows.

use std::sync::Arc;

use df_contract::decision::Verdict;
use df_contract::lease::{HeldLease, ProgressLine, SessionOpen};
use df_contract::{AttemptOutcome, DurationMs, FailureKind, JobId, Role, SessionId, Timestamp, WorkerClass};
use df_control_machine::{Command, CommandBody};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::bench::{Bench, step_body, submission_of};
use super::faulty::{Backend, Fault};
use crate::cache::MAX_CACHED_JOBS;
use crate::transition::{Tx, apply};
use crate::{JobFilter, MAX_PAGE, StoreError, lease};

const SEEDS: u64 = 24;
const STEPS: usize = 400;

struct Life {
    bench: Bench,
    fault: Fault,
    rng: StdRng,
    jobs: Vec<JobId>,
    sessions: Vec<SessionId>,
    /// Leases ever held, by now good or stale.
    held: Vec<HeldLease>,
    sent: Vec<Command>,
    told: Vec<String>,
}

impl Life {
    fn pick<T: Clone>(&mut self, from: fn(&Self) -> &Vec<T>) -> Option<T> {
        let most = from(self).len();
        if most == 0 {
            return None;
        }
        let at = self.rng.random_range(0..most);
        from(self).get(at).cloned()
    }

    async fn send(&mut self, job: JobId, actor: &str, body: CommandBody) {
        let command = self.bench.command(job, actor, body);
        self.sent.push(command.clone());
        let outcome = self.bench.commit(command).await;
        self.told.push(format!("{outcome:?}"));
    }

    async fn report(&mut self) {
        let newest = self.held.last().cloned().filter(|_| self.rng.random_range(0..4) > 0);
        let Some(lease) = newest.or_else(|| self.pick(|life| &life.held)) else { return };
        let mut body = self.bench.report_body(&lease, 1).await;
        if let CommandBody::Report { outcome, .. } = &mut body
            && self.rng.random_range(0..4) == 0
        {
            let kind = FailureKind::ALL[self.rng.random_range(0..FailureKind::ALL.len())];
            **outcome = AttemptOutcome::Failed { kind, detail: "d".into(), trace: None };
        }
        self.send(lease.job, "worker", body).await;
    }

    async fn advance(&mut self) {
        let Some(job) = self.pick(|life| &life.jobs) else { return };
        let verdict = match self.rng.random_range(0..10) {
            0 => Verdict::Rejected,
            1 | 2 => Verdict::NeedsApproval,
            _ => Verdict::Approved,
        };
        if let Some(body) = step_body(&self.bench.record(job).await, self.bench.now, verdict) {
            self.send(job, "daemon", body).await;
        }
    }

    async fn operate(&mut self) {
        let Some(job) = self.pick(|life| &life.jobs) else { return };
        let roles = [Role::Approver].into();
        let (actor, body) = match self.rng.random_range(0..10) {
            0 => ("bob", CommandBody::Cancel { cause: "c".into() }),
            1 | 2 => ("bob", CommandBody::Pause { cause: "p".into() }),
            3 => ("bob", CommandBody::Resume),
            4 => ("bob", CommandBody::SetPriority { priority: self.rng.random_range(-5..5) }),
            5 => (
                "alice",
                CommandBody::Vote {
                    approve: true,
                    roles,
                    seen: df_control_machine::Seen::default(),
                    comment: String::new(),
                },
            ),
            _ => (
                "carol",
                CommandBody::Vote {
                    approve: true,
                    roles,
                    seen: df_control_machine::Seen::default(),
                    comment: "ok".into(),
                },
            ),
        };
        self.send(job, actor, body).await;
    }

    async fn claim(&mut self) {
        let Some(session) = self.pick(|life| &life.sessions) else { return };
        let want = self.rng.random_range(1..4);
        let request = self.bench.claim_request(session, want);
        let claimed = self.bench.store.claim(request).await.map_err(|e| e.to_string());
        self.told.push(format!("{claimed:?}"));
        for (record, slug) in claimed.unwrap_or_default() {
            let epoch = record.tasks[&slug].epoch;
            self.held.push(HeldLease { job: record.id, slug, epoch });
        }
    }

    async fn speak(&mut self) {
        let Some(lease) = self.pick(|life| &life.held) else { return };
        let first = self.rng.random_range(0..4);
        let line = ProgressLine { at: Timestamp(1), kind: "tool".into(), text: format!("line {first}") };
        let said =
            self.bench.store.progress_append(lease, first, vec![line; 2], self.bench.now).await.unwrap();
        self.told.push(format!("{said:?}"));
    }

    async fn beat(&mut self) {
        let Some(session) = self.pick(|life| &life.sessions) else { return };
        let lost = self.bench.store.session_heartbeat(session, self.bench.now, self.held.clone()).await;
        self.told.push(format!("{:?}", lost.map_err(|e| e.to_string())));
    }

    async fn retry(&mut self) {
        let Some(command) = self.pick(|life| &life.sent) else { return };
        let again = self.bench.commit(command).await;
        self.told.push(format!("{again:?}"));
    }

    /// Something is done to a job, and then undone.
    async fn undo(&mut self) {
        let Some(job) = self.pick(|life| &life.jobs) else { return };
        let command = self.bench.command(job, "bob", CommandBody::Pause { cause: "undone".into() });
        let (held, now) = (self.held.last().cloned(), self.bench.now);
        let line = ProgressLine { at: now, kind: "tool".into(), text: "undone".into() };
        let undone = self.bench.store.owner.call(move |tx| {
            let mut told = format!("{:?}", apply(tx, &command)?);
            if let Some(held) = held {
                told.push_str(&format!("{:?}", lease::progress(tx, &held, 0, &[line], now)?));
            }
            told.push_str(&format!("{:?}", tx.job(job)?));
            Err::<(), _>(StoreError::Invariant(told))
        });
        self.told.push(undone.await.unwrap_err().to_string());
    }

    /// One group with something kept, undone and refused; its commit may fail.
    async fn group(&mut self) {
        let Some(job) = self.pick(|life| &life.jobs) else { return };
        let fails = self.rng.random_range(0..2) == 0;
        let pause = self.bench.command(job, "bob", CommandBody::Pause { cause: "grouped".into() });
        let cancel = self.bench.command(job, "bob", CommandBody::Cancel { cause: "undone".into() });
        let resume = self.bench.command(job, "bob", CommandBody::Resume);
        let (store, fault) = (self.bench.store.clone(), self.fault.clone());
        // While the writer is held up, what is queued becomes one group.
        let (release, held_up) = std::sync::mpsc::channel::<()>();
        let (held, holds) = tokio::sync::oneshot::channel();
        let owner = store.owner.clone();
        let holding = tokio::spawn(async move {
            let hold = move |_: &mut Tx<'_>| {
                held.send(()).ok();
                held_up.recv().ok();
                Ok(())
            };
            owner.call(hold).await
        });
        holds.await.unwrap();
        let failing = store.owner.call(move |tx| {
            if fails {
                fault.fail_next();
            }
            Ok(format!("{:?}", apply(tx, &pause)?))
        });
        let undone = store.owner.call(move |tx| {
            let told = format!("{:?}", apply(tx, &cancel)?);
            Err::<(), _>(StoreError::Invariant(told))
        });
        let last = store.commit(vec![resume]);
        let (first, second, third, _) = tokio::join!(biased; failing, undone, last, async {
            release.send(()).unwrap();
        });
        holding.await.unwrap().unwrap();
        self.told.push(format!("{:?} {:?} {:?}", first, second, third));
    }

    async fn one(&mut self) {
        match self.rng.random_range(0..44) {
            40 => {
                let queues = self.bench.queues().await;
                self.told.extend(queues);
            }
            41 => self.undo().await,
            42 | 43 => self.group().await,
            0 => {
                let priority = self.rng.random_range(-3..3);
                let tenant = ["acme", "beta", "gamma"][self.rng.random_range(0..3)];
                let labels: &[&str] = if self.rng.random_range(0..4) == 0 { &["gpu"] } else { &[] };
                let job = self.bench.submit_body(submission_of(tenant, priority, labels)).await;
                self.jobs.push(job);
            }
            1..=3 => {
                let remote = self.rng.random_range(0..4) == 0;
                let class = if remote { WorkerClass::Remote } else { WorkerClass::Trusted };
                let name = ["worker", "other"][self.sessions.len() % 2];
                let mut open = SessionOpen::plain(name, 3);
                if self.rng.random_range(0..2) == 0 {
                    open.labels.insert("gpu".into());
                }
                let session = self.bench.session_of(class, open).await;
                self.sessions.push(session);
            }
            4..=12 => self.advance().await,
            13..=19 => self.claim().await,
            20..=27 => self.report().await,
            28 | 29 => self.operate().await,
            30 | 31 => self.speak().await,
            32 | 33 => self.beat().await,
            34 | 35 => self.retry().await,
            36 | 37 => {
                let most = self.rng.random_range(0..4);
                let reaped = self.bench.reap(most).await;
                self.told.push(format!("{reaped:?}"));
            }
            38 => {
                let (hour, day) = (DurationMs(3_600_000), DurationMs(86_400_000));
                match self.rng.random_range(0..8) {
                    0 => self.bench.now = Timestamp(self.bench.now.0 - hour.0),
                    1 if self.rng.random_range(0..4) == 0 => self.bench.sleep(day),
                    _ => self.bench.sleep(DurationMs(self.rng.random_range(0..10_000))),
                }
            }
            _ => {
                let due = self.bench.store.outbox_due(0, 3).await.unwrap();
                for row in &due {
                    self.bench.store.outbox_done(row.id, self.bench.now).await.unwrap();
                }
                self.told.push(format!("{due:?}"));
            }
        }
    }

    /// Everything the store can say.
    async fn dump(&mut self) {
        self.told.extend(self.bench.queues().await);
        let store = &self.bench.store;
        for job in &self.jobs {
            self.told.push(format!("{:?}", store.job(*job).await.unwrap()));
            self.told.push(format!("{:?}", store.audit(*job).await.unwrap()));
            self.told.push(format!("{:?}", store.events(*job, 0, MAX_PAGE).await.unwrap()));
        }
        let filter = JobFilter { limit: MAX_PAGE, ..Default::default() };
        self.told.push(format!("{:?}", store.job_list(filter).await.unwrap()));
        self.told.push(format!("{:?}", store.jobs_active().await.unwrap()));
        self.told.push(format!("{:?}", store.job_count_by_state().await.unwrap()));
        self.told.push(format!("{:?}", store.session_list().await.unwrap()));
        self.told.push(format!("{:?}", store.outbox_due(0, MAX_PAGE).await.unwrap()));
    }
}

async fn live(backend: Backend, cached: usize, seed: u64) -> Vec<String> {
    let fault = Fault::default();
    let mut life = Life {
        bench: Bench::faulty(backend, cached, fault.clone()),
        fault,
        rng: StdRng::seed_from_u64(seed),
        jobs: Vec::new(),
        sessions: Vec::new(),
        held: Vec::new(),
        sent: Vec::new(),
        told: Vec::new(),
    };
    if seed % 2 == 1 {
        let rules = serde_json::json!({"tenant_weights": {"beta": 3}, "max_per_tenant": 4, "max_per_job": 2,
            "agents": {"backend": 3}, "runtimes": {"builtin": 5}});
        life.bench.rules = Arc::new(serde_json::from_value(rules).unwrap());
    }
    for _ in 0..STEPS {
        life.one().await;
    }
    life.dump().await;
    life.told
}

/// Whatever the backend, and however many jobs the writer has at hand.
#[tokio::test]
async fn every_backend_lives_the_same_life() {
    let (mut accepted, mut failed, mut undone) = (0, 0, 0);
    for seed in 0..SEEDS {
        let want = live(Backend::Memory, 0, seed).await;
        for (backend, cached) in [
            (Backend::Memory, 1),
            (Backend::Memory, MAX_CACHED_JOBS),
            (Backend::Sqlite, 0),
            (Backend::Sqlite, 1),
            (Backend::Sqlite, MAX_CACHED_JOBS),
        ] {
            let found = live(backend, cached, seed).await;
            for (at, (want, found)) in want.iter().zip(&found).enumerate() {
                assert_eq!(want, found, "seed {seed}, {backend:?} with {cached} at hand, answer {at}");
            }
            assert_eq!(want.len(), found.len(), "seed {seed}");
        }
        let count = |of: fn(&str) -> bool| want.iter().filter(|told| of(told)).count();
        accepted += count(|told| told.starts_with("Ok(Outcome"));
        failed += count(|told| told.contains("NotCommitted"));
        undone += count(|told| told.contains("undone") && told.contains("Ok(Outcome"));
    }
    assert!(accepted > 500, "only {accepted} commands were accepted: the lives are too short to tell");
    assert!(failed > 20 && undone > 20, "only {failed} groups failed, and {undone} operations were undone");
}

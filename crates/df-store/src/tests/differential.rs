//! The same seeded life on both backends leads to the same answers and the same rows.

use df_contract::decision::Verdict;
use df_contract::lease::{HeldLease, ProgressLine};
use df_contract::{AttemptOutcome, DurationMs, FailureKind, JobId, Role, SessionId, Timestamp, WorkerClass};
use df_control_machine::{Command, CommandBody};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::bench::{Bench, step_body};
use crate::{JobFilter, MAX_PAGE};

const SEEDS: u64 = 12;
const STEPS: usize = 400;

struct Life {
    bench: Bench,
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
            3 | 4 => ("bob", CommandBody::Resume),
            5 => (
                "alice",
                CommandBody::Vote { approve: true, roles, job_version: None, comment: String::new() },
            ),
            _ => {
                ("carol", CommandBody::Vote { approve: true, roles, job_version: None, comment: "ok".into() })
            }
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

    async fn one(&mut self) {
        match self.rng.random_range(0..40) {
            0 => {
                let priority = self.rng.random_range(-3..3);
                let job = self.bench.submit(priority).await;
                self.jobs.push(job);
            }
            1..=3 => {
                let remote = self.rng.random_range(0..4) == 0;
                let class = if remote { WorkerClass::Remote } else { WorkerClass::Trusted };
                let session = self.bench.session(class, 3).await;
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
                let wait = self.rng.random_range(0..10_000);
                self.bench.sleep(DurationMs(wait));
            }
            _ => {
                let due = self.bench.store.outbox_due(3).await.unwrap();
                for row in &due {
                    self.bench.store.outbox_done(row.id, self.bench.now).await.unwrap();
                }
                self.told.push(format!("{due:?}"));
            }
        }
    }

    /// Everything the store can say.
    async fn dump(&mut self) {
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
        self.told.push(format!("{:?}", store.outbox_due(MAX_PAGE).await.unwrap()));
    }
}

async fn live(bench: Bench, seed: u64) -> Vec<String> {
    let mut life = Life {
        bench,
        rng: StdRng::seed_from_u64(seed),
        jobs: Vec::new(),
        sessions: Vec::new(),
        held: Vec::new(),
        sent: Vec::new(),
        told: Vec::new(),
    };
    for _ in 0..STEPS {
        life.one().await;
    }
    life.dump().await;
    life.told
}

#[tokio::test]
async fn both_backends_live_the_same_life() {
    let mut accepted = 0;
    for seed in 0..SEEDS {
        let memory = live(Bench::memory(), seed).await;
        let sqlite = live(Bench::sqlite(), seed).await;
        for (at, (memory, sqlite)) in memory.iter().zip(&sqlite).enumerate() {
            assert_eq!(memory, sqlite, "seed {seed}, answer {at}");
        }
        assert_eq!(memory.len(), sqlite.len(), "seed {seed}");
        accepted += memory.iter().filter(|told| told.starts_with("Ok(Outcome")).count();
    }
    assert!(accepted > 500, "only {accepted} commands were accepted: the lives are too short to tell");
}

//! A store on a bench: a clock and ids that count, and short words for long commands.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use df_contract::decision::{ApprovalRule, Decision, NetworkMode, Obligations, SandboxTier, Verdict};
use df_contract::lease::{HeldLease, SESSION_TTL, SessionOpen};
use df_contract::task::{AgentStatus, Product, TreeRef};
use df_contract::{
    AgentResult, AttemptId, AttemptOutcome, CommandId, Digest, DurationMs, GateFacts, JobId, JobState, KeyId,
    LeaseKind, Plan, PlanTask, Role, SessionId, SourceFacts, TaskSlug, Timestamp, Tokens, Usage, WorkerClass,
};
use df_control_audit::Lifecycle;
use df_control_machine::schedule::Rules;
use df_control_machine::{Actor, Command, CommandBody, JobRecord, Step, next_step, replay};
use tempfile::TempDir;

use super::faulty::{Backend, Fault, Faulty};
use crate::cache::{Cache, MAX_CACHED_JOBS};
use crate::memory::Memory;
use crate::owner::Owner;
use crate::sqlite::Sqlite;
use crate::transition::Tx;
use crate::{ClaimRequest, Outcome, ReapRequest, Reaped, Refused, SessionRow, Store};

pub(crate) const LIFECYCLE: Lifecycle = Lifecycle { job: replay::job_step, task: replay::task_step };

/// How long an attempt may take, and be silent, on the bench.
pub(crate) const WALL: DurationMs = DurationMs(600_000);
pub(crate) const SILENCE: DurationMs = DurationMs(60_000);

pub(crate) struct Bench {
    pub(crate) store: Store,
    pub(crate) now: Timestamp,
    pub(crate) rules: Arc<Rules>,
    /// Of a store that outlives its process.
    pub(crate) dir: Option<TempDir>,
    minted: u64,
}

pub(crate) fn tree(n: u8) -> TreeRef {
    TreeRef { revision: format!("{n:040x}").parse().unwrap(), bundle: Digest::of(&[n]) }
}

fn rule() -> ApprovalRule {
    ApprovalRule { count: 1, roles: BTreeSet::from([Role::Approver]) }
}

pub(crate) fn decision(verdict: Verdict) -> Decision {
    let obligations = Obligations {
        min_tier: SandboxTier::Bwrap,
        network: NetworkMode::None,
        dependencies: BTreeSet::new(),
        models: None,
        protected_paths: BTreeSet::new(),
        money_nano_usd: None,
        tokens: Tokens(u64::MAX),
        approval: Some(rule()),
        approve_delivery: false,
        gates: BTreeSet::new(),
        max_attempts: None,
    };
    Decision {
        verdict,
        reasons: vec![],
        obligations,
        facts: Digest::zero(),
        policy: Digest::zero(),
        limits: Digest::zero(),
    }
}

/// Three tasks: `b` and `c` build on `a`.
fn plan() -> Plan {
    let task = |slug: &str, on: &[&str]| PlanTask {
        slug: slug.parse().unwrap(),
        role: Role::Backend,
        title: slug.into(),
        instructions: "x".into(),
        depends_on: on.iter().map(|s| s.parse().unwrap()).collect(),
        paths: vec![format!("{slug}/**")],
        expected_outputs: vec![],
        checks: vec![],
        tokens: None,
        nano_usd: None,
        agent: None,
        on_failure: None,
    };
    Plan { summary: "s".into(), tasks: vec![task("a", &[]), task("b", &["a"]), task("c", &["a"])] }
}

fn result() -> AgentResult {
    AgentResult {
        status: AgentStatus::Succeeded,
        summary: "done".into(),
        commit_message: "m".into(),
        tree: None,
        plan: None,
        checks: vec![],
        usage: Usage::default(),
        artefacts: BTreeMap::new(),
    }
}

pub(crate) fn product(kind: LeaseKind, role: Role, n: u8) -> Product {
    match kind {
        LeaseKind::Intake => Product::Intake { facts: SourceFacts::default(), base: tree(n) },
        LeaseKind::Agent if role == Role::Coordinator => Product::Plan { plan: plan(), result: result() },
        LeaseKind::Agent => Product::Change { tree: tree(n), result: result() },
        LeaseKind::Integrate => Product::Merge { tree: tree(n), checks: vec![] },
        LeaseKind::Validate => Product::Gate {
            facts: GateFacts {
                acceptance: vec![],
                hidden: vec![],
                source: SourceFacts::default(),
                changed_paths: BTreeSet::new(),
                artefact: Digest::of(&[n]),
            },
        },
        LeaseKind::Deliver => {
            Product::Delivery { artefacts: BTreeMap::from([("tree.tar".into(), Digest::of(&[n]))]) }
        }
    }
}

/// What the control plane would do next for `record`, with these verdicts.
pub(crate) fn step_body(record: &JobRecord, now: Timestamp, verdict: Verdict) -> Option<CommandBody> {
    let expires = now.plus(DurationMs(3_600_000));
    Some(match next_step(record, now) {
        Step::Wait => return None,
        Step::StartAnalysis => CommandBody::StartAnalysis,
        Step::Decide => {
            CommandBody::Decide { decision: Box::new(decision(verdict)), approval_expires_at: expires }
        }
        Step::ExpireApproval => CommandBody::ExpireApproval,
        Step::StartPlanning => CommandBody::StartPlanning,
        Step::JudgePlan => CommandBody::JudgePlan {
            plan_digest: record.plan_digest.clone().unwrap(),
            verdict,
            reasons: vec![],
            rule: rule(),
            approval_expires_at: expires,
        },
        Step::StartValidation => CommandBody::StartValidation,
        Step::JudgeOutput => CommandBody::JudgeOutput {
            verdict,
            gates: vec![],
            reasons: vec![],
            rule: rule(),
            approval_expires_at: expires,
        },
        Step::AskDelivery => CommandBody::AskDelivery { rule: rule(), approval_expires_at: expires },
        Step::StartDelivery => CommandBody::StartDelivery,
        Step::Complete => CommandBody::Complete,
        Step::PauseForBudget => CommandBody::Pause { cause: "budget".into() },
        Step::FailForTime => CommandBody::Fail { cause: "time".into() },
        Step::FailForTask => CommandBody::Fail { cause: "task".into() },
        Step::Replan => CommandBody::Replan,
    })
}

pub(crate) fn submission(priority: i8) -> CommandBody {
    submission_of("acme", priority, &[])
}

pub(crate) fn submission_of(tenant: &str, priority: i8, labels: &[&str]) -> CommandBody {
    let spec = serde_json::json!({"title": format!("job {priority}"), "description": "d", "priority": priority,
        "labels": labels});
    CommandBody::Submit {
        tenant: tenant.parse().unwrap(),
        submitter: "alice".into(),
        spec: Box::new(serde_json::from_value(spec).unwrap()),
    }
}

impl Bench {
    pub(crate) fn memory() -> Self {
        Self::on(Store::memory().unwrap(), None)
    }

    pub(crate) fn sqlite() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::on(Store::open_sqlite(dir.path()).unwrap(), Some(dir))
    }

    /// On a disk that nobody waits for.
    pub(crate) fn hurried() -> Self {
        Self::faulty(Backend::Sqlite, MAX_CACHED_JOBS, Fault::default())
    }

    /// On an engine that fails as it is told, with a cache of so many jobs.
    pub(crate) fn faulty(kind: Backend, cached: usize, fault: Fault) -> Self {
        let cache = Cache::of(cached);
        match kind {
            Backend::Memory => {
                let owner = Owner::spawn(Faulty { engine: Memory::default(), fault }, cache);
                Self::on(Store::of(owner.unwrap(), None), None)
            }
            Backend::Sqlite => {
                let dir = tempfile::tempdir().unwrap();
                let engine = Sqlite::open(dir.path()).unwrap();
                engine.hurry();
                let owner = Owner::spawn(Faulty { engine, fault }, cache);
                Self::on(Store::of(owner.unwrap(), Some(dir.path())), Some(dir))
            }
        }
    }

    fn on(store: Store, dir: Option<TempDir>) -> Self {
        Self { store, now: Timestamp(1_700_000_000_000), rules: Arc::default(), dir, minted: 0 }
    }

    /// Closes and opens the store again, where it outlives that.
    pub(crate) async fn reopen(&mut self) {
        if let Some(dir) = &self.dir {
            self.store.close().await;
            self.store = Store::open_sqlite(dir.path()).unwrap();
        }
    }

    fn random(&mut self) -> [u8; 10] {
        self.minted += 1;
        let mut random = [0; 10];
        random[2..].copy_from_slice(&self.minted.to_be_bytes());
        random
    }

    pub(crate) fn command_id(&mut self) -> CommandId {
        CommandId::mint(self.now, self.random())
    }

    pub(crate) fn job_id(&mut self) -> JobId {
        JobId::mint(self.now, self.random())
    }

    pub(crate) fn sleep(&mut self, wait: DurationMs) {
        self.now = self.now.plus(wait);
    }

    pub(crate) fn command(&mut self, job: JobId, actor: &str, body: CommandBody) -> Command {
        self.sleep(DurationMs(1));
        let actor = Actor { name: actor.into(), role: Role::Operator };
        Command { id: self.command_id(), job, actor, at: self.now, body }
    }

    pub(crate) async fn commit(&self, command: Command) -> Result<Outcome, Refused> {
        let mut outcomes = self.store.commit(vec![command]).await.unwrap();
        assert_eq!(outcomes.len(), 1);
        outcomes.remove(0)
    }

    pub(crate) async fn send(
        &mut self,
        job: JobId,
        actor: &str,
        body: CommandBody,
    ) -> Result<Outcome, Refused> {
        let command = self.command(job, actor, body);
        self.commit(command).await
    }

    pub(crate) async fn record(&self, job: JobId) -> JobRecord {
        self.store.job(job).await.unwrap().unwrap()
    }

    pub(crate) async fn submit(&mut self, priority: i8) -> JobId {
        self.submit_body(submission(priority)).await
    }

    pub(crate) async fn submit_body(&mut self, body: CommandBody) -> JobId {
        let job = self.job_id();
        let outcome = self.send(job, "alice", body).await.unwrap();
        assert_eq!(outcome, Outcome { job, version: 1, state: JobState::Draft });
        job
    }

    /// Everything the control plane can do for the job by itself.
    pub(crate) async fn advance(&mut self, job: JobId, verdict: Verdict) {
        while let Some(body) = step_body(&self.record(job).await, self.now, verdict) {
            self.send(job, "daemon", body).await.unwrap();
        }
    }

    pub(crate) async fn session(&mut self, class: WorkerClass, capacity: u32) -> SessionId {
        self.session_of(class, SessionOpen::plain("worker", capacity)).await
    }

    pub(crate) async fn session_of(&mut self, class: WorkerClass, open: SessionOpen) -> SessionId {
        let id = SessionId::mint(self.now, self.random());
        let row = SessionRow {
            id,
            key: KeyId::mint(self.now, [5; 10]),
            name: open.name,
            class,
            capacity: open.capacity,
            last_heartbeat: self.now,
            expires_at: self.now.plus(SESSION_TTL),
            labels: open.labels,
            tiers: open.tiers,
            runtimes: open.runtimes,
        };
        self.store.session_open(row).await.unwrap();
        id
    }

    pub(crate) fn claim_request(&mut self, session: SessionId, want: u32) -> ClaimRequest {
        let mints = (0..want).map(|_| (self.command_id(), AttemptId::mint(self.now, self.random())));
        let mints = mints.collect();
        let kinds = LeaseKind::ALL.to_vec();
        ClaimRequest {
            session,
            kinds,
            now: self.now,
            mints,
            wall: Arc::new(|_, _| WALL),
            rules: self.rules.clone(),
        }
    }

    pub(crate) async fn claim(&mut self, session: SessionId, want: u32) -> Vec<HeldLease> {
        let request = self.claim_request(session, want);
        let claimed = self.store.claim(request).await.unwrap();
        let held = |(record, slug): (Arc<JobRecord>, TaskSlug)| {
            let epoch = record.tasks[&slug].epoch;
            HeldLease { job: record.id, slug, epoch }
        };
        claimed.into_iter().map(held).collect()
    }

    /// The report of a success under this lease.
    pub(crate) async fn report_body(&self, lease: &HeldLease, n: u8) -> CommandBody {
        let record = self.record(lease.job).await;
        let task = &record.tasks[&lease.slug];
        let product = product(task.kind, task.role, n);
        CommandBody::Report {
            slug: lease.slug.clone(),
            epoch: lease.epoch,
            attempt: task.attempt.unwrap(),
            outcome: Box::new(AttemptOutcome::Succeeded { product }),
            sandbox_layers: vec![],
            evidence: Vec::new(),
        }
    }

    pub(crate) async fn succeed(&mut self, lease: &HeldLease) -> Outcome {
        let body = self.report_body(lease, 1).await;
        self.send(lease.job, "worker", body).await.unwrap()
    }

    pub(crate) async fn reap(&mut self, most: u32) -> Reaped {
        let mints = (0..most).map(|_| self.command_id()).collect();
        let request = ReapRequest { now: self.now, progress_timeout: SILENCE, mints };
        self.store.reap(request).await.unwrap()
    }

    /// A job whose plan is accepted: `a` is ready.
    pub(crate) async fn in_progress(&mut self) -> JobId {
        let job = self.submit(0).await;
        self.bring_in_progress(job, SessionOpen::plain("worker", 1)).await;
        job
    }

    pub(crate) async fn bring_in_progress(&mut self, job: JobId, open: SessionOpen) {
        let session = self.session_of(WorkerClass::Trusted, open).await;
        for _ in 0..2 {
            self.advance(job, Verdict::Approved).await;
            let leases = self.claim(session, 1).await;
            assert_eq!(leases[0].job, job, "another job is in the way");
            self.succeed(&leases[0]).await;
        }
        self.advance(job, Verdict::Approved).await;
        self.store.session_close(session).await.unwrap();
        self.reap(1).await;
    }

    /// Everything that the rows say about queues.
    pub(crate) async fn queues(&self) -> Vec<String> {
        let look = |tx: &mut Tx<'_>| {
            let rows = &tx.rows;
            let mut told = vec![format!("{:?}", rows.running()?), format!("{:?}", rows.passes()?)];
            told.push(format!("{:?} {:?}", rows.breakers(None, 1_000)?, rows.meta("virtual_time")?));
            for queue in rows.queues("", 1_000)? {
                let waiting = rows.waiting(&queue, Timestamp(u64::MAX / 4), &BTreeSet::new(), 1_000)?;
                told.push(format!("{queue}: {waiting:?}"));
            }
            Ok(told)
        };
        self.store.owner.call(look).await.unwrap()
    }
}

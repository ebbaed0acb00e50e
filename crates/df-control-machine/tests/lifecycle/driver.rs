//! One job driven by hand. Every command is checked against the invariants and against its own audit records.

use std::collections::{BTreeMap, BTreeSet};

use df_contract::decision::{ApprovalRule, Decision, NetworkMode, Obligations, SandboxTier, Verdict};
use df_contract::task::{AgentStatus, Product, TreeRef};
use df_contract::{
    AgentResult, AttemptId, AttemptOutcome, CommandId, Digest, FailureKind, GateFacts, JobId, JobState,
    LeaseKind, OnFailure, Plan, PlanTask, Role, SessionId, SourceFacts, TaskSlug, TaskState, Timestamp,
    Tokens, Usage,
};
use df_control_machine::{
    Actor, AuditBody, AuditDraft, Command, CommandBody, JobRecord, Rejection, ReturnCause, Seen, Step,
    decide, invariants, next_step, replay,
};

pub(crate) fn tree(n: u64) -> TreeRef {
    TreeRef { revision: format!("{n:040x}").parse().unwrap(), bundle: Digest::of(&n.to_be_bytes()) }
}

pub(crate) fn rule() -> ApprovalRule {
    ApprovalRule { count: 1, roles: BTreeSet::from([Role::Approver]) }
}

pub(crate) fn slug(text: &str) -> TaskSlug {
    text.parse().unwrap()
}

pub(crate) fn failure(kind: FailureKind, detail: &str) -> AttemptOutcome {
    AttemptOutcome::Failed { kind, detail: detail.to_owned(), trace: None }
}

fn decision(verdict: Verdict) -> Decision {
    Decision {
        verdict,
        reasons: vec![],
        obligations: Obligations {
            min_tier: SandboxTier::Bwrap,
            network: NetworkMode::None,
            dependencies: BTreeSet::new(),
            models: None,
            protected_paths: BTreeSet::new(),
            money_nano_usd: None,
            tokens: Tokens(1_000),
            approval: Some(rule()),
            approve_delivery: false,
            gates: BTreeSet::new(),
            max_attempts: None,
        },
        facts: Digest::zero(),
        policy: Digest::zero(),
        limits: Digest::zero(),
    }
}

/// A task that writes a directory of its own.
pub(crate) fn task(name: &str, on: &[&str], on_failure: Option<OnFailure>) -> PlanTask {
    PlanTask {
        slug: slug(name),
        role: Role::Backend,
        title: name.into(),
        instructions: "x".into(),
        depends_on: on.iter().map(|s| slug(s)).collect(),
        paths: vec![format!("{name}/**")],
        expected_outputs: vec![],
        checks: vec![],
        tokens: None,
        nano_usd: None,
        agent: None,
        on_failure,
    }
}

pub(crate) fn plan_of(tasks: Vec<PlanTask>) -> Plan {
    Plan { summary: "s".into(), tasks }
}

pub(crate) fn plan() -> Plan {
    plan_of(vec![task("a", &[], None), task("b", &["a"], None), task("c", &["a"], None)])
}

pub(crate) fn result() -> AgentResult {
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

pub(crate) fn product(kind: LeaseKind, role: Role, n: u64) -> Product {
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
                artefact: Digest::of(&n.to_be_bytes()),
            },
        },
        LeaseKind::Deliver => {
            Product::Delivery { artefacts: BTreeMap::from([("tree.tar".into(), Digest::zero())]) }
        }
    }
}

/// What the audit records alone say of the job.
#[derive(Debug, Default, PartialEq, Eq)]
struct Folded {
    state: Option<(JobState, Option<JobState>)>,
    tasks: BTreeMap<TaskSlug, (TaskState, u64)>,
}

impl Folded {
    fn take(&mut self, draft: &AuditDraft) {
        let name = |event| serde_json::to_value(event).unwrap().as_str().unwrap().to_owned();
        match &draft.body {
            AuditBody::Submitted { .. } => self.state = Some((JobState::Draft, None)),
            AuditBody::Job { event, to, resume_to, .. } => {
                let (state, resume) = self.state.unwrap();
                let event = name(serde_json::to_value(event).unwrap());
                self.state = Some(replay::job_step(state, resume, &event).unwrap());
                assert_eq!(self.state, Some((*to, *resume_to)));
            }
            AuditBody::TaskCreated { state, .. } => {
                let before = self.tasks.insert(draft.slug.clone().unwrap(), (*state, 0));
                assert_eq!(before, None, "{:?} is made once", draft.slug);
            }
            AuditBody::Task { event, .. } => {
                let task = self.tasks.get_mut(draft.slug.as_ref().unwrap()).unwrap();
                let event = name(serde_json::to_value(event).unwrap());
                *task = replay::task_step(task.0, task.1, &event).unwrap();
                assert_eq!(Some(task.1), draft.epoch);
            }
            _ => {}
        }
    }

    fn of(record: &JobRecord) -> Self {
        let tasks = record.tasks.values().map(|t| (t.slug.clone(), (t.state, t.epoch))).collect();
        Self { state: Some((record.state, record.resume_to)), tasks }
    }
}

/// Whatever ends an attempt in failure leaves one record whose cause begins with the kind.
fn check_failure_named(audit: &[AuditDraft], body: &CommandBody) {
    let kind = match body {
        CommandBody::Report { outcome, .. } => match **outcome {
            AttemptOutcome::Failed { kind, .. } => kind,
            AttemptOutcome::Succeeded { .. } => return,
        },
        CommandBody::Return { cause, .. } => match cause {
            ReturnCause::Drained | ReturnCause::AgentDisabled => return,
            ReturnCause::SessionEnded | ReturnCause::NotMade => FailureKind::LeaseExpired,
            ReturnCause::Deadline => FailureKind::LimitReached,
            ReturnCause::Stalled => FailureKind::Stalled,
        },
        _ => return,
    };
    let begins = format!("{}: ", kind.as_str());
    let named =
        |d: &&AuditDraft| matches!(&d.body, AuditBody::Task { cause, .. } if cause.starts_with(&begins));
    assert_eq!(audit.iter().filter(named).count(), 1, "{kind:?} in {audit:?}");
}

/// One job driven by hand: counts time and command ids itself.
pub(crate) struct Driver {
    pub(crate) record: Option<JobRecord>,
    pub(crate) clock: u64,
    /// What the coordinator proposes first.
    pub(crate) plan: Plan,
    folded: Folded,
    /// Results that were accepted, by task and epoch.
    accepted: BTreeSet<(TaskSlug, u64)>,
}

impl Driver {
    pub(crate) fn of(spec: serde_json::Value) -> Self {
        let spec = serde_json::from_value(spec).unwrap();
        let (folded, accepted) = (Folded::default(), BTreeSet::new());
        let mut driver = Self { record: None, clock: 1_000, plan: plan(), folded, accepted };
        let body = CommandBody::Submit {
            tenant: "acme".parse().unwrap(),
            submitter: "alice".into(),
            spec: Box::new(spec),
        };
        driver.send("alice", body).unwrap();
        driver
    }

    pub(crate) fn submitted() -> Self {
        Self::of(serde_json::json!({"title": "t", "description": "d"}))
    }

    /// A job of this plan, with its first tasks ready.
    pub(crate) fn in_progress(spec: serde_json::Value, plan: Plan) -> Self {
        let mut job = Self::of(spec);
        job.plan = plan;
        for name in ["intake", "plan"] {
            job.advance();
            // A plan that came with the job asks no coordinator.
            if name == "intake" || job.record().spec.plan.is_none() {
                job.succeed(name);
            }
        }
        job.advance();
        job
    }

    pub(crate) fn record(&self) -> &JobRecord {
        self.record.as_ref().unwrap()
    }

    pub(crate) fn task(&self, name: &str) -> &df_control_machine::TaskRecord {
        &self.record().tasks[&slug(name)]
    }

    pub(crate) fn send(&mut self, actor: &str, body: CommandBody) -> Result<(), Rejection> {
        self.clock += 1;
        let at = Timestamp(self.clock);
        let mut random = [0; 10];
        random[..8].copy_from_slice(&self.clock.to_be_bytes());
        let command = Command {
            id: CommandId::mint(at, random),
            job: JobId::mint(Timestamp(1), [1; 10]),
            actor: Actor { name: actor.into(), role: Role::Operator },
            at,
            body,
        };
        let decided = decide(self.record.as_ref(), &command)?;
        assert!(!decided.audit.is_empty(), "an accepted command leaves a record");
        self.check_audit(&decided.audit, &decided.record);
        check_failure_named(&decided.audit, &command.body);
        if let Some(before) = &self.record {
            check_step(before, &decided.record, &command.body);
        }
        assert_eq!(invariants::broken(&decided.record), Vec::<String>::new(), "after {:?}", command.body);
        self.record = Some(decided.record);
        Ok(())
    }

    fn check_audit(&mut self, audit: &[AuditDraft], record: &JobRecord) {
        audit.iter().for_each(|draft| self.folded.take(draft));
        assert_eq!(self.folded, Folded::of(record), "the log alone leads to the same states");
        for draft in audit {
            if let AuditBody::Produced { .. } = &draft.body {
                let result = (draft.slug.clone().unwrap(), draft.epoch.unwrap());
                assert!(self.accepted.insert(result.clone()), "{result:?} has two accepted results");
            }
        }
    }

    pub(crate) fn claim(&mut self, slug: &TaskSlug) -> Result<(), Rejection> {
        let attempt = AttemptId::mint(Timestamp(self.clock), [3; 10]);
        let session = SessionId::mint(Timestamp(2), [2; 10]);
        let deadline = Timestamp(self.clock + 1_000_000);
        self.send("worker", CommandBody::Claim { slug: slug.clone(), session, attempt, deadline })
    }

    pub(crate) fn report(&mut self, slug: &TaskSlug, outcome: AttemptOutcome) -> Result<(), Rejection> {
        let task = &self.record().tasks[slug];
        let (epoch, attempt) = (task.epoch, task.attempt.unwrap_or(AttemptId::mint(Timestamp(1), [9; 10])));
        let body = CommandBody::Report {
            slug: slug.clone(),
            epoch,
            attempt,
            outcome: Box::new(outcome),
            sandbox_layers: vec![],
            evidence: Vec::new(),
        };
        self.send("worker", body)
    }

    pub(crate) fn give_back(&mut self, name: &str, cause: ReturnCause) {
        let (slug, epoch) = (slug(name), self.task(name).epoch);
        self.send("reaper", CommandBody::Return { slug, epoch, cause, detail: "gone".into() }).unwrap();
    }

    /// What the holder of a task would make: a new tree each time, and plans whose slugs are new.
    pub(crate) fn product_of(&self, slug: &TaskSlug) -> Product {
        let task = &self.record().tasks[slug];
        match product(task.kind, task.role, self.clock) {
            Product::Plan { result, .. } => Product::Plan { plan: self.next_plan(), result },
            other => other,
        }
    }

    /// The plan itself, or after a re-planning the same under new names, where what needs nothing builds on something
    /// that is finished.
    fn next_plan(&self) -> Plan {
        let Some(replan) = &self.record().replan else { return self.plan.clone() };
        let again = |slug: &TaskSlug| format!("{slug}-{}", self.record().replans);
        let mut plan = self.plan.clone();
        for task in &mut plan.tasks {
            task.slug = slug(&again(&task.slug));
            task.paths = vec![format!("{}/**", task.slug)];
            task.on_failure = None;
            task.depends_on = task.depends_on.iter().map(|on| slug(&again(on))).collect();
            if task.depends_on.is_empty() {
                task.depends_on.extend(replan.finished.keys().next().cloned());
            }
        }
        plan
    }

    /// Claims the task once its pause is over, and reports success.
    pub(crate) fn succeed(&mut self, name: &str) {
        let slug = slug(name);
        self.take(&slug);
        let product = self.product_of(&slug);
        self.report(&slug, AttemptOutcome::Succeeded { product }).unwrap();
    }

    pub(crate) fn fail(&mut self, name: &str, kind: FailureKind) {
        let slug = slug(name);
        self.take(&slug);
        self.report(&slug, failure(kind, &format!("{name} went wrong"))).unwrap();
    }

    pub(crate) fn take(&mut self, slug: &TaskSlug) {
        self.clock = self.clock.max(self.record().tasks[slug].not_before.0);
        self.claim(slug).unwrap();
    }

    /// Every step the control plane can take by itself, all of them approved.
    pub(crate) fn advance(&mut self) {
        while self.step(&mut || Verdict::Approved).unwrap() {}
    }

    /// Claims and finishes whatever is ready until the job waits for nobody any more; answers the order.
    pub(crate) fn run(&mut self) -> String {
        let mut order = Vec::new();
        for _ in 0..300 {
            self.advance();
            let Some(slug) = self.ready().first().cloned() else { break };
            self.succeed(slug.as_str());
            order.push(slug.to_string());
        }
        order.join(" ")
    }

    pub(crate) fn step(&mut self, verdicts: &mut impl FnMut() -> Verdict) -> Result<bool, Rejection> {
        let expires = Timestamp(self.clock + 10_000);
        let body = match next_step(self.record(), Timestamp(self.clock)) {
            Step::Wait => return Ok(false),
            Step::StartAnalysis => CommandBody::StartAnalysis,
            Step::Decide => {
                CommandBody::Decide { decision: Box::new(decision(verdicts())), approval_expires_at: expires }
            }
            Step::ExpireApproval => CommandBody::ExpireApproval,
            Step::StartPlanning => CommandBody::StartPlanning,
            Step::JudgePlan => CommandBody::JudgePlan {
                plan_digest: self.record().plan_digest.clone().unwrap(),
                verdict: verdicts(),
                reasons: vec![],
                rule: rule(),
                approval_expires_at: expires,
            },
            Step::StartValidation => CommandBody::StartValidation,
            Step::JudgeOutput => CommandBody::JudgeOutput {
                verdict: verdicts(),
                gates: vec![],
                reasons: vec![],
                rule: rule(),
                approval_expires_at: expires,
            },
            Step::AskDelivery => CommandBody::AskDelivery { rule: rule(), approval_expires_at: expires },
            Step::StartDelivery => CommandBody::StartDelivery,
            Step::Complete => CommandBody::Complete,
            Step::PauseForBudget => CommandBody::Pause {
                cause: format!("{}: all of it", df_control_machine::decide::OUT_OF_BUDGET),
            },
            Step::FailForTime => CommandBody::Fail { cause: "time".into() },
            Step::FailForTask => CommandBody::Fail { cause: "task".into() },
            Step::Replan => CommandBody::Replan,
        };
        self.send("daemon", body).map(|()| true)
    }

    pub(crate) fn in_state(&self, state: TaskState) -> Vec<TaskSlug> {
        let tasks = self.record().tasks.values();
        tasks.filter(|t| t.state == state).map(|t| t.slug.clone()).collect()
    }

    pub(crate) fn ready(&self) -> Vec<TaskSlug> {
        self.in_state(TaskState::Ready)
    }

    /// The states of these tasks, for a short comparison.
    pub(crate) fn states(&self, names: &[&str]) -> String {
        names.iter().map(|n| self.task(n).state.to_string()).collect::<Vec<_>>().join(" ")
    }

    pub(crate) fn vote(&mut self, who: &str, approve: bool, seen: Option<u64>) -> Result<(), Rejection> {
        let roles = BTreeSet::from([Role::Approver]);
        let seen = Seen { job_version: seen, ..Seen::default() };
        self.send(who, CommandBody::Vote { approve, roles, seen, comment: String::new() })
    }

    /// Approves what was seen.
    pub(crate) fn approve(&mut self, who: &str, seen: Seen) -> Result<(), Rejection> {
        let roles = BTreeSet::from([Role::Approver]);
        self.send(who, CommandBody::Vote { approve: true, roles, seen, comment: String::new() })
    }
}

/// What must hold between a record and the next.
fn check_step(before: &JobRecord, after: &JobRecord, body: &CommandBody) {
    assert_eq!(after.version, before.version + 1);
    for (slug, task) in before.tasks.iter() {
        assert!(after.tasks[slug].epoch >= task.epoch, "epochs never fall");
    }
    if let CommandBody::Rollback { to } = body {
        assert!(before.integrated().starts_with(&after.integrated()), "rollback leaves a prefix");
        assert_eq!(after.integrated().last(), to.as_ref(), "which ends where it was asked to");
    } else {
        assert!(after.integrated().starts_with(&before.integrated()), "what is merged stays merged");
    }
    if after.replans > before.replans {
        assert_eq!((&after.head, &after.integrated()), (&before.head, &before.integrated()));
        let (replan, plan) = (after.replan.as_ref().unwrap(), before.plan.as_ref().unwrap());
        for task in &plan.tasks {
            let merged = before.integrated().contains(&task.slug);
            assert_eq!(replan.finished.contains_key(&task.slug), merged);
            assert_eq!(replan.dropped.contains_key(&task.slug), !merged);
        }
    }
}

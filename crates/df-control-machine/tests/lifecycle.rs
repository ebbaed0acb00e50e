//! Random command sequences keep every invariant; the straight way completes; stale and illegal commands write nothing.
#![expect(clippy::unwrap_used, reason = "helpers of a test: a failed unwrap is a failed test")]

use std::collections::{BTreeMap, BTreeSet};

use df_contract::decision::{ApprovalRule, Decision, NetworkMode, Obligations, SandboxTier, Verdict};
use df_contract::task::{AgentStatus, Product, TreeRef};
use df_contract::{
    AgentResult, AttemptId, AttemptOutcome, CommandId, Digest, ErrorCode, FailureKind, GateFacts, JobId,
    JobState, LeaseKind, Plan, PlanTask, Role, SessionId, SourceFacts, TaskSlug, TaskState, Timestamp,
    Tokens, Usage,
};
use df_control_machine::{
    Actor, AuditBody, Caps, Command, CommandBody, JobRecord, Rejection, ReturnCause, Step, decide,
    invariants, next_step,
};
use proptest::prelude::*;

fn tree(n: u8) -> TreeRef {
    TreeRef { revision: format!("{n:040x}").parse().unwrap(), bundle: Digest::of(&[n]) }
}

fn rule() -> ApprovalRule {
    ApprovalRule { count: 1, roles: BTreeSet::from([Role::Approver]) }
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
        },
        facts: Digest::zero(),
        policy: Digest::zero(),
        limits: Digest::zero(),
    }
}

fn plan() -> Plan {
    let task = |slug: &str, on: &[&str], path: &str| PlanTask {
        slug: slug.parse().unwrap(),
        role: Role::Backend,
        title: slug.into(),
        instructions: "x".into(),
        depends_on: on.iter().map(|s| s.parse().unwrap()).collect(),
        paths: vec![path.into()],
        expected_outputs: vec![],
        checks: vec![],
        tokens: None,
        nano_usd: None,
        agent: None,
        on_failure: None,
    };
    Plan {
        summary: "s".into(),
        tasks: vec![task("a", &[], "a/**"), task("b", &["a"], "b/**"), task("c", &["a"], "c/**")],
    }
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

fn product(kind: LeaseKind, role: Role, n: u8) -> Product {
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

/// One job driven by hand: counts time and command ids itself.
struct Driver {
    record: Option<JobRecord>,
    clock: u64,
}

impl Driver {
    fn submitted() -> Self {
        let spec = serde_json::from_value(serde_json::json!({"title": "t", "description": "d"})).unwrap();
        let mut driver = Self { record: None, clock: 1_000 };
        let body = CommandBody::Submit {
            tenant: "acme".parse().unwrap(),
            submitter: "alice".into(),
            spec: Box::new(spec),
        };
        driver.send("alice", body).unwrap();
        driver
    }

    fn record(&self) -> &JobRecord {
        self.record.as_ref().unwrap()
    }

    fn send(&mut self, actor: &str, body: CommandBody) -> Result<(), Rejection> {
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
        let before = self.record.clone();
        let decided = decide(self.record.as_ref(), &command)?;
        assert!(!decided.audit.is_empty(), "an accepted command leaves a record");
        assert_eq!(decided.record.version, before.as_ref().map_or(0, |b| b.version) + 1);
        for (slug, task) in before.iter().flat_map(|b| b.tasks.iter()) {
            assert!(decided.record.tasks[slug].epoch >= task.epoch, "epochs never fall");
        }
        let mut known: BTreeSet<&TaskSlug> = before.iter().flat_map(|b| b.tasks.keys()).collect();
        for made in decided.audit.iter().filter(|a| matches!(a.body, AuditBody::TaskCreated { .. })) {
            assert!(known.insert(made.slug.as_ref().unwrap()), "{:?} is made once", made.slug);
        }
        assert_eq!(invariants::broken(&decided.record), Vec::<String>::new(), "after {:?}", command.body);
        self.record = Some(decided.record);
        Ok(())
    }

    fn claim(&mut self, slug: &TaskSlug) -> Result<(), Rejection> {
        let attempt = AttemptId::mint(Timestamp(self.clock), [3; 10]);
        let session = SessionId::mint(Timestamp(2), [2; 10]);
        let deadline = Timestamp(self.clock + 1_000_000);
        self.send("worker", CommandBody::Claim { slug: slug.clone(), session, attempt, deadline })
    }

    fn report(&mut self, slug: &TaskSlug, outcome: AttemptOutcome) -> Result<(), Rejection> {
        let task = &self.record().tasks[slug];
        let (epoch, attempt) = (task.epoch, task.attempt.unwrap_or(AttemptId::mint(Timestamp(1), [9; 10])));
        let body = CommandBody::Report {
            slug: slug.clone(),
            epoch,
            attempt,
            outcome: Box::new(outcome),
            sandbox_layers: vec![],
        };
        self.send("worker", body)
    }

    fn step(&mut self, verdicts: &mut impl FnMut() -> Verdict) -> Result<bool, Rejection> {
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
            Step::PauseForBudget => CommandBody::Pause { cause: "budget".into() },
            Step::FailForTime => CommandBody::Fail { cause: "time".into() },
            Step::FailForTask => CommandBody::Fail { cause: "task".into() },
            Step::Replan => CommandBody::Replan,
        };
        self.send("daemon", body).map(|()| true)
    }

    fn ready(&self) -> Vec<TaskSlug> {
        let tasks = self.record().tasks.values();
        tasks.filter(|t| t.state == TaskState::Ready).map(|t| t.slug.clone()).collect()
    }

    fn vote(&mut self, who: &str, approve: bool, seen: Option<u64>) -> Result<(), Rejection> {
        let roles = BTreeSet::from([Role::Approver]);
        self.send(who, CommandBody::Vote { approve, roles, job_version: seen, comment: String::new() })
    }
}

#[test]
fn the_straight_way_completes_in_order() {
    let mut job = Driver::submitted();
    let mut order = Vec::new();
    for _ in 0..200 {
        while job.step(&mut || Verdict::Approved).unwrap() {}
        let Some(slug) = job.ready().first().cloned() else { break };
        job.claim(&slug).unwrap();
        let task = &job.record().tasks[&slug];
        let made = product(task.kind, task.role, order.len() as u8 + 1);
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
        job_version: None,
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

#[derive(Debug, Clone)]
enum Move {
    Step(u8),
    Claim(u8),
    Succeed(u8),
    Fail(u8, u8),
    Return(u8),
    Vote(bool, u8),
    Pause,
    Resume,
    Cancel,
    Spend(u8, u16),
    Sleep(u32),
    Message(u8),
    Raise(u8, u16),
    Priority(i8),
}

fn moves() -> impl Strategy<Value = Move> {
    prop_oneof![
        8 => any::<u8>().prop_map(Move::Step),
        8 => any::<u8>().prop_map(Move::Claim),
        8 => any::<u8>().prop_map(Move::Succeed),
        3 => any::<(u8, u8)>().prop_map(|(a, b)| Move::Fail(a, b)),
        1 => any::<u8>().prop_map(Move::Return),
        3 => any::<(bool, u8)>().prop_map(|(a, b)| Move::Vote(a, b)),
        1 => Just(Move::Pause),
        2 => Just(Move::Resume),
        1 => any::<u8>().prop_map(|n| if n < 40 { Move::Cancel } else { Move::Resume }),
        1 => any::<(u8, u16)>().prop_map(|(a, b)| Move::Spend(a, b % 100)),
        1 => (0u32..100_000).prop_map(Move::Sleep),
        1 => any::<u8>().prop_map(Move::Message),
        1 => any::<(u8, u16)>().prop_map(|(a, b)| Move::Raise(a, b)),
        1 => any::<i8>().prop_map(Move::Priority),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]
    #[test]
    fn random_commands_keep_every_invariant(way in proptest::collection::vec(moves(), 1..120)) {
        let mut job = Driver::submitted();
        for one in way {
            let pick = |n: u8, state: TaskState| {
                let found: Vec<TaskSlug> = job.record().tasks.values().filter(|t| t.state == state).map(|t| t.slug.clone()).collect();
                (!found.is_empty()).then(|| found[n as usize % found.len()].clone())
            };
            let before = job.record().clone();
            let leased = |n| pick(n, TaskState::Leased);
            let outcome = match one {
                Move::Step(n) => job.step(&mut || match n % 8 { 0 => Verdict::NeedsApproval, 1 => Verdict::Rejected, _ => Verdict::Approved }).map(|_| ()),
                Move::Claim(n) => match pick(n, TaskState::Ready) { Some(slug) => job.claim(&slug), None => Ok(()) },
                Move::Succeed(n) => match leased(n) {
                    Some(slug) => {
                        let task = &job.record().tasks[&slug];
                        let made = product(task.kind, task.role, n);
                        job.report(&slug, AttemptOutcome::Succeeded { product: made })
                    }
                    None => Ok(()),
                },
                Move::Fail(n, k) => match leased(n) {
                    Some(slug) => {
                        let kind = FailureKind::ALL[k as usize % FailureKind::ALL.len()];
                        job.report(&slug, AttemptOutcome::Failed { kind, detail: "d".into(), trace: None })
                    }
                    None => Ok(()),
                },
                Move::Return(n) => match leased(n) {
                    Some(slug) => {
                        let epoch = job.record().tasks[&slug].epoch;
                        let causes = [ReturnCause::SessionEnded, ReturnCause::Drained, ReturnCause::NotMade, ReturnCause::Deadline, ReturnCause::Stalled];
                        let cause = causes[n as usize % causes.len()];
                        job.send("reaper", CommandBody::Return { slug, epoch, cause, detail: "gone".into() })
                    }
                    None => Ok(()),
                },
                Move::Vote(approve, n) => job.vote(if n < 60 { "alice" } else { "bob" }, approve, None),
                Move::Pause => job.send("op", CommandBody::Pause { cause: "op".into() }),
                Move::Resume => job.send("op", CommandBody::Resume),
                Move::Cancel => job.send("op", CommandBody::Cancel { cause: "op".into() }),
                Move::Spend(n, amount) => match leased(n) {
                    Some(slug) => {
                        let spend = df_contract::api::Spend { calls: 1, input_tokens: Tokens(u64::from(amount)), ..Default::default() };
                        job.send("daemon", CommandBody::RecordSpend { slug, spend, through: 1 })
                    }
                    None => Ok(()),
                },
                Move::Message(n) => job.send("op", CommandBody::Message { by: "op".into(), text: "x".repeat(n as usize) }),
                Move::Raise(n, more) => {
                    let caps = Caps { tokens: Tokens(1_000 + u64::from(more)), money_nano_usd: None };
                    let by = if n < 128 { "bob" } else { "carol" };
                    let expires_at = Timestamp(job.clock + 10_000);
                    job.send(by, CommandBody::RequestBudget { by: by.into(), caps, rule: rule(), expires_at })
                }
                Move::Priority(priority) => job.send("op", CommandBody::SetPriority { priority }),
                Move::Sleep(ms) => { job.clock += u64::from(ms); Ok(()) }
            };
            if outcome.is_err() {
                prop_assert_eq!(job.record(), &before, "a refused command writes nothing");
            }
            if df_control_machine::job::is_terminal(before.state) {
                prop_assert_eq!(job.record().state, before.state, "terminal states have no exit");
            }
        }
    }
}

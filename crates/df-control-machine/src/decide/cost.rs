//! How many tasks a command looks at, as its job grows.

use std::collections::{BTreeMap, BTreeSet};

use df_contract::decision::{Decision, NetworkMode, Obligations};
use df_contract::task::{AgentStatus, Product};
use df_contract::{
    AgentResult, AttemptId, AttemptOutcome, CommandId, FailureKind, JobId, Plan, PlanTask, SandboxTier,
    SessionId, SourceFacts, Tokens, Usage,
};

use super::*;
use crate::command::Actor;
use crate::place::Line;
use crate::step::{Step, next_step};
use crate::tasks::looks;

const NOW: Timestamp = Timestamp(1_700_000_000_000);

/// A job under its commands, with the most tasks that any of each kind looked at.
struct Job {
    record: JobRecord,
    minted: u8,
    most: BTreeMap<&'static str, u64>,
    looks: u64,
}

fn command(n: u8, body: CommandBody) -> Command {
    let actor = Actor { name: "alice".into(), role: Role::Operator };
    Command { id: CommandId::mint(NOW, [n; 10]), job: JobId::mint(NOW, [1; 10]), actor, at: NOW, body }
}

impl Job {
    fn send(&mut self, body: CommandBody) {
        self.minted = self.minted.wrapping_add(1);
        let (name, before) = (body.name(), looks());
        self.record = decide(Some(&self.record), &command(self.minted, body)).unwrap().record;
        // What a store and the control plane ask after each command.
        Line::of(&self.record);
        next_step(&self.record, NOW);
        let looks = looks() - before;
        self.looks += looks;
        let most = self.most.entry(name).or_default();
        *most = looks.max(*most);
    }

    /// Claims what is ready and reports on it.
    fn run(&mut self, slug: &TaskSlug, outcome: AttemptOutcome) {
        let (session, attempt) = (SessionId::mint(NOW, [2; 10]), AttemptId::mint(NOW, [3; 10]));
        let deadline = Timestamp(u64::MAX);
        self.send(CommandBody::Claim { slug: slug.clone(), session, attempt, deadline });
        let (slug, epoch) = (slug.clone(), self.record.tasks[slug].epoch);
        let outcome = Box::new(outcome);
        let (sandbox_layers, evidence) = (vec![], vec![]);
        self.send(CommandBody::Report { slug, epoch, attempt, outcome, sandbox_layers, evidence });
    }

    fn succeed(&mut self, slug: &TaskSlug, product: Product) {
        self.run(slug, AttemptOutcome::Succeeded { product });
    }
}

fn tree() -> TreeRef {
    TreeRef { revision: "a".repeat(40).parse().unwrap(), bundle: Digest::of(b"tree") }
}

fn change() -> Product {
    let result = AgentResult {
        status: AgentStatus::Succeeded,
        summary: "done".into(),
        commit_message: "m".into(),
        tree: None,
        plan: None,
        checks: vec![],
        usage: Usage::default(),
        artefacts: BTreeMap::new(),
    };
    Product::Change { tree: tree(), result }
}

fn decision() -> Decision {
    let obligations = Obligations {
        min_tier: SandboxTier::Bwrap,
        network: NetworkMode::None,
        dependencies: BTreeSet::new(),
        models: None,
        protected_paths: BTreeSet::new(),
        money_nano_usd: None,
        tokens: Tokens(u64::MAX),
        approval: None,
        approve_delivery: false,
        gates: BTreeSet::new(),
        max_attempts: None,
    };
    let digest = Digest::zero();
    let (facts, policy, limits) = (digest.clone(), digest.clone(), digest);
    Decision { verdict: Verdict::Approved, reasons: vec![], obligations, facts, policy, limits }
}

/// So many tasks in layers of `width`, each on the one above it.
fn plan(tasks: usize, width: usize) -> Plan {
    let slug = |n: usize| -> TaskSlug { format!("t{n}").parse().unwrap() };
    let task = |n: usize| PlanTask {
        slug: slug(n),
        role: Role::Backend,
        title: "t".into(),
        instructions: "i".into(),
        depends_on: n.checked_sub(width).map(slug).into_iter().collect(),
        paths: vec![format!("t{n}/**")],
        expected_outputs: vec![],
        checks: vec![],
        tokens: None,
        nano_usd: None,
        agent: None,
        on_failure: None,
    };
    Plan { summary: "s".into(), tasks: (0..tasks).map(task).collect() }
}

/// A job of that plan at work, nothing of it begun.
fn planned(tasks: usize, width: usize) -> Job {
    let mut spec: df_contract::JobSpec =
        serde_json::from_value(serde_json::json!({"title": "t", "description": "d", "on_failure": "skip"}))
            .unwrap();
    spec.plan = Some(plan(tasks, width));
    let (tenant, submitter) = ("acme".parse().unwrap(), "bob".to_owned());
    let first = command(0, CommandBody::Submit { tenant, submitter, spec: Box::new(spec) });
    let record = decide(None, &first).unwrap().record;
    let mut job = Job { record, minted: 0, most: BTreeMap::new(), looks: 0 };
    job.send(CommandBody::StartAnalysis);
    let intake = Product::Intake { facts: SourceFacts::default(), base: tree() };
    job.succeed(&"intake".parse().unwrap(), intake);
    job.send(CommandBody::Decide { decision: Box::new(decision()), approval_expires_at: NOW });
    job.send(CommandBody::StartPlanning);
    job.send(CommandBody::JudgePlan {
        plan_digest: job.record.plan_digest.clone().unwrap(),
        verdict: Verdict::Approved,
        reasons: vec![],
        rule: df_contract::ApprovalRule { count: 1, roles: BTreeSet::from([Role::Approver]) },
        approval_expires_at: NOW,
    });
    Job { most: BTreeMap::new(), looks: 0, ..job }
}

/// The whole work of a job; every `fails`th task meets a conflict, then fails for good.
fn worked(tasks: usize, width: usize, fails: usize) -> Job {
    let mut job = planned(tasks, width);
    let mut conflicts = BTreeSet::new();
    let mut count = 0;
    while next_step(&job.record, NOW) == Step::Wait {
        let ready = job.record.tasks.values().find(|t| t.state == TaskState::Ready).unwrap();
        let (slug, kind) = (ready.slug.clone(), ready.kind);
        if kind == LeaseKind::Agent {
            job.succeed(&slug, change());
            continue;
        }
        let again = conflicts.remove(&slug);
        count += usize::from(!again);
        let failed = |kind| AttemptOutcome::Failed { kind, detail: "no".into(), trace: None };
        match (again, count % fails) {
            (true, _) => job.run(&slug, failed(FailureKind::PolicyBreach)),
            (false, 0) => {
                job.run(&slug, failed(FailureKind::MergeConflict));
                conflicts.insert(slug);
            }
            (false, _) => job.succeed(&slug, Product::Merge { tree: tree(), checks: vec![] }),
        }
    }
    assert_eq!(next_step(&job.record, NOW), Step::StartValidation);
    job
}

/// Tasks that are looked at for each task of the plan, from its claim to its merge.
const LOOKS: u64 = 300;

/// A command looks at what it changes, at what waits for that, and at those beside these; the end of a wave also at
/// what is in the next one. Each of these once or a few times, however many tasks there are.
#[test]
fn the_tasks_that_commands_look_at_do_not_grow_with_the_job() {
    for (width, fails) in [(1, usize::MAX), (10, usize::MAX), (1_000, usize::MAX), (10, 25)] {
        for tasks in [10, 100, 1_000] {
            let job = worked(tasks, width, fails);
            let looks = job.looks / tasks as u64;
            assert!(
                looks <= LOOKS,
                "{looks} looks a task, {tasks} tasks in layers of {width}: {:?}",
                job.most
            );
        }
    }
}

/// One claim or report, of a plan in which no wave is large.
#[test]
fn no_command_looks_at_all_tasks() {
    for width in [1, 10] {
        let job = worked(1_000, width, usize::MAX);
        let most = job.most.values().max().unwrap();
        assert!(*most <= 2 * LOOKS, "in layers of {width}: {:?}", job.most);
    }
}

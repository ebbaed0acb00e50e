//! Random jobs, plans, decisions and products.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use df_contract::agent::{Runtime, SandboxNeeds};
use df_contract::decision::{ApprovalRule, Decision, NetworkMode, Obligations, SandboxTier, Verdict};
use df_contract::task::{AgentStatus, Product, TreeRef};
use df_contract::{
    AgentResult, AssignedAgent, Digest, GateFacts, JobSpec, LeaseKind, NanoUsd, OnFailure, Plan, PlanTask,
    Role, SourceFacts, TaskSlug, Timestamp, Tokens, Usage,
};
use df_control_machine::JobRecord;

use crate::rng::Rng;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Size {
    Small,
    Middling,
    Large,
}

impl Size {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Size::Small => "small",
            Size::Middling => "middling",
            Size::Large => "large",
        }
    }
    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Size::Small, Size::Middling, Size::Large].into_iter().find(|s| s.name() == text)
    }
    pub(crate) fn jobs(self) -> usize {
        match self {
            Size::Small | Size::Middling => 4,
            Size::Large => 2,
        }
    }
    /// Most tasks of a plan.
    pub(crate) fn tasks(self) -> usize {
        match self {
            Size::Small => 6,
            Size::Middling => 30,
            Size::Large => 200,
        }
    }
}

/// Layers of the deepest plan.
const DEPTH: usize = 10;

/// A plan of up to `most` tasks whose slugs begin with `prefix`, over the finished tasks `on`.
pub(crate) fn plan(rng: &mut Rng, most: usize, prefix: &str, on: &[TaskSlug]) -> Plan {
    let mut layers: Vec<usize> = (0..1 + rng.below(most)).map(|_| rng.below(DEPTH)).collect();
    layers.sort_unstable();
    let slug = |n: usize| format!("{prefix}{n}").parse::<TaskSlug>().unwrap();
    let mut tasks = Vec::new();
    for (n, layer) in layers.iter().enumerate() {
        let earlier: Vec<usize> = (0..n).filter(|m| layers[*m] < *layer).collect();
        let parents: BTreeSet<usize> = (0..rng.below(4)).filter_map(|_| rng.one_of(&earlier)).collect();
        let mut depends_on: Vec<TaskSlug> = parents.into_iter().map(slug).collect();
        depends_on.extend(rng.one_of(on).filter(|_| rng.chance(20)));
        tasks.push(PlanTask {
            slug: slug(n),
            role: rng.one_of(&[Role::Backend, Role::Backend, Role::Devops]).unwrap(),
            title: "t".into(),
            instructions: "x".into(),
            depends_on,
            paths: vec![format!("infra/{prefix}{n}/Dockerfile")],
            expected_outputs: vec![],
            checks: vec![],
            tokens: rng.chance(30).then(|| Tokens(1 + rng.next() % 50)),
            nano_usd: None,
            agent: None,
            on_failure: rng.chance(30).then(|| on_failure(rng)),
        });
    }
    // Backend work is no infrastructure.
    for task in tasks.iter_mut().filter(|t| t.role == Role::Backend) {
        task.paths = vec![format!("{}/**", task.slug)];
    }
    Plan { summary: "s".into(), tasks }
}

fn on_failure(rng: &mut Rng) -> OnFailure {
    rng.one_of(&[OnFailure::Fail, OnFailure::Skip, OnFailure::Skip, OnFailure::Replan]).unwrap()
}

/// A registered agent that runs otherwise than the built-in ones.
pub(crate) fn agent() -> AssignedAgent {
    AssignedAgent {
        name: "docs-writer".parse().unwrap(),
        digest: Digest::zero(),
        runtime: Runtime::Command,
        sandbox: SandboxNeeds::default(),
        model: None,
    }
}

pub(crate) fn spec(rng: &mut Rng, size: Size, at: Timestamp) -> JobSpec {
    let mut spec: JobSpec =
        serde_json::from_value(serde_json::json!({"title": "t", "description": "d"})).unwrap();
    spec.priority = rng.below(11) as i8 - 5;
    spec.on_failure = on_failure(rng);
    if rng.chance(50) || size == Size::Large {
        spec.plan = Some(plan(rng, size.tasks(), "s", &[]));
    }
    if rng.chance(10) {
        spec.deadline = Some(Timestamp(at.0 + 1 + rng.next() % 20_000_000));
    }
    if rng.chance(20) {
        spec.labels.insert("gpu".to_owned());
    }
    if rng.chance(30) {
        let kind = rng.one_of(df_contract::FailureKind::ALL).unwrap();
        let (attempts, backoff_ms) =
            (1 + rng.below(12) as u32, Some(df_contract::DurationMs(rng.next() % 90_000)));
        spec.retries.insert(kind, df_contract::job::RetryOverride { attempts, backoff_ms });
    }
    spec
}

pub(crate) fn rule(rng: &mut Rng) -> ApprovalRule {
    ApprovalRule { count: 1 + rng.below(2) as u32, roles: BTreeSet::from([Role::Approver]) }
}

pub(crate) fn decision(rng: &mut Rng, verdict: Verdict) -> Decision {
    Decision {
        verdict,
        reasons: vec![],
        obligations: Obligations {
            min_tier: rng.one_of(&[SandboxTier::None, SandboxTier::Bwrap]).unwrap(),
            network: NetworkMode::None,
            dependencies: BTreeSet::new(),
            models: None,
            protected_paths: BTreeSet::new(),
            money_nano_usd: rng.chance(30).then(|| NanoUsd(1 + rng.next() % 3_000)),
            tokens: Tokens(if rng.chance(30) { 1 + rng.next() % 500 } else { 1_000_000 }),
            approval: Some(rule(rng)),
            approve_delivery: rng.chance(20),
            gates: BTreeSet::new(),
            max_attempts: rng.one_of(&[1, 2, 4]).filter(|_| rng.chance(15)).and_then(NonZeroU32::new),
        },
        facts: Digest::zero(),
        policy: Digest::zero(),
        limits: Digest::zero(),
    }
}

/// A tree that no other attempt makes.
pub(crate) fn tree(n: u64) -> TreeRef {
    TreeRef { revision: format!("{n:040x}").parse().unwrap(), bundle: Digest::of(&n.to_be_bytes()) }
}

fn result(rng: &mut Rng) -> AgentResult {
    let asks = rng.chance(2);
    AgentResult {
        status: if asks { AgentStatus::NeedsInput { question: "?".into() } } else { AgentStatus::Succeeded },
        summary: "done".into(),
        commit_message: "m".into(),
        tree: None,
        plan: None,
        checks: vec![],
        usage: Usage::default(),
        artefacts: BTreeMap::new(),
    }
}

/// What an attempt of this kind makes. `n` is used once in a world.
pub(crate) fn product(rng: &mut Rng, size: Size, record: &JobRecord, slug: &TaskSlug, n: u64) -> Product {
    let task = &record.tasks[slug];
    match task.kind {
        LeaseKind::Intake => Product::Intake { facts: SourceFacts::default(), base: tree(n) },
        LeaseKind::Agent if task.role == Role::Coordinator => {
            let finished: Vec<TaskSlug> = record.integrated();
            let prefix = if rng.chance(3) { "s".to_owned() } else { format!("p{n}x") };
            let mut plan = plan(rng, size.tasks().min(30), &prefix, &finished);
            // Mostly: a coordinator that sets it anyway breaks its contract.
            if !rng.chance(5) {
                plan.tasks.iter_mut().for_each(|task| task.on_failure = None);
            }
            Product::Plan { plan, result: result(rng) }
        }
        LeaseKind::Agent => Product::Change { tree: tree(n), result: result(rng) },
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
        LeaseKind::Deliver => Product::Delivery {
            artefacts: BTreeMap::from([("tree.tar".into(), Digest::of(&n.to_be_bytes()))]),
        },
    }
}

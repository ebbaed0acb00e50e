//! The protocol between the daemon and a worker: sessions, leases, heartbeats, reports.
//!
//! All bodies are JSON under `/v1/worker/`. A lease's token opens the lease's own blobs and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::agent::{MAX_LABEL_BYTES, Runtime, is_label};
use crate::task::TreeRef;
use crate::{
    AcceptanceCheck, AgentTask, AttemptId, AttemptOutcome, CheckResult, Digest, DurationMs, HiddenCheck,
    JobId, SandboxTier, SessionId, Source, TaskSlug, TenantId, Timestamp,
};

/// A worker's session lives this long without a heartbeat.
pub const SESSION_TTL: DurationMs = DurationMs(15_000);
/// How often a worker sends a heartbeat.
pub const HEARTBEAT_EVERY: DurationMs = DurationMs(5_000);
/// A worker stops its own work this long before its session would end.
pub const SELF_FENCE_MARGIN: DurationMs = DurationMs(2_000);
/// How often the daemon looks for sessions that ended.
pub const REAP_EVERY: DurationMs = DurationMs(1_000);

/// What kind of work a lease is. Only `trusted` workers get more than `agent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LeaseKind {
    Intake,
    Agent,
    Integrate,
    Validate,
    Deliver,
}

impl LeaseKind {
    pub const ALL: &'static [LeaseKind] =
        &[LeaseKind::Intake, LeaseKind::Agent, LeaseKind::Integrate, LeaseKind::Validate, LeaseKind::Deliver];
    pub const fn as_str(self) -> &'static str {
        match self {
            LeaseKind::Intake => "intake",
            LeaseKind::Agent => "agent",
            LeaseKind::Integrate => "integrate",
            LeaseKind::Validate => "validate",
            LeaseKind::Deliver => "deliver",
        }
    }
    pub fn parse(s: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|k| k.as_str() == s)
    }
}

/// How far a worker is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WorkerClass {
    Remote,
    Trusted,
}

impl WorkerClass {
    /// Whether a worker of this class may hold a lease of this kind.
    pub fn may_hold(self, kind: LeaseKind) -> bool {
        match (self, kind) {
            (WorkerClass::Trusted, _) | (WorkerClass::Remote, LeaseKind::Agent) => true,
            (
                WorkerClass::Remote,
                LeaseKind::Intake | LeaseKind::Integrate | LeaseKind::Validate | LeaseKind::Deliver,
            ) => false,
        }
    }
}

/// Secret of one lease, sent as a bearer token with blobs, events and the report. Never logged.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct LeaseToken(pub String);

impl std::fmt::Debug for LeaseToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LeaseToken(..)")
    }
}

/// `POST /v1/worker/sessions`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionOpen {
    /// A name for people: host name or the like.
    pub name: String,
    /// How many leases it can hold at once.
    pub capacity: u32,
    /// What the operator says of this worker: `gpu`, `zone-a`. Tasks may ask for labels.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub labels: BTreeSet<String>,
    /// Sandbox tiers it can enforce.
    #[serde(default = "default_tiers")]
    pub tiers: BTreeSet<SandboxTier>,
    /// Runtimes of agents it can run.
    #[serde(default = "default_runtimes")]
    pub runtimes: BTreeSet<Runtime>,
}

/// Most labels of one worker.
pub const MAX_WORKER_LABELS: usize = 64;

impl SessionOpen {
    /// What is wrong with the labels: a label is lower-case letters, digits and single hyphens, as in a job.
    pub fn wrong_labels(&self) -> Option<String> {
        if self.labels.len() > MAX_WORKER_LABELS {
            return Some(format!("{} labels are given, the limit is {MAX_WORKER_LABELS}", self.labels.len()));
        }
        let wrong = self.labels.iter().find(|label| !is_label(label))?;
        let shown = wrong.chars().filter(|c| !c.is_control()).take(MAX_LABEL_BYTES).collect::<String>();
        Some(format!(
            "label `{shown}`: lower-case letters, digits and single hyphens, at most {MAX_LABEL_BYTES} bytes"
        ))
    }

    /// A worker with the default sandbox and runtime, and no labels.
    pub fn plain(name: impl Into<String>, capacity: u32) -> Self {
        Self {
            name: name.into(),
            capacity,
            labels: BTreeSet::new(),
            tiers: default_tiers(),
            runtimes: default_runtimes(),
        }
    }
}

fn default_tiers() -> BTreeSet<SandboxTier> {
    BTreeSet::from([SandboxTier::Bwrap])
}

fn default_runtimes() -> BTreeSet<Runtime> {
    BTreeSet::from([Runtime::Builtin])
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionOpened {
    pub session: SessionId,
    pub class: WorkerClass,
    pub ttl_ms: DurationMs,
    pub heartbeat_every_ms: DurationMs,
}

/// `POST /v1/worker/sessions/{session}/claim`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    pub kinds: Vec<LeaseKind>,
    pub max: u32,
    /// Waits up to this long for work; at most 20 s.
    pub wait_ms: DurationMs,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Claimed {
    pub leases: Vec<Lease>,
}

/// One piece of work, held under an epoch until the session ends or the report is accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lease {
    pub job: JobId,
    pub tenant: TenantId,
    pub slug: TaskSlug,
    pub epoch: u64,
    pub attempt: AttemptId,
    /// 1 for the first attempt.
    pub attempt_number: u32,
    pub token: LeaseToken,
    /// The attempt fails when it has not been reported by then, on the daemon's clock.
    pub deadline: Timestamp,
    /// The same as a time from the claim, for a worker whose clock says something else.
    pub time_left_ms: DurationMs,
    /// The attempt is taken back when no event arrives for this long.
    pub progress_timeout_ms: DurationMs,
    pub work: Work,
}

impl Lease {
    pub fn kind(&self) -> LeaseKind {
        match self.work {
            Work::Intake { .. } => LeaseKind::Intake,
            Work::Agent { .. } => LeaseKind::Agent,
            Work::Integrate { .. } => LeaseKind::Integrate,
            Work::Validate { .. } => LeaseKind::Validate,
            Work::Deliver { .. } => LeaseKind::Deliver,
        }
    }
}

/// What to do, by kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Work {
    Intake {
        source: Source,
        protected_paths: Vec<String>,
    },
    Agent {
        task: Box<AgentTask>,
    },
    Integrate {
        /// The plan task whose change is merged.
        task: TaskSlug,
        title: String,
        head: TreeRef,
        change: TreeRef,
        /// Globs the change may touch: anything else is a policy breach.
        paths: Vec<String>,
        /// Globs it may not touch even so.
        #[serde(default)]
        protected_paths: Vec<String>,
        role: crate::Role,
        checks: Vec<AcceptanceCheck>,
        /// Checks of tasks that were merged before, run again after the merged task's own: at most [`MAX_RECHECKS`].
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        rechecks: Vec<Recheck>,
    },
    Validate {
        base: TreeRef,
        head: TreeRef,
        acceptance: Vec<AcceptanceCheck>,
        hidden: Vec<HiddenCheck>,
    },
    Deliver {
        /// `bundle`, or the name of a target in the worker's configuration.
        target: String,
        head: TreeRef,
        /// Documents that go into the bundle beside the tree, by file name (`report.md`, `decision.json`, ...).
        documents: BTreeMap<String, String>,
    },
}

/// Most checks of earlier tasks that are run again after a merge.
pub const MAX_RECHECKS: usize = 32;

/// A check of a task that is merged already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recheck {
    /// Whose check it is.
    pub task: TaskSlug,
    pub check: AcceptanceCheck,
}

/// `POST /v1/worker/sessions/{session}/heartbeat`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Heartbeat {
    pub held: Vec<HeldLease>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeldLease {
    pub job: JobId,
    pub slug: TaskSlug,
    pub epoch: u64,
}

/// Answer to a [`Heartbeat`]. `Debug` hides the grants.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeartbeatReply {
    /// Leases the session no longer has: stop at once, report nothing.
    pub lost: Vec<HeldLease>,
    /// Fresh grants for attempts that still run: `job/slug` → token.
    pub grants: BTreeMap<String, String>,
}

impl std::fmt::Debug for HeartbeatReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let renewed: Vec<_> = self.grants.keys().collect();
        f.debug_struct("HeartbeatReply").field("lost", &self.lost).field("renewed", &renewed).finish()
    }
}

/// `POST /v1/worker/sessions/{session}/watch`: answered as soon as one of `held` is lost, so that work that was cancelled
/// stops before the next heartbeat. It keeps no session alive.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Watch {
    pub held: Vec<HeldLease>,
    /// Waits up to this long; at most 20 s.
    pub wait_ms: DurationMs,
}

/// Answer to a [`Watch`].
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Watched {
    /// Leases the session no longer has: stop at once, report nothing.
    pub lost: Vec<HeldLease>,
}

/// `POST /v1/worker/leases/{job}/{slug}/{epoch}/events`: progress, numbered by the worker from 0.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProgressBatch {
    pub first: u64,
    pub lines: Vec<ProgressLine>,
}

/// Most lines in one batch, and longest text of a line in bytes.
pub const MAX_PROGRESS_LINES: usize = 256;
pub const MAX_PROGRESS_BYTES: usize = 4 * 1024;

/// One thing an attempt did. Never a secret, a hidden check's content, or a whole prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProgressLine {
    pub at: Timestamp,
    /// `model`, `tool`, `check`, `git`, `note`.
    pub kind: String,
    pub text: String,
}

/// `POST /v1/worker/leases/{job}/{slug}/{epoch}/report`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Report {
    pub attempt: AttemptId,
    pub outcome: AttemptOutcome,
    /// Layers of isolation that were enforced, as the sandbox names them.
    #[serde(default)]
    pub sandbox_layers: Vec<String>,
    /// What the attempt uploaded beside its product: logs of commands and checks. Kept as long as the job,
    /// whatever becomes of the attempt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<Digest>,
}

/// Most blobs that are kept as evidence of one attempt.
pub const MAX_EVIDENCE: usize = 256;

/// Checks whose results an outcome brings. Those of hidden checks are apart, and none of theirs is evidence.
pub fn checks_of(outcome: &AttemptOutcome) -> impl Iterator<Item = &CheckResult> {
    use crate::task::Product;
    let checks: &[CheckResult] = match outcome {
        AttemptOutcome::Succeeded { product } => match product {
            Product::Plan { result, .. } | Product::Change { result, .. } => &result.checks,
            Product::Merge { checks, .. } => checks,
            Product::Gate { facts } => &facts.acceptance,
            Product::Intake { .. } | Product::Delivery { .. } => &[],
        },
        AttemptOutcome::Failed { .. } => &[],
    };
    checks.iter()
}

/// A blob named in a report must be uploaded before it: `PUT /v1/blobs/{sha256}` with the lease's token.
pub const MAX_BLOB_BYTES: u64 = 256 * 1024 * 1024;

/// Digests that a report refers to, so that the daemon can refuse a report with missing blobs.
pub fn blobs_of(outcome: &AttemptOutcome) -> Vec<Digest> {
    use crate::task::Product;
    let product = match outcome {
        AttemptOutcome::Failed { trace, .. } => return trace.iter().cloned().collect(),
        AttemptOutcome::Succeeded { product } => product,
    };
    let mut found = Vec::new();
    match product {
        Product::Intake { base, .. } => found.push(base.bundle.clone()),
        Product::Plan { result, .. } => found.extend(result.artefacts.values().cloned()),
        Product::Change { tree, result } => {
            found.push(tree.bundle.clone());
            found.extend(result.artefacts.values().cloned());
        }
        Product::Merge { tree, .. } => found.push(tree.bundle.clone()),
        Product::Gate { facts } => found.push(facts.artefact.clone()),
        Product::Delivery { artefacts } => found.extend(artefacts.values().cloned()),
    }
    found
}

//! Bodies of the HTTP API under `/v1` that people and the CLI use.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::task::TreeRef;
use crate::wire::wire_names;
use crate::{
    AgentName, CheckResult, Decision, Digest, DurationMs, FailureKind, JobId, JobSpec, JobState, KeyId,
    LeaseKind, NanoUsd, Plan, Role, TaskSlug, TaskState, TenantId, Timestamp, Tokens, Usage,
};

/// `POST /v1/jobs` takes a [`JobSpec`] and an optional `Idempotency-Key` header; answers this.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Submitted {
    pub id: JobId,
    pub state: JobState,
}

/// A job in a list.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct JobSummary {
    pub id: JobId,
    pub title: String,
    pub tenant: TenantId,
    pub submitter: String,
    pub state: JobState,
    pub priority: i8,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// `GET /v1/jobs?state=&after=&limit=`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct JobPage {
    pub jobs: Vec<JobSummary>,
    /// Give this as `after` for the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// `GET /v1/jobs/{id}`. Hidden checks are reduced to their ids and hints.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct JobView {
    pub summary: JobSummary,
    /// The submission, without the contents of hidden checks.
    pub spec: JobSpec,
    pub version: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume_to: Option<JobState>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_digest: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<TreeRef>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalView>,
    /// What the job may spend now, as decided or as raised since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caps: Option<CapsView>,
    /// More budget that was asked for; it waits beside the state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget_request: Option<BudgetRequestView>,
    /// What was said to the running job, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<MessageView>,
    /// Tasks whose changes are in the job branch, in the order of their merges.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub integrated: Vec<TaskSlug>,
    /// How often the rest was planned anew.
    #[serde(default)]
    pub replans: u32,
    /// The first task that failed for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_cause: Option<RootCauseView>,
    pub tasks: Vec<TaskView>,
    pub gates: Vec<GateView>,
    pub spend: Spend,
    pub artefacts: BTreeMap<String, Digest>,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct TaskView {
    pub slug: TaskSlug,
    pub kind: LeaseKind,
    pub role: Role,
    /// The registered agent that does it, and its version; absent = the built-in one of the role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_digest: Option<Digest>,
    pub title: String,
    pub state: TaskState,
    pub epoch: u64,
    pub attempts: u32,
    pub depends_on: Vec<TaskSlug>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailureView>,
    #[serde(default)]
    pub summary: String,
    #[serde(default)]
    pub checks: Vec<CheckResult>,
    #[serde(default)]
    pub usage: Usage,
    /// Settled by the proxy.
    pub spend: Spend,
    /// It failed for good, and the job goes on without it.
    #[serde(default)]
    pub tolerated: bool,
    /// What keeps a ready task from being claimed, at this moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<WaitingView>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<Digest>,
    #[serde(default)]
    pub sandbox_layers: Vec<String>,
}

/// What a ready task waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WaitingView {
    pub kind: WaitingKind,
    pub detail: String,
}

wire_names!(
    /// Why a ready task is not claimed.
    WaitingKind {
        /// The wait before another attempt is not over.
        BackOff = "back_off",
        /// Another change is merged first.
        Turn = "turn",
        /// No worker of the wanted class is connected.
        Worker = "worker",
        /// No worker's sandbox is strong enough.
        Tier = "tier",
        /// No worker runs agents of this runtime.
        Runtime = "runtime",
        /// No worker carries the labels.
        Label = "label",
        /// The version of the agent that is to do it is disabled.
        Agent = "agent",
        /// A limit on leases is reached.
        Cap = "cap",
        /// The agent keeps failing and is not asked for a while.
        Breaker = "breaker",
        /// Workers could do it, and have no place free.
        Place = "place",
    }
);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FailureView {
    pub kind: FailureKind,
    pub detail: String,
}

/// Settled use of models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spend {
    pub calls: u64,
    pub input_tokens: Tokens,
    pub output_tokens: Tokens,
    pub nano_usd: NanoUsd,
}

impl Spend {
    pub fn tokens(&self) -> Tokens {
        self.input_tokens.saturating_add(self.output_tokens)
    }
    pub fn add(&mut self, other: &Spend) {
        self.calls = self.calls.saturating_add(other.calls);
        self.input_tokens = self.input_tokens.saturating_add(other.input_tokens);
        self.output_tokens = self.output_tokens.saturating_add(other.output_tokens);
        self.nano_usd = self.nano_usd.saturating_add(other.nano_usd);
    }
}

/// One output gate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GateView {
    pub gate: String,
    pub passed: bool,
    pub message: String,
}

/// What waits for approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApprovalView {
    /// `job`, `plan`, `output`, `delivery`, `budget`.
    pub subject: String,
    pub needed: u32,
    pub roles: BTreeSet<Role>,
    pub requested_at: Timestamp,
    pub expires_at: Timestamp,
    /// The vote names this version; if the job has moved on, it is refused.
    pub job_version: u64,
    /// The plan that is approved, or that the job has; a vote that names another is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_digest: Option<Digest>,
    /// The git bundle of the job branch; likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artefact: Option<Digest>,
    pub approved_by: Vec<String>,
}

/// What a job may spend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CapsView {
    pub tokens: Tokens,
    /// Absent = no cap in money.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nano_usd: Option<NanoUsd>,
}

/// More budget that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BudgetRequestView {
    pub by: String,
    /// What the job might spend in all.
    pub caps: CapsView,
    pub approval: ApprovalView,
}

/// Something said to a running job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MessageView {
    pub at: Timestamp,
    pub by: String,
    pub text: String,
    /// The agent task that was told; absent while none has begun since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given_to: Option<TaskSlug>,
}

/// The task at the root of a job's trouble.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RootCauseView {
    pub task: TaskSlug,
    pub kind: FailureKind,
    pub detail: String,
    pub attempts: u32,
}

/// `POST /v1/jobs/{id}/approve` and `/reject`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Vote {
    /// [`ApprovalView::job_version`] as the approver saw it; absent = whatever waits now.
    #[serde(default)]
    pub job_version: Option<u64>,
    /// [`ApprovalView::plan_digest`] as the approver saw it; absent = not named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_digest: Option<Digest>,
    /// [`ApprovalView::artefact`] as the approver saw it; absent = not named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artefact: Option<Digest>,
    #[serde(default)]
    pub comment: String,
}

/// `POST /v1/jobs/{id}/cancel`, `/pause`, `/resume`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Cause {
    pub cause: String,
}

/// `POST /v1/jobs/{id}/message`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Say {
    pub text: String,
}

/// `POST /v1/jobs/{id}/budget`: what the job should be allowed to spend in all. Absent = as it is.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BudgetAsk {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Tokens>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nano_usd: Option<NanoUsd>,
}

/// `POST /v1/jobs/{id}/priority`
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Priority {
    /// -100 to 100; higher runs first.
    pub priority: i8,
}

/// `POST /v1/jobs/{id}/rollback`
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RollbackTo {
    /// The last task whose change stays; absent = none stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<TaskSlug>,
}

/// `POST /v1/jobs/{id}/retry`: takes an `Idempotency-Key`, answers [`Submitted`].
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// From the job's own source and plan, without what was integrated.
    pub from_start: bool,
}

/// `POST /v1/keys`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyCreate {
    /// The identity it stands for; four eyes compares identities, not keys.
    pub identity: String,
    pub roles: BTreeSet<Role>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantId>,
    /// For the role `worker` alone: how far its daemon is trusted. Absent = `remote`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<crate::WorkerClass>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

/// The secret is shown here and never again.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct KeyCreated {
    pub key: KeyView,
    pub secret: String,
}

impl std::fmt::Debug for KeyCreated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyCreated").field("key", &self.key).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeyView {
    pub id: KeyId,
    pub identity: String,
    pub roles: BTreeSet<Role>,
    pub tenant: TenantId,
    pub created_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    pub revoked: bool,
}

/// `GET /v1/system`: for `doctor` and status.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct SystemView {
    pub version: String,
    pub jobs_by_state: BTreeMap<JobState, u64>,
    pub workers: Vec<WorkerView>,
    /// Distinct identities with a live key that may approve, and that may submit.
    pub approver_identities: u64,
    pub submitter_identities: u64,
    /// Whether some job could be approved by somebody other than its submitter.
    pub four_eyes_possible: bool,
    pub policy: Digest,
    pub proxy_reachable: bool,
    /// Accounts at model providers that the proxy has, recordings among them; absent while it does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_accounts: Option<u64>,
    /// Everything that runs by itself, and how it goes. Errors are shown to those who may see every tenant.
    #[serde(default)]
    pub reconcilers: Vec<ReconcilerView>,
    /// Agents that have failed on a worker of late, at most a thousand; of the caller's tenant, or of all for those who
    /// may see every tenant.
    #[serde(default)]
    pub breakers: Vec<BreakerView>,
}

/// An agent that has failed on a worker for a tenant, and whether it is asked there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BreakerView {
    pub worker: String,
    pub tenant: TenantId,
    /// `builtin`, `acp`, `command`, `remote`.
    pub runtime: String,
    pub agent: AgentName,
    pub state: BreakerState,
    /// While it is closed: failures in a row.
    pub failures: u32,
    /// While it is not: how often it opened since it was last closed.
    pub trips: u32,
    /// While it is open: one task goes out as a probe after so long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_for_ms: Option<DurationMs>,
}

wire_names!(
    /// Whether an agent is given work on a worker.
    BreakerState {
        /// It is, and has failed of late.
        Closed = "closed",
        /// Not for a while.
        Open = "open",
        /// One task is out to see whether it works again.
        HalfOpen = "half_open",
    }
);

/// One loop of the daemon that needs no input.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ReconcilerView {
    /// `leases`, `timers`, `jobs`, `outbox`, `usage`, `cleanup`, `blobs`.
    pub name: String,
    /// It rests this long between two rounds.
    pub every_ms: DurationMs,
    /// Rounds since the daemon started.
    pub runs: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_started: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_ended: Option<Timestamp>,
    /// Of the last round; absent when it went well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// How many things the last round did; 0 = there was nothing to do.
    pub last_did: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct WorkerView {
    pub name: String,
    pub class: crate::WorkerClass,
    pub capacity: u32,
    pub held: u32,
    pub last_heartbeat: Timestamp,
}

/// `GET {proxy}/admin/v1/usage?after=CURSOR&limit=N`: settled usage, oldest first.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UsagePage {
    /// Attempts that cost nothing are passed over, so that a page may be empty and not the last.
    pub rows: Vec<UsageRow>,
    /// Give this as `after` next time. Where it is what was asked for, nothing is left.
    pub cursor: u64,
    /// What the proxy's clock says. Grants are dated by it, since it is the proxy that lets them expire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now: Option<Timestamp>,
}

/// One upstream attempt in the proxy's ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UsageRow {
    /// Position in the ledger; rises, never reused.
    pub seq: u64,
    pub at: Timestamp,
    pub job: JobId,
    pub task: TaskSlug,
    pub epoch: u64,
    pub attempt: crate::AttemptId,
    pub account: String,
    pub model: String,
    pub input_tokens: Tokens,
    pub output_tokens: Tokens,
    pub nano_usd: NanoUsd,
    /// The provider did not say; the reservation was charged in full.
    pub estimated: bool,
}

/// `POST {proxy}/admin/v1/revocations`: grants of this task with an epoch at or below are dead at once.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Revocation {
    pub job: JobId,
    pub task: TaskSlug,
    pub epoch: u64,
}

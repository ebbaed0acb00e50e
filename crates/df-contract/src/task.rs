//! The agent contract, version 1: what an agent is given and what it gives back.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::agent::AgentOffer;
use crate::{
    AcceptanceCheck, AgentManifest, AttemptId, Digest, DurationMs, GateFacts, JobId, NanoUsd, NetworkMode,
    Plan, Revision, Role, SourceFacts, TaskSlug, Tokens,
};

/// A commit and the git bundle (in the blob store) that carries it with its whole history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TreeRef {
    pub revision: Revision,
    pub bundle: Digest,
}

/// What an agent is given.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentTask {
    pub id: TaskSlug,
    pub job: JobId,
    /// `coordinator`, `backend`, `frontend`, `devops`, `qa`.
    pub r#type: Role,
    pub title: String,
    pub instructions: String,
    pub input: TaskInput,
    /// Files that must exist afterwards.
    #[serde(default)]
    pub expected_outputs: Vec<String>,
    /// Must exit 0 before the agent may finish.
    #[serde(default)]
    pub checks: Vec<AcceptanceCheck>,
    pub constraints: TaskConstraints,
    /// The tree to start from.
    pub base: TreeRef,
    pub attempt: AttemptId,
    pub epoch: u64,
    /// Base URL of the proxy (`http://127.0.0.1:8787`), without `/v1`.
    pub model_endpoint: String,
    pub model: String,
    /// The registered agent that is to do it; absent = the built-in one of the type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Box<AgentManifest>>,
    /// Version of that agent: the worker runs nothing else under its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_digest: Option<Digest>,
    /// The grant: bearer token for the endpoint.
    pub model_token: String,
}

// It carries the grant, so `Debug` shows whose it is and no more.
impl std::fmt::Debug for AgentTask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AgentTask")
            .field("id", &self.id)
            .field("job", &self.job)
            .field("type", &self.r#type)
            .field("attempt", &self.attempt)
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}

/// What the agent may know beside its instructions.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskInput {
    pub job_title: String,
    pub job_description: String,
    /// Summaries of the tasks this one builds on.
    #[serde(default)]
    pub dependency_summaries: BTreeMap<TaskSlug, String>,
    /// Why the previous attempt failed, when there was one that failed of itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_failure: Option<String>,
    /// Acceptance checks of the whole job.
    #[serde(default)]
    pub acceptance: Vec<AcceptanceCheck>,
    /// What the people who run the job have said since it began, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<String>,
    /// Registered agents that a coordinator may plan with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub agents: Vec<AgentOffer>,
    /// A change that could not be merged, to be laid on top of the base.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conflict: Option<Conflict>,
    /// The plan before this one, when the rest is planned anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replan: Option<Replan>,
}

/// A change that does not fit the job branch. The task's base is our side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Conflict {
    /// The task whose change it is.
    pub of: TaskSlug,
    /// Their side.
    pub theirs: TreeRef,
    /// The tree that both sides began from.
    pub ancestor: TreeRef,
    /// What the merge said.
    pub detail: String,
}

/// Why the rest of a job is planned anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Replan {
    /// The failure that stopped the plan before.
    pub cause: String,
    /// What is finished and stays, with its summaries.
    pub finished: BTreeMap<TaskSlug, String>,
    /// What was not finished and is dropped, with its titles.
    pub dropped: BTreeMap<TaskSlug, String>,
}

/// Limits and rights of one attempt. Enforced by the worker, not by the prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskConstraints {
    /// Globs the agent may write. Empty = read only.
    pub paths: Vec<String>,
    /// Globs nobody may write.
    #[serde(default)]
    pub protected_paths: Vec<String>,
    pub network: NetworkMode,
    #[serde(default)]
    pub dependencies: Vec<String>,
    pub max_steps: u32,
    pub max_tokens: Tokens,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_nano_usd: Option<NanoUsd>,
    pub max_wall_ms: DurationMs,
}

/// What an agent gives back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentResult {
    pub status: AgentStatus,
    pub summary: String,
    #[serde(default)]
    pub commit_message: String,
    /// The change, on top of the base. Absent for the coordinator and on failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree: Option<TreeRef>,
    /// The plan, from a coordinator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
    #[serde(default)]
    pub checks: Vec<CheckResult>,
    pub usage: Usage,
    /// Named blobs; `trace` is the content-addressed execution trace.
    #[serde(default)]
    pub artefacts: BTreeMap<String, Digest>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "state", deny_unknown_fields)]
pub enum AgentStatus {
    Succeeded,
    Failed { kind: FailureKind, detail: String },
    NeedsInput { question: String },
}

/// Why work failed. Each kind has its own retry rule (df-control-machine).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    AgentCrash,
    ModelUnavailable,
    ModelRefused,
    /// The recorded conversation does not fit the request.
    RecordingMismatch,
    ToolFailure,
    CheckFailure,
    MergeConflict,
    DependencyRefused,
    /// The packages it needs contradict each other, or another task that it builds on did not come about.
    DependencyConflict,
    ContractBreach,
    PolicyBreach,
    /// Steps, tokens or wall time of the attempt are used up, or the agent goes round in circles.
    LimitReached,
    BudgetExhausted,
    /// The source of the job could not be read.
    SourceUnreadable,
    Infrastructure,
    LeaseExpired,
    /// No sign of progress for too long.
    Stalled,
}

impl FailureKind {
    pub const ALL: &'static [FailureKind] = &[
        FailureKind::AgentCrash,
        FailureKind::ModelUnavailable,
        FailureKind::ModelRefused,
        FailureKind::RecordingMismatch,
        FailureKind::ToolFailure,
        FailureKind::CheckFailure,
        FailureKind::MergeConflict,
        FailureKind::DependencyRefused,
        FailureKind::DependencyConflict,
        FailureKind::ContractBreach,
        FailureKind::PolicyBreach,
        FailureKind::LimitReached,
        FailureKind::BudgetExhausted,
        FailureKind::SourceUnreadable,
        FailureKind::Infrastructure,
        FailureKind::LeaseExpired,
        FailureKind::Stalled,
    ];
    /// Whether it is never tried again, whatever a job asks for: another attempt would meet the same answer.
    pub const fn is_final(self) -> bool {
        match self {
            FailureKind::PolicyBreach
            | FailureKind::BudgetExhausted
            | FailureKind::SourceUnreadable
            | FailureKind::RecordingMismatch
            | FailureKind::DependencyRefused => true,
            FailureKind::AgentCrash
            | FailureKind::ModelUnavailable
            | FailureKind::ModelRefused
            | FailureKind::ToolFailure
            | FailureKind::CheckFailure
            | FailureKind::MergeConflict
            | FailureKind::DependencyConflict
            | FailureKind::ContractBreach
            | FailureKind::LimitReached
            | FailureKind::Infrastructure
            | FailureKind::LeaseExpired
            | FailureKind::Stalled => false,
        }
    }
    pub const fn as_str(self) -> &'static str {
        match self {
            FailureKind::AgentCrash => "agent_crash",
            FailureKind::ModelUnavailable => "model_unavailable",
            FailureKind::ModelRefused => "model_refused",
            FailureKind::RecordingMismatch => "recording_mismatch",
            FailureKind::ToolFailure => "tool_failure",
            FailureKind::CheckFailure => "check_failure",
            FailureKind::MergeConflict => "merge_conflict",
            FailureKind::DependencyRefused => "dependency_refused",
            FailureKind::DependencyConflict => "dependency_conflict",
            FailureKind::ContractBreach => "contract_breach",
            FailureKind::PolicyBreach => "policy_breach",
            FailureKind::LimitReached => "limit_reached",
            FailureKind::BudgetExhausted => "budget_exhausted",
            FailureKind::SourceUnreadable => "source_unreadable",
            FailureKind::Infrastructure => "infrastructure",
            FailureKind::LeaseExpired => "lease_expired",
            FailureKind::Stalled => "stalled",
        }
    }
}

/// One check, as it ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckResult {
    pub id: String,
    pub passed: bool,
    /// Exit code; absent when it was killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    pub wall_ms: DurationMs,
    /// Last lines of the output, bounded; empty for hidden checks.
    #[serde(default)]
    pub output_tail: String,
    /// The whole output as a blob; absent for hidden checks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<Digest>,
}

/// What an attempt used, as the agent counted it. Advisory: money is counted by the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    pub model_calls: u32,
    pub tool_calls: u32,
    pub input_tokens: Tokens,
    pub output_tokens: Tokens,
    pub wall_ms: DurationMs,
}

/// How an attempt at any leased task ended, in the machine's terms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "outcome", rename_all = "snake_case", deny_unknown_fields)]
pub enum AttemptOutcome {
    Succeeded {
        product: Product,
    },
    Failed {
        kind: FailureKind,
        detail: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        trace: Option<Digest>,
    },
}

/// What a successful attempt made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "product", rename_all = "snake_case", deny_unknown_fields)]
pub enum Product {
    /// intake: facts about the source, and the base commit.
    Intake { facts: SourceFacts, base: TreeRef },
    /// agent (coordinator): a proposed plan.
    Plan { plan: Plan, result: AgentResult },
    /// agent (builder): a change on its own branch.
    Change { tree: TreeRef, result: AgentResult },
    /// integrate: the job branch after the merge, with the checks that were re-run.
    Merge { tree: TreeRef, checks: Vec<CheckResult> },
    /// validate: facts for the output gate.
    Gate { facts: GateFacts },
    /// deliver: what was delivered, by file name.
    Delivery { artefacts: BTreeMap<String, Digest> },
}

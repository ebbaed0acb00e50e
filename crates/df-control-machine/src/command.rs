//! Commands: everything that can be asked of a job, with who asks, when, and under which id.

use std::collections::{BTreeMap, BTreeSet};

use df_contract::api::{GateView, Spend};
use df_contract::decision::{ApprovalRule, Decision, Reason, Verdict};
use df_contract::{
    AssignedAgent, AttemptId, AttemptOutcome, CommandId, Digest, ErrorCode, JobId, JobSpec, Role, SessionId,
    TaskSlug, TenantId, Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::job::{IllegalJobEvent, what_to_do};
use crate::record::Caps;
use crate::task::IllegalTaskEvent;

/// Who acts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// An identity (`alice`), a plane (`governance`), or a worker session.
    pub name: String,
    pub role: Role,
}

/// A command to one job. Sent again with the same id it returns the first outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    pub id: CommandId,
    pub job: JobId,
    pub actor: Actor,
    pub at: Timestamp,
    pub body: CommandBody,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum CommandBody {
    /// Creates the job in DRAFT.
    Submit {
        tenant: TenantId,
        submitter: String,
        spec: Box<JobSpec>,
    },
    /// DRAFT → GOVERNANCE_ANALYSIS, with the intake task.
    StartAnalysis,
    /// Governance has decided on the facts.
    Decide {
        decision: Box<Decision>,
        approval_expires_at: Timestamp,
    },
    Vote {
        approve: bool,
        roles: BTreeSet<Role>,
        seen: Seen,
        comment: String,
    },
    ExpireApproval,
    /// APPROVED → TASK_PLANNING: the supplied plan is taken, or the coordinator's task is made.
    StartPlanning,
    /// Chooses registered agents for tasks that are about to be made: those of the plan that waits for its gate, by their
    /// slugs, or the coordinator's under `plan`.
    AssignAgents {
        agents: BTreeMap<TaskSlug, AssignedAgent>,
    },
    /// The plan gate has judged the proposed plan with this digest.
    JudgePlan {
        plan_digest: Digest,
        verdict: Verdict,
        reasons: Vec<Reason>,
        rule: ApprovalRule,
        approval_expires_at: Timestamp,
    },
    StartValidation,
    /// The output gate has judged the facts of the validation.
    JudgeOutput {
        verdict: Verdict,
        gates: Vec<GateView>,
        reasons: Vec<Reason>,
        rule: ApprovalRule,
        approval_expires_at: Timestamp,
    },
    /// Delivery waits for people.
    AskDelivery {
        rule: ApprovalRule,
        approval_expires_at: Timestamp,
    },
    StartDelivery,
    Complete,
    Claim {
        slug: TaskSlug,
        session: SessionId,
        attempt: AttemptId,
        deadline: Timestamp,
    },
    /// The lease ends without a report.
    Return {
        slug: TaskSlug,
        epoch: u64,
        cause: ReturnCause,
        detail: String,
    },
    Report {
        slug: TaskSlug,
        epoch: u64,
        attempt: AttemptId,
        outcome: Box<AttemptOutcome>,
        sandbox_layers: Vec<String>,
        /// Blobs that the attempt left, and that are there.
        evidence: Vec<df_contract::Digest>,
    },
    /// Usage settled by the proxy, added up per task. `through` is the ledger position it reaches.
    RecordSpend {
        slug: TaskSlug,
        spend: Spend,
        through: u64,
    },
    /// Somebody tells the running job something; the agent task that is claimed next is given it.
    Message {
        by: String,
        text: String,
    },
    /// Asks for higher caps. The state stays as it is; people vote on it beside everything else.
    RequestBudget {
        by: String,
        caps: Caps,
        rule: ApprovalRule,
        expires_at: Timestamp,
    },
    SetPriority {
        priority: i8,
    },
    /// A task failed for good: what is finished stays, the rest is planned anew.
    Replan,
    /// The job branch goes back to where it was after the merge of this task; `None` = to the base.
    Rollback {
        to: Option<TaskSlug>,
    },
    Pause {
        cause: String,
    },
    Resume,
    Cancel {
        cause: String,
    },
    Fail {
        cause: String,
    },
}

impl CommandBody {
    /// The name that audit records carry.
    pub const fn name(&self) -> &'static str {
        match self {
            CommandBody::Submit { .. } => "submit",
            CommandBody::StartAnalysis => "start_analysis",
            CommandBody::Decide { .. } => "decide",
            CommandBody::Vote { .. } => "vote",
            CommandBody::ExpireApproval => "expire_approval",
            CommandBody::StartPlanning => "start_planning",
            CommandBody::AssignAgents { .. } => "assign_agents",
            CommandBody::JudgePlan { .. } => "judge_plan",
            CommandBody::StartValidation => "start_validation",
            CommandBody::JudgeOutput { .. } => "judge_output",
            CommandBody::AskDelivery { .. } => "ask_delivery",
            CommandBody::StartDelivery => "start_delivery",
            CommandBody::Complete => "complete",
            CommandBody::Claim { .. } => "claim",
            CommandBody::Return { .. } => "return",
            CommandBody::Report { .. } => "report",
            CommandBody::RecordSpend { .. } => "record_spend",
            CommandBody::Message { .. } => "message",
            CommandBody::RequestBudget { .. } => "request_budget",
            CommandBody::SetPriority { .. } => "set_priority",
            CommandBody::Replan => "replan",
            CommandBody::Rollback { .. } => "rollback",
            CommandBody::Pause { .. } => "pause",
            CommandBody::Resume => "resume",
            CommandBody::Cancel { .. } => "cancel",
            CommandBody::Fail { .. } => "fail",
        }
    }
}

/// What a voter had before them, as far as the vote names it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Seen {
    pub job_version: Option<u64>,
    pub plan_digest: Option<Digest>,
    pub artefact: Option<Digest>,
}

/// Why a lease ended without a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReturnCause {
    /// The worker's session ended. Counts as a lost lease.
    SessionEnded,
    /// The worker handed it back in good order. Counts as nothing; from the third time in a row the task waits first.
    Drained,
    /// The version of the agent that worked on it was disabled. Counts as nothing; the task waits until it is enabled.
    AgentDisabled,
    /// The lease never reached a worker. Counts as a lost lease.
    NotMade,
    /// The attempt ran past its deadline: a failed attempt of kind `limit_reached`.
    Deadline,
    /// The attempt showed no progress: a failed attempt of kind `stalled`.
    Stalled,
}

/// Why a command was not accepted. Nothing was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    #[error("there is no such job")]
    JobUnknown,
    #[error("the job exists already")]
    JobExists,
    #[error(transparent)]
    Job(#[from] IllegalJobEvent),
    #[error(transparent)]
    Task(#[from] IllegalTaskEvent),
    #[error("`{command}` does not fit a job in {state}: {why}; {}", what_to_do(*.state))]
    NotNow { command: &'static str, state: df_contract::JobState, why: &'static str },
    #[error("the job has no task `{0}`")]
    TaskUnknown(TaskSlug),
    #[error("the lease on `{slug}` ended: it was held under epoch {held}, the task is at {current}")]
    Stale { slug: TaskSlug, held: u64, current: u64 },
    #[error("`{0}` submitted this job or asked for this; another identity must approve it")]
    FourEyes(String),
    #[error("this approval wants one of the roles {wanted}")]
    WrongRole { wanted: String },
    #[error("version {seen} was to be approved, but what waits is version {waiting}; look at the job again")]
    ApprovalStale { seen: u64, waiting: u64 },
    #[error("the vote names another {what} than the one that waits; look at the job again")]
    ApprovalOfAnother { what: &'static str },
    #[error("`{0}` has voted already")]
    VotedAlready(String),
    #[error("the report breaks its contract: {0}")]
    Contract(String),
    #[error("{0}")]
    Invalid(String),
}

impl Rejection {
    /// The stable code this travels under.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Rejection::JobUnknown => ErrorCode::JobUnknown,
            Rejection::JobExists => ErrorCode::IdempotencyConflict,
            Rejection::Job(_)
            | Rejection::Task(_)
            | Rejection::NotNow { .. }
            | Rejection::VotedAlready(_) => ErrorCode::IllegalTransition,
            Rejection::TaskUnknown(_) => ErrorCode::NotFound,
            Rejection::Stale { .. } => ErrorCode::StaleLease,
            Rejection::FourEyes(_) => ErrorCode::FourEyes,
            Rejection::WrongRole { .. } => ErrorCode::Forbidden,
            Rejection::ApprovalStale { .. } | Rejection::ApprovalOfAnother { .. } => ErrorCode::ApprovalStale,
            Rejection::Contract(_) | Rejection::Invalid(_) => ErrorCode::InvalidRequest,
        }
    }
}

//! A job as the control plane keeps it: everything a decision needs, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use df_contract::api::{FailureView, GateView, Spend};
use df_contract::decision::Decision;
use df_contract::task::{Conflict, Replan, TreeRef};
use df_contract::{
    AgentName, ApprovalRule, AssignedAgent, AttemptId, CheckResult, Digest, FailureKind, JobId, JobSpec,
    JobState, LeaseKind, NanoUsd, OnFailure, Plan, PlanTask, Role, SessionId, SourceFacts, TaskSlug,
    TaskState, TenantId, Timestamp, Tokens, Usage,
};
use serde::{Deserialize, Serialize};

use crate::job::JobStatus;
use crate::retry::{self, MAX_REPLANS, RetryRule};
use crate::task::is_ended;
use crate::tasks::Tasks;

/// One job with its tasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRecord {
    pub id: JobId,
    pub tenant: TenantId,
    /// The identity that submitted it; four eyes compares with this.
    pub submitter: String,
    pub spec: Arc<JobSpec>,
    /// As submitted, or as changed since.
    #[serde(default)]
    pub priority: i8,
    pub state: JobState,
    pub resume_to: Option<JobState>,
    /// Rises by one with every accepted command.
    pub version: u64,
    /// Why the job failed, was rejected, paused or cancelled.
    pub cause: Option<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub facts: Option<Arc<SourceFacts>>,
    pub base: Option<TreeRef>,
    /// The job branch: moves only by an accepted merge.
    pub head: Option<TreeRef>,
    pub decision: Option<Arc<Decision>>,
    pub plan: Option<Arc<Plan>>,
    pub plan_digest: Option<Digest>,
    /// A plan that waits for the plan gate.
    pub proposed_plan: Option<Arc<Plan>>,
    pub approval: Option<Approval>,
    pub gates: Vec<GateView>,
    /// Facts of the last validation, until the gate has judged them.
    pub gate_facts: Option<df_contract::GateFacts>,
    pub reworks: u32,
    pub delivery_approved: bool,
    pub spend: Spend,
    pub artefacts: BTreeMap<String, Digest>,
    /// What people have said to the running job, oldest first.
    #[serde(default)]
    pub messages: Vec<Message>,
    /// How often the rest was planned anew, and why it is just now.
    #[serde(default)]
    pub replans: u32,
    #[serde(default)]
    pub replan: Option<Replan>,
    /// Caps raised by approval; they replace those of the decision.
    #[serde(default)]
    pub raised: Option<Caps>,
    /// How often they were raised: a grant says so, or the proxy would keep to the caps it knows.
    #[serde(default)]
    pub raises: u32,
    /// More budget that was asked for and waits for people.
    #[serde(default)]
    pub budget_request: Option<BudgetRequest>,
    /// Registered agents chosen for tasks, by the slug of the plan's task; `plan` for the coordinator.
    #[serde(default, skip_serializing_if = "nobody")]
    pub assigned: Arc<BTreeMap<TaskSlug, AssignedAgent>>,
    /// The first task that failed for good, or the first that the job could not do without.
    #[serde(default)]
    pub root_cause: Option<FailureNote>,
    pub tasks: Tasks,
}

fn nobody(assigned: &BTreeMap<TaskSlug, AssignedAgent>) -> bool {
    assigned.is_empty()
}

/// The key under which the coordinator's agent is assigned.
pub const COORDINATOR_SLUG: &str = "plan";

/// Something said to a running job; it goes to the agent task that is claimed next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    pub at: Timestamp,
    pub by: String,
    pub text: String,
    /// The task it went to.
    pub given_to: Option<TaskSlug>,
}

/// Caps of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caps {
    pub tokens: Tokens,
    pub money_nano_usd: Option<NanoUsd>,
}

/// A failure for good, as it is told when the job ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureNote {
    /// The plan's task to which it is attributed: that of a merge is the task whose change was merged.
    pub task: TaskSlug,
    pub kind: FailureKind,
    pub detail: String,
    pub attempts: u32,
}

/// New caps, and who must agree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetRequest {
    pub by: String,
    pub caps: Caps,
    pub approval: Approval,
}

/// What waits for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    pub subject: ApprovalSubject,
    pub rule: ApprovalRule,
    pub requested_at: Timestamp,
    pub expires_at: Timestamp,
    /// The version of the job that is being approved.
    pub job_version: u64,
    pub plan_digest: Option<Digest>,
    pub artefact: Option<Digest>,
    pub approved_by: BTreeSet<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalSubject {
    Job,
    Plan,
    Output,
    Delivery,
    /// More budget.
    Budget,
}

impl ApprovalSubject {
    pub const fn as_str(self) -> &'static str {
        match self {
            ApprovalSubject::Job => "job",
            ApprovalSubject::Plan => "plan",
            ApprovalSubject::Output => "output",
            ApprovalSubject::Delivery => "delivery",
            ApprovalSubject::Budget => "budget",
        }
    }
}

/// One task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRecord {
    pub slug: TaskSlug,
    pub kind: LeaseKind,
    pub role: Role,
    pub title: String,
    pub state: TaskState,
    /// Fences every write: a report under an older epoch is refused.
    pub epoch: u64,
    pub depends_on: BTreeSet<TaskSlug>,
    /// The plan's task, for agent work.
    pub plan_task: Option<PlanTask>,
    /// The tree an agent starts from: the head as it was when the task became ready, so that every attempt, and
    /// every replay, sees the same files whatever is merged meanwhile.
    pub base: Option<TreeRef>,
    /// The wave of the plan it belongs to; a task waits for every earlier wave to end. 0 = none.
    #[serde(default)]
    pub wave: u32,
    /// Length of the longest chain of tasks that wait for this one, itself included.
    #[serde(default)]
    pub rank: u32,
    /// The registered agent that does it.
    #[serde(default)]
    pub agent: Option<AgentName>,
    /// A change that could not be merged, for the task that resolves it.
    #[serde(default)]
    pub conflict: Option<Conflict>,
    /// What people said that this task is told.
    #[serde(default)]
    pub messages: Vec<String>,
    /// It failed for good, and the job goes on without it.
    #[serde(default)]
    pub tolerated: bool,
    /// integrate: the task whose change is merged.
    pub merges: Option<TaskSlug>,
    /// integrate: which merge it was of those that are in the job branch, counted from 1.
    #[serde(default)]
    pub merge_number: Option<u32>,
    /// deliver: the target.
    pub target: Option<String>,
    /// Attempts that were claimed.
    pub attempts: u32,
    /// Attempts that failed of themselves; lost leases do not count.
    pub failures: Vec<FailureView>,
    /// Leases that ended without a report.
    pub lost_leases: u32,
    /// Leases handed back in good order since an attempt was last reported.
    #[serde(default)]
    pub handed_back: u32,
    pub not_before: Timestamp,
    pub session: Option<SessionId>,
    pub attempt: Option<AttemptId>,
    pub leased_at: Option<Timestamp>,
    pub deadline: Option<Timestamp>,
    pub started_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    pub output: TaskOutput,
    pub spend: Spend,
    /// How often it was undone to be done again, and what it had spent until then: each time it has its share anew.
    #[serde(default)]
    pub undone: u32,
    #[serde(default)]
    pub spent_before: Tokens,
}

/// What the accepted attempt made, in the words of the contract.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TaskOutput {
    pub tree: Option<TreeRef>,
    pub summary: String,
    pub checks: Vec<CheckResult>,
    pub usage: Usage,
    pub trace: Option<Digest>,
    pub sandbox_layers: Vec<String>,
}

impl Approval {
    /// Whether enough people agree.
    pub fn is_complete(&self) -> bool {
        self.approved_by.len() >= self.rule.count.max(1) as usize
    }
}

/// How the merges of a job stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Integration {
    /// Some are still to come.
    Open,
    /// All have ended, and something is in the job branch.
    Done,
    /// All have ended, and nothing is in the job branch.
    Empty,
}

/// The slug of the task that merges the change of a plan's task.
pub(crate) fn merge_slug(of: &TaskSlug) -> Option<TaskSlug> {
    format!("integrate.{of}").parse().ok()
}

impl JobRecord {
    pub fn status(&self) -> JobStatus {
        JobStatus { state: self.state, resume_to: self.resume_to }
    }

    /// The first task that failed for good and that the job cannot do without: the root cause of a failed job.
    pub fn failed_task(&self) -> Option<&TaskRecord> {
        self.tasks.failed().next()
    }

    /// The registered agent that is to do `task`; absent = the built-in one of its role. What resolves a conflict of a
    /// plan's task, or does it again, has the same agent.
    pub fn agent_of(&self, task: &TaskRecord) -> Option<&AssignedAgent> {
        if task.kind != LeaseKind::Agent {
            return None;
        }
        match &task.plan_task {
            Some(planned) => self.assigned.get(&planned.slug),
            None => self.assigned.iter().find(|(slug, _)| slug.as_str() == COORDINATOR_SLUG).map(|(_, a)| a),
        }
    }

    /// What the job may spend: as decided, or as raised since by approval.
    pub fn caps(&self) -> Option<Caps> {
        let decided = self.decision.as_ref().map(|d| &d.obligations);
        let decided = decided.map(|o| Caps { tokens: o.tokens, money_nano_usd: o.money_nano_usd });
        self.raised.or(decided)
    }

    /// How often and after how long work of this job is tried again that failed of `kind`.
    pub fn retry_rule(&self, kind: FailureKind) -> RetryRule {
        let granted = self.decision.as_ref().and_then(|d| d.obligations.max_attempts);
        retry::rule_for(&self.spec, granted, kind)
    }

    /// What becomes of the job when `task` fails for good: as the plan says for it, or as the job says. What is not of
    /// the plan the job cannot do without, and a job is planned anew [`MAX_REPLANS`] times at most.
    pub fn on_failure_of(&self, task: &TaskRecord) -> OnFailure {
        let wish = task.plan_task.as_ref().map(|p| p.on_failure.unwrap_or(self.spec.on_failure));
        match wish.unwrap_or_default() {
            OnFailure::Replan if self.replans >= MAX_REPLANS => OnFailure::Fail,
            wish => wish,
        }
    }

    /// The account at the proxy that all attempts at a task draw on; another one after each rollback that undid it.
    /// The job's own account bounds them together.
    pub fn task_account(&self, slug: &TaskSlug) -> String {
        match self.tasks.get(slug).map_or(0, |task| task.undone) {
            0 => format!("task:{}/{slug}", self.id),
            again => format!("task:{}/{slug}@{again}", self.id),
        }
    }

    /// The account of one attempt alone. It has the cap of its task's, and is the first that a first call is held to.
    pub fn attempt_account(attempt: AttemptId) -> String {
        format!("attempt:{attempt}")
    }

    /// The tokens that a task of the plan may use in all its attempts: its share by the plan, or an equal part of what
    /// the plan leaves. Other tasks may use what the job may. `None` before the decision.
    pub fn slice(&self, task: &TaskRecord) -> Option<Tokens> {
        let all = self.caps()?.tokens;
        let (Some(plan), Some(of)) = (&self.plan, &task.plan_task) else { return Some(all) };
        if !of.slug.is_plain() {
            return Some(all);
        }
        let named = plan.tasks.iter().filter_map(|t| t.tokens).fold(0_u64, |sum, t| sum.saturating_add(t.0));
        let others = plan.tasks.iter().filter(|t| t.tokens.is_none()).count().max(1) as u64;
        Some(of.tokens.unwrap_or(Tokens(all.0.saturating_sub(named) / others)))
    }

    /// The task that merges the change of a plan's task.
    pub fn merge_of(&self, of: &TaskSlug) -> Option<&TaskRecord> {
        merge_slug(of).and_then(|slug| self.tasks.get(&slug))
    }

    /// Whether the change of a plan's task is in the job branch.
    pub fn is_integrated(&self, of: &TaskSlug) -> bool {
        self.merge_of(of).is_some_and(|t| t.state == TaskState::Succeeded)
    }

    /// Plan tasks whose changes are in the job branch, in the order of their merges. Looks at every merge.
    pub fn merged_tasks(&self) -> Vec<&PlanTask> {
        let merges = self.tasks.of_kind(LeaseKind::Integrate);
        let mut merged: Vec<(u32, &PlanTask)> =
            merges.filter_map(|t| t.merge_number.zip(t.plan_task.as_ref())).collect();
        merged.sort_unstable_by_key(|(number, _)| *number);
        merged.into_iter().map(|(_, task)| task).collect()
    }

    /// The slugs of [`Self::merged_tasks`].
    pub fn integrated(&self) -> Vec<TaskSlug> {
        self.merged_tasks().into_iter().map(|task| task.slug.clone()).collect()
    }

    /// Whether nothing comes of `task` any more: its change will not be merged.
    pub fn is_dropped(&self, task: &TaskRecord) -> bool {
        let merge = task.plan_task.as_ref().and_then(|p| self.merge_of(&p.slug));
        merge.is_some_and(|merge| is_ended(merge.state) && merge.state != TaskState::Succeeded)
    }

    /// Tasks of the plan whose changes are not in the job branch.
    pub fn left_out(&self) -> impl Iterator<Item = &PlanTask> {
        self.plan.iter().flat_map(|p| &p.tasks).filter(|t| !self.is_integrated(&t.slug))
    }

    /// How the merges stand.
    pub fn integration(&self) -> Integration {
        let merges = &self.tasks.census().merges;
        match (merges.open > 0, merges.succeeded > 0, merges.lost > 0) {
            (true, _, _) | (false, false, false) => Integration::Open,
            (false, true, _) => Integration::Done,
            (false, false, true) => Integration::Empty,
        }
    }

    /// Whether every task of this kind has succeeded, and there is at least one.
    pub fn all_succeeded(&self, kind: LeaseKind) -> bool {
        let mut of_kind = self.tasks.of_kind(kind).peekable();
        of_kind.peek().is_some() && of_kind.all(|t| t.state == TaskState::Succeeded)
    }
}

impl TaskRecord {
    /// Whether it is what the output gate asked for, or its merge, or the resolution of a conflict of that.
    pub(crate) fn is_rework(&self) -> bool {
        self.plan_task.as_ref().is_some_and(|p| !p.slug.is_plain())
    }

    /// A new task that waits for `depends_on`, or is ready when there is nothing to wait for.
    pub fn new(
        slug: TaskSlug,
        kind: LeaseKind,
        role: Role,
        title: String,
        depends_on: BTreeSet<TaskSlug>,
    ) -> Self {
        let state = if depends_on.is_empty() { TaskState::Ready } else { TaskState::Pending };
        Self {
            slug,
            kind,
            role,
            title,
            state,
            epoch: 0,
            depends_on,
            plan_task: None,
            base: None,
            wave: 0,
            rank: 0,
            agent: None,
            conflict: None,
            messages: Vec::new(),
            tolerated: false,
            merges: None,
            merge_number: None,
            target: None,
            attempts: 0,
            failures: Vec::new(),
            lost_leases: 0,
            handed_back: 0,
            not_before: Timestamp(0),
            session: None,
            attempt: None,
            leased_at: None,
            deadline: None,
            started_at: None,
            ended_at: None,
            output: TaskOutput::default(),
            spend: Spend::default(),
            undone: 0,
            spent_before: Tokens::ZERO,
        }
    }

    /// What it has used of its share.
    pub fn tokens_of_share(&self) -> Tokens {
        self.spend.tokens().saturating_sub(self.spent_before)
    }
}

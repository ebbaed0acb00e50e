//! From a record and a command to the next record: the only place that changes a job.

mod agents;
#[cfg(test)]
mod cost;
mod failing;
mod governing;
mod planning;
mod rollback;
mod steering;
mod tasks;
mod work;

use df_contract::api::{GateView, Spend};
use df_contract::decision::{Decision, Verdict};
use df_contract::task::TreeRef;
use df_contract::{
    AssignedAgent, Digest, JobState, LeaseKind, Role, TaskSlug, TaskState, TenantId, Timestamp,
};
use serde::{Deserialize, Serialize};

pub use steering::{MAX_MESSAGE_BYTES, MAX_MESSAGES, OUT_OF_BUDGET};
pub(crate) use work::stage_of;

use crate::command::{Command, CommandBody, Rejection};
use crate::job::{self, JobEvent};
use crate::record::{ApprovalSubject, Caps, JobRecord, TaskRecord};
use crate::task::{self, TaskEvent};

/// An accepted command: the new record, what to audit, and what to do outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    pub record: JobRecord,
    /// At least one per accepted command.
    pub audit: Vec<AuditDraft>,
    pub effects: Vec<Effect>,
}

/// One thing to record. The store adds sequence, time, actor, command and the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditDraft {
    pub slug: Option<TaskSlug>,
    /// The task's epoch after the event.
    pub epoch: Option<u64>,
    pub body: AuditBody,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum AuditBody {
    Submitted {
        tenant: TenantId,
        submitter: String,
        spec: Digest,
    },
    Job {
        event: JobEvent,
        from: JobState,
        to: JobState,
        resume_to: Option<JobState>,
        cause: String,
    },
    TaskCreated {
        lease: LeaseKind,
        role: Role,
        state: TaskState,
    },
    Task {
        event: TaskEvent,
        from: TaskState,
        to: TaskState,
        cause: String,
    },
    Decided {
        decision: Box<Decision>,
    },
    PlanJudged {
        plan: Digest,
        verdict: Verdict,
        rules: Vec<String>,
    },
    ApprovalRequested {
        subject: ApprovalSubject,
        needed: u32,
        expires_at: Timestamp,
    },
    Voted {
        identity: String,
        approve: bool,
        comment: String,
    },
    PlanAccepted {
        plan: Digest,
        tasks: u32,
    },
    Produced {
        trees: Vec<TreeRef>,
        trace: Option<Digest>,
        /// Other blobs of the attempt: logs, earlier bundles.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        evidence: Vec<Digest>,
    },
    /// An attempt failed and left a trace. The record keeps only that of the last attempt.
    Traced {
        trace: Digest,
    },
    /// What else an attempt left that failed, or whose result came to nothing.
    Evidence {
        blobs: Vec<Digest>,
    },
    OutputJudged {
        verdict: Verdict,
        gates: Vec<GateView>,
        artefact: Digest,
    },
    Spent {
        spend: Spend,
        through: u64,
    },
    Delivered {
        artefacts: std::collections::BTreeMap<String, Digest>,
    },
    Message {
        by: String,
        text: Digest,
    },
    BudgetRequested {
        by: String,
        caps: Caps,
    },
    BudgetRaised {
        caps: Caps,
    },
    /// More budget was asked for and is not given.
    BudgetDenied {
        cause: String,
    },
    Replanned {
        number: u32,
        kept: Vec<TaskSlug>,
        dropped: Vec<TaskSlug>,
    },
    RolledBack {
        to: Option<TaskSlug>,
        head: TreeRef,
        undone: Vec<TaskSlug>,
    },
    PriorityChanged {
        from: i8,
        to: i8,
    },
    /// Registered agents were chosen for tasks, each at a version.
    AgentsAssigned {
        agents: std::collections::BTreeMap<TaskSlug, AssignedAgent>,
    },
}

/// Something to do outside the store after the commit; kept in the outbox until done, and safe to do twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "effect", rename_all = "snake_case")]
pub enum Effect {
    /// Grants of this task up to this epoch must stop working at the proxy.
    RevokeGrants { slug: TaskSlug, epoch: u64 },
}

/// Applies `command` to `record` (absent for a new job). Total: anything that does not fit is a [`Rejection`].
pub fn decide(record: Option<&JobRecord>, command: &Command) -> Result<Decided, Rejection> {
    if let CommandBody::Submit { tenant, submitter, spec } = &command.body {
        return match record {
            Some(_) => Err(Rejection::JobExists),
            None => governing::submit(command, tenant, submitter, spec),
        };
    }
    let record = record.ok_or(Rejection::JobUnknown)?;
    let mut draft = Draft::of(record, command.at);
    match &command.body {
        CommandBody::Submit { .. } => return Err(Rejection::JobExists),
        CommandBody::StartAnalysis => governing::start_analysis(&mut draft)?,
        CommandBody::Decide { decision, approval_expires_at } => {
            governing::decided(&mut draft, decision, *approval_expires_at)?;
        }
        CommandBody::Vote { approve, roles, seen, comment } => {
            let vote =
                governing::Vote { identity: &command.actor.name, approve: *approve, roles, seen, comment };
            governing::vote(&mut draft, &vote)?;
        }
        CommandBody::ExpireApproval => governing::expire(&mut draft)?,
        CommandBody::StartPlanning => planning::start_planning(&mut draft)?,
        CommandBody::JudgePlan { plan_digest, verdict, reasons, rule, approval_expires_at } => {
            planning::judge_plan(&mut draft, plan_digest, *verdict, reasons, rule, *approval_expires_at)?;
        }
        CommandBody::StartValidation => governing::start_validation(&mut draft)?,
        CommandBody::JudgeOutput { verdict, gates, reasons, rule, approval_expires_at } => {
            governing::judge_output(&mut draft, *verdict, gates, reasons, rule, *approval_expires_at)?;
        }
        CommandBody::AskDelivery { rule, approval_expires_at } => {
            governing::ask_delivery(&mut draft, rule, *approval_expires_at)?;
        }
        CommandBody::StartDelivery => governing::start_delivery(&mut draft)?,
        CommandBody::Complete => governing::complete(&mut draft)?,
        CommandBody::Claim { slug, session, attempt, deadline } => {
            work::claim(&mut draft, slug, *session, *attempt, *deadline)?;
        }
        CommandBody::Return { slug, epoch, cause, detail } => {
            work::give_back(&mut draft, command, slug, *epoch, *cause, detail)?;
        }
        CommandBody::Report { slug, epoch, attempt, outcome, sandbox_layers, evidence } => {
            let held = work::Held { slug, epoch: *epoch, attempt: *attempt };
            work::report(&mut draft, command, &held, outcome, sandbox_layers, evidence)?;
        }
        CommandBody::RecordSpend { slug, spend, through } => {
            work::record_spend(&mut draft, slug, spend, *through)?
        }
        CommandBody::Message { by, text } => steering::message(&mut draft, by, text)?,
        CommandBody::RequestBudget { by, caps, rule, expires_at } => {
            steering::request_budget(&mut draft, by, *caps, rule, *expires_at)?;
        }
        CommandBody::AssignAgents { agents } => agents::assign(&mut draft, agents)?,
        CommandBody::SetPriority { priority } => steering::set_priority(&mut draft, *priority)?,
        CommandBody::Replan => planning::replan(&mut draft)?,
        CommandBody::Rollback { to } => rollback::rollback(&mut draft, to.as_ref())?,
        CommandBody::Pause { cause } => governing::pause(&mut draft, cause)?,
        CommandBody::Resume => draft.job(JobEvent::Resumed, "")?,
        CommandBody::Cancel { cause } => governing::cancel(&mut draft, cause)?,
        CommandBody::Fail { cause } => governing::fail(&mut draft, cause)?,
    }
    Ok(draft.finish())
}

/// A record under change, with what has been recorded so far.
struct Draft {
    record: JobRecord,
    audit: Vec<AuditDraft>,
    effects: Vec<Effect>,
    at: Timestamp,
}

impl Draft {
    fn of(record: &JobRecord, at: Timestamp) -> Self {
        Self { record: record.clone(), audit: Vec::new(), effects: Vec::new(), at }
    }

    fn finish(mut self) -> Decided {
        self.record.version += 1;
        self.record.updated_at = self.at;
        Decided { record: self.record, audit: self.audit, effects: self.effects }
    }

    fn note(&mut self, body: AuditBody) {
        self.audit.push(AuditDraft { slug: None, epoch: None, body });
    }

    fn note_task(&mut self, slug: &TaskSlug, body: AuditBody) {
        let epoch = self.record.tasks.get(slug).map(|t| t.epoch);
        self.audit.push(AuditDraft { slug: Some(slug.clone()), epoch, body });
    }

    /// Moves the job along its life cycle.
    fn job(&mut self, event: JobEvent, cause: &str) -> Result<(), Rejection> {
        let from = self.record.state;
        let to = job::next(self.record.status(), event)?;
        self.record.state = to.state;
        self.record.resume_to = to.resume_to;
        self.record.cause = (!cause.is_empty()).then(|| cause.to_owned());
        if job::is_terminal(to.state) {
            self.record.budget_request = None;
        }
        let (to, resume_to, cause) = (to.state, to.resume_to, cause.to_owned());
        self.note(AuditBody::Job { event, from, to, resume_to, cause });
        Ok(())
    }

    fn task_ref(&self, slug: &TaskSlug) -> Result<&TaskRecord, Rejection> {
        self.record.tasks.get(slug).ok_or_else(|| Rejection::TaskUnknown(slug.clone()))
    }

    /// Moves a task along its life cycle, bumping its epoch where a lease becomes worthless.
    fn task(&mut self, slug: &TaskSlug, event: TaskEvent, cause: &str) -> Result<(), Rejection> {
        let at = self.at;
        let task = self.record.tasks.get_mut(slug).ok_or_else(|| Rejection::TaskUnknown(slug.clone()))?;
        let (from, held) = (task.state, task.epoch);
        let to = task::next(from, event)?;
        task.state = to;
        if event.bumps_epoch() {
            task.epoch += 1;
        }
        if from == TaskState::Leased {
            task.session = None;
            task.deadline = None;
        }
        task.ended_at = task::is_ended(to).then_some(at);
        if matches!(event, TaskEvent::Unblocked | TaskEvent::Reopened) {
            task.base.clone_from(&self.record.head);
        }
        // Only agents hold grants.
        if from == TaskState::Leased && task.kind == LeaseKind::Agent {
            self.effects.push(Effect::RevokeGrants { slug: slug.clone(), epoch: held });
        }
        self.note_task(slug, AuditBody::Task { event, from, to, cause: cause.to_owned() });
        Ok(())
    }

    /// Adds a task. Its slug must be new: another task under it would inherit leases, and its epoch would start anew.
    fn create(&mut self, mut task: TaskRecord) -> Result<(), Rejection> {
        if self.record.tasks.contains_key(&task.slug) {
            return Err(Rejection::Contract(format!("there is a task `{}` already", task.slug)));
        }
        if task.state == TaskState::Ready {
            task.base.clone_from(&self.record.head);
        }
        if let Some(agent) = self.record.agent_of(&task) {
            task.agent = Some(agent.name.clone());
        }
        let (slug, lease, role, state) = (task.slug.clone(), task.kind, task.role, task.state);
        self.record.tasks.insert(slug.clone(), task);
        self.note_task(&slug, AuditBody::TaskCreated { lease, role, state });
        Ok(())
    }

    fn not_now(&self, command: &'static str, why: &'static str) -> Rejection {
        Rejection::NotNow { command, state: self.record.state, why }
    }

    /// The first wave of which something has not ended; 0 when there is none.
    fn open_wave(&self) -> u32 {
        self.record.tasks.census().open_wave.unwrap_or(0)
    }

    /// Makes ready every pending task whose dependencies have all succeeded and before whose wave all has ended.
    fn unblock(&mut self) -> Result<(), Rejection> {
        let wave = self.open_wave();
        let waiting = self.record.tasks.pending(wave);
        let ready: Vec<TaskSlug> = waiting.filter(|t| self.is_free(t)).map(|t| t.slug.clone()).collect();
        ready.iter().try_for_each(|slug| self.task(slug, TaskEvent::Unblocked, ""))
    }

    /// [`Self::unblock`] after nothing but `ended` and what depends on it has ended: while the wave is still the one it
    /// was `before`, no other tasks can have become free.
    fn unblock_after(&mut self, ended: &TaskSlug, before: u32) -> Result<(), Rejection> {
        let wave = self.open_wave();
        if wave != before {
            return self.unblock();
        }
        let waiting = self.record.tasks.dependents(ended).filter(|t| t.wave <= wave && self.is_free(t));
        let ready: Vec<TaskSlug> = waiting.map(|t| t.slug.clone()).collect();
        ready.iter().try_for_each(|slug| self.task(slug, TaskEvent::Unblocked, ""))
    }

    /// Whether it waits for no other task any more, its wave apart.
    fn is_free(&self, task: &TaskRecord) -> bool {
        let done = |slug| self.record.tasks.get(slug).is_some_and(|t| t.state == TaskState::Succeeded);
        task.state == TaskState::Pending && task.depends_on.iter().all(done)
    }

    /// What people said to a task that is dropped goes to the next agent: nobody else would act on it.
    fn say_again(&mut self, slug: &TaskSlug) {
        let to_it = |m: &&mut crate::record::Message| m.given_to.as_ref() == Some(slug);
        let mut any = false;
        for message in self.record.messages.iter_mut().filter(to_it) {
            message.given_to = None;
            any = true;
        }
        if any && let Some(task) = self.record.tasks.get_mut(slug) {
            task.messages.clear();
        }
    }

    /// Ends every task that has not ended.
    fn cancel_tasks(&mut self, cause: &str) -> Result<(), Rejection> {
        let open: Vec<TaskSlug> =
            self.record.tasks.values().filter(|t| !task::is_ended(t.state)).map(|t| t.slug.clone()).collect();
        open.iter().try_for_each(|slug| self.task(slug, TaskEvent::Cancelled, cause))
    }
}

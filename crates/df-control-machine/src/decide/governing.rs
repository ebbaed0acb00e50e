//! Commands of the control plane: submission, verdicts, approvals, gates, pause and end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use df_contract::api::{GateView, Spend};
use df_contract::decision::{ApprovalRule, Decision, Reason, Verdict};
use df_contract::{Digest, JobSpec, JobState, LeaseKind, Plan, Role, TaskState, TenantId, Timestamp};

use super::{AuditBody, Decided, Draft, steering, tasks};
use crate::command::{Command, Rejection};
use crate::job::JobEvent;
use crate::record::{Approval, ApprovalSubject, JobRecord};
use crate::task::TaskEvent;
use crate::tasks::Tasks;

/// How often the output gate may send a job back to work.
pub(crate) const MAX_REWORKS: u32 = 2;

pub(super) fn submit(
    command: &Command,
    tenant: &TenantId,
    submitter: &str,
    spec: &JobSpec,
) -> Result<Decided, Rejection> {
    let digest = df_contract::digest_json(spec).map_err(|e| Rejection::Contract(e.to_string()))?;
    let record = JobRecord {
        id: command.job,
        tenant: tenant.clone(),
        submitter: submitter.to_owned(),
        spec: Arc::new(spec.clone()),
        priority: spec.priority,
        state: JobState::Draft,
        resume_to: None,
        version: 0,
        cause: None,
        created_at: command.at,
        updated_at: command.at,
        facts: None,
        base: None,
        head: None,
        decision: None,
        plan: None,
        plan_digest: None,
        proposed_plan: None,
        approval: None,
        gates: Vec::new(),
        gate_facts: None,
        reworks: 0,
        delivery_approved: false,
        spend: Spend::default(),
        artefacts: BTreeMap::new(),
        integrated: Vec::new(),
        messages: Vec::new(),
        replans: 0,
        replan: None,
        raised: None,
        budget_request: None,
        assigned: Arc::default(),
        tasks: Tasks::default(),
    };
    let mut draft = Draft::of(&record, command.at);
    draft.note(AuditBody::Submitted {
        tenant: tenant.clone(),
        submitter: submitter.to_owned(),
        spec: digest,
    });
    Ok(draft.finish())
}

pub(super) fn start_analysis(draft: &mut Draft) -> Result<(), Rejection> {
    draft.job(JobEvent::AnalysisStarted, "")?;
    let task = tasks::single("intake", LeaseKind::Intake, Role::Worker, "Read the source")?;
    draft.create(task)
}

pub(super) fn decided(
    draft: &mut Draft,
    decision: &Decision,
    expires_at: Timestamp,
) -> Result<(), Rejection> {
    if draft.record.facts.is_none() {
        return Err(draft.not_now("decide", "the facts are not in"));
    }
    draft.note(AuditBody::Decided { decision: Box::new(decision.clone()) });
    draft.record.decision = Some(Arc::new(decision.clone()));
    match decision.verdict {
        Verdict::Approved => draft.job(JobEvent::DecidedApproved, ""),
        Verdict::Rejected => {
            draft.job(JobEvent::DecidedRejected, &rules(&decision.reasons, Verdict::Rejected))
        }
        Verdict::NeedsApproval => {
            let rule = decision.obligations.approval.clone();
            let rule =
                rule.ok_or(Rejection::Contract("a verdict of NEEDS_APPROVAL names no approvers".into()))?;
            let cause = rules(&decision.reasons, Verdict::NeedsApproval);
            ask(draft, ApprovalSubject::Job, &rule, expires_at, &cause)
        }
    }
}

/// The ids of the rules that led to `verdict`, for causes.
fn rules(reasons: &[Reason], verdict: Verdict) -> String {
    let ids: BTreeSet<&str> =
        reasons.iter().filter(|r| r.verdict == verdict).map(|r| r.rule.as_str()).collect();
    ids.into_iter().collect::<Vec<_>>().join(", ")
}

fn ask(
    draft: &mut Draft,
    subject: ApprovalSubject,
    rule: &ApprovalRule,
    expires_at: Timestamp,
    cause: &str,
) -> Result<(), Rejection> {
    draft.job(JobEvent::ApprovalNeeded, cause)?;
    draft.note(AuditBody::ApprovalRequested { subject, needed: rule.count.max(1), expires_at });
    draft.record.approval = Some(Approval {
        subject,
        rule: rule.clone(),
        requested_at: draft.at,
        expires_at,
        job_version: draft.record.version + 1,
        plan_digest: draft.record.plan_digest.clone(),
        artefact: draft.record.head.as_ref().map(|h| h.bundle.clone()),
        approved_by: BTreeSet::new(),
    });
    Ok(())
}

pub(super) fn vote(
    draft: &mut Draft,
    identity: &str,
    approve: bool,
    roles: &BTreeSet<Role>,
    seen: Option<u64>,
    comment: &str,
) -> Result<(), Rejection> {
    let vote = Vote { identity, approve, roles, seen, comment };
    let Some(mut approval) = draft.record.approval.clone() else {
        return steering::vote_on_budget(draft, &vote);
    };
    vote.count(draft, &mut approval, None)?;
    if !approve {
        draft.record.approval = None;
        return draft.job(JobEvent::ApprovalDenied, &format!("rejected by {identity}"));
    }
    if !approval.is_complete() {
        draft.record.approval = Some(approval);
        return Ok(());
    }
    draft.record.approval = None;
    draft.job(JobEvent::ApprovalGranted, "")?;
    granted(draft, approval.subject)
}

/// One vote, as it was cast.
pub(super) struct Vote<'a> {
    pub(super) identity: &'a str,
    pub(super) approve: bool,
    roles: &'a BTreeSet<Role>,
    seen: Option<u64>,
    comment: &'a str,
}

impl Vote<'_> {
    /// Counts the vote for `approval`, which neither the submitter nor `asked_by` may approve.
    pub(super) fn count(
        &self,
        draft: &mut Draft,
        approval: &mut Approval,
        asked_by: Option<&str>,
    ) -> Result<(), Rejection> {
        let identity = self.identity;
        // Whoever looks for expired approvals may come after the vote.
        if approval.expires_at <= draft.at {
            return Err(draft.not_now("vote", "the approval has expired"));
        }
        if let Some(seen) = self.seen.filter(|seen| *seen != approval.job_version) {
            return Err(Rejection::ApprovalStale { seen, waiting: approval.job_version });
        }
        if self.approve && (identity == draft.record.submitter || Some(identity) == asked_by) {
            return Err(Rejection::FourEyes(identity.to_owned()));
        }
        if approval.rule.roles.is_disjoint(self.roles) {
            let wanted = approval.rule.roles.iter().map(|r| r.as_str()).collect::<Vec<_>>().join(", ");
            return Err(Rejection::WrongRole { wanted });
        }
        if self.approve && !approval.approved_by.insert(identity.to_owned()) {
            return Err(Rejection::VotedAlready(identity.to_owned()));
        }
        draft.note(AuditBody::Voted {
            identity: identity.to_owned(),
            approve: self.approve,
            comment: self.comment.to_owned(),
        });
        Ok(())
    }
}

fn granted(draft: &mut Draft, subject: ApprovalSubject) -> Result<(), Rejection> {
    match subject {
        ApprovalSubject::Job | ApprovalSubject::Output | ApprovalSubject::Budget => Ok(()),
        ApprovalSubject::Delivery => {
            draft.record.delivery_approved = true;
            Ok(())
        }
        ApprovalSubject::Plan => match draft.record.proposed_plan.take() {
            Some(plan) => accept_plan(draft, plan),
            None => Err(draft.not_now("vote", "the plan that waited is gone")),
        },
    }
}

pub(super) fn expire(draft: &mut Draft) -> Result<(), Rejection> {
    match &draft.record.approval {
        Some(approval) if approval.expires_at <= draft.at => {}
        Some(_) | None => return steering::expire_budget(draft),
    }
    draft.record.approval = None;
    draft.job(JobEvent::ApprovalExpired, "nobody approved in time")
}

pub(super) fn start_planning(draft: &mut Draft) -> Result<(), Rejection> {
    draft.job(JobEvent::PlanningStarted, "")?;
    match draft.record.spec.plan.clone().map(Arc::new) {
        Some(plan) => propose(draft, plan),
        None => {
            let task = tasks::single("plan", LeaseKind::Agent, Role::Coordinator, "Plan the work")?;
            draft.create(task)
        }
    }
}

/// Puts a plan before the plan gate.
pub(super) fn propose(draft: &mut Draft, plan: Arc<Plan>) -> Result<(), Rejection> {
    let digest = df_contract::digest_json(plan.as_ref()).map_err(|e| Rejection::Contract(e.to_string()))?;
    draft.record.plan_digest = Some(digest);
    draft.record.proposed_plan = Some(plan);
    Ok(())
}

pub(super) fn judge_plan(
    draft: &mut Draft,
    digest: &Digest,
    verdict: Verdict,
    reasons: &[Reason],
    rule: &ApprovalRule,
    expires_at: Timestamp,
) -> Result<(), Rejection> {
    if draft.record.state != JobState::TaskPlanning || draft.record.plan_digest.as_ref() != Some(digest) {
        return Err(draft.not_now("judge_plan", "this plan is not the one that waits"));
    }
    let Some(plan) = draft.record.proposed_plan.clone() else {
        return Err(draft.not_now("judge_plan", "no plan waits"));
    };
    let names = reasons.iter().map(|r| r.rule.clone()).collect();
    draft.note(AuditBody::PlanJudged { plan: digest.clone(), verdict, rules: names });
    match verdict {
        Verdict::Approved => {
            draft.record.proposed_plan = None;
            draft.job(JobEvent::PlanAccepted, "")?;
            accept_plan(draft, plan)
        }
        Verdict::NeedsApproval => {
            ask(draft, ApprovalSubject::Plan, rule, expires_at, &rules(reasons, Verdict::NeedsApproval))
        }
        Verdict::Rejected => {
            let told: Vec<&str> = reasons.iter().map(|r| r.message.as_str()).collect();
            fail(draft, &format!("the plan was refused: {}", told.join("; ")))
        }
    }
}

fn accept_plan(draft: &mut Draft, plan: Arc<Plan>) -> Result<(), Rejection> {
    let digest = draft.record.plan_digest.clone().unwrap_or_else(Digest::zero);
    draft.note(AuditBody::PlanAccepted {
        plan: digest,
        tasks: plan.tasks.len().try_into().unwrap_or(u32::MAX),
    });
    let waves =
        plan.layers().map_err(|_| Rejection::Contract("the plan goes round in a circle".to_owned()))?;
    let mut before = BTreeSet::new();
    for wave in &waves {
        let mut merges = BTreeSet::new();
        for task in plan.tasks.iter().filter(|t| wave.contains(&t.slug)) {
            let (work, merge) = tasks::of_plan(task, before.clone())?;
            merges.insert(merge.slug.clone());
            draft.create(work)?;
            draft.create(merge)?;
        }
        before.append(&mut merges);
    }
    draft.record.plan = Some(plan);
    Ok(())
}

pub(super) fn start_validation(draft: &mut Draft) -> Result<(), Rejection> {
    if !draft.record.all_succeeded(LeaseKind::Integrate) {
        return Err(draft.not_now("start_validation", "not every change is merged"));
    }
    draft.job(JobEvent::ValidationStarted, "")?;
    let slug = format!("validate.{}", draft.record.reworks + 1);
    let task = tasks::single(&slug, LeaseKind::Validate, Role::Worker, "Validate the result")?;
    draft.create(task)
}

pub(super) fn judge_output(
    draft: &mut Draft,
    verdict: Verdict,
    gates: &[GateView],
    reasons: &[Reason],
    rule: &ApprovalRule,
    expires_at: Timestamp,
) -> Result<(), Rejection> {
    let Some(facts) = draft.record.gate_facts.take() else {
        return Err(draft.not_now("judge_output", "the facts of the validation are not in"));
    };
    draft.record.gates = gates.to_vec();
    draft.note(AuditBody::OutputJudged { verdict, gates: gates.to_vec(), artefact: facts.artefact });
    match verdict {
        Verdict::Approved => draft.job(JobEvent::GatePassed, ""),
        Verdict::NeedsApproval => {
            ask(draft, ApprovalSubject::Output, rule, expires_at, &rules(reasons, Verdict::NeedsApproval))
        }
        Verdict::Rejected => rework(draft, gates),
    }
}

fn rework(draft: &mut Draft, gates: &[GateView]) -> Result<(), Rejection> {
    let found: Vec<String> =
        gates.iter().filter(|g| !g.passed).map(|g| format!("{}: {}", g.gate, g.message)).collect();
    let found = found.join("\n");
    let Some(plan) = draft.record.plan.clone().filter(|_| draft.record.reworks < MAX_REWORKS) else {
        return fail(draft, &format!("the output gate refused the result:\n{found}"));
    };
    draft.record.reworks += 1;
    draft.job(JobEvent::GateRefused, &found)?;
    let task = tasks::rework(draft.record.reworks, &plan, &draft.record.spec, &found)?;
    let (work, merge) = tasks::of_plan(&task, BTreeSet::new())?;
    draft.create(work)?;
    draft.create(merge)
}

pub(super) fn ask_delivery(
    draft: &mut Draft,
    rule: &ApprovalRule,
    expires_at: Timestamp,
) -> Result<(), Rejection> {
    if draft.record.state != JobState::Deployable || draft.record.delivery_approved {
        return Err(draft.not_now("ask_delivery", "delivery does not wait for approval"));
    }
    ask(draft, ApprovalSubject::Delivery, rule, expires_at, "delivery needs approval")
}

pub(super) fn start_delivery(draft: &mut Draft) -> Result<(), Rejection> {
    let begun = draft.record.tasks.values().any(|t| t.kind == LeaseKind::Deliver);
    let waits = draft.record.decision.as_ref().is_some_and(|d| d.obligations.approve_delivery)
        && !draft.record.delivery_approved;
    if draft.record.state != JobState::Deployable || begun || waits {
        return Err(draft.not_now("start_delivery", "delivery cannot begin"));
    }
    let mut targets: BTreeSet<String> = draft.record.spec.delivery.iter().cloned().collect();
    targets.insert("bundle".to_owned());
    for target in targets {
        let mut task = tasks::single(
            &format!("deliver.{target}"),
            LeaseKind::Deliver,
            Role::Deployer,
            "Deliver the result",
        )?;
        task.target = Some(target);
        draft.create(task)?;
    }
    Ok(())
}

pub(super) fn complete(draft: &mut Draft) -> Result<(), Rejection> {
    if !draft.record.all_succeeded(LeaseKind::Deliver) {
        return Err(draft.not_now("complete", "not everything is delivered"));
    }
    let artefacts = draft.record.artefacts.clone();
    draft.note(AuditBody::Delivered { artefacts });
    draft.job(JobEvent::Delivered, "")
}

/// Pauses: running attempts are taken back, so that money stops at once.
pub(super) fn pause(draft: &mut Draft, cause: &str) -> Result<(), Rejection> {
    draft.job(JobEvent::Paused, cause)?;
    let leased: Vec<_> = draft
        .record
        .tasks
        .values()
        .filter(|t| t.state == TaskState::Leased)
        .map(|t| t.slug.clone())
        .collect();
    leased.iter().try_for_each(|slug| draft.task(slug, TaskEvent::Returned, cause))
}

pub(super) fn cancel(draft: &mut Draft, cause: &str) -> Result<(), Rejection> {
    draft.job(JobEvent::Cancelled, cause)?;
    draft.record.approval = None;
    draft.cancel_tasks(cause)
}

pub(super) fn fail(draft: &mut Draft, cause: &str) -> Result<(), Rejection> {
    draft.job(JobEvent::Failed, cause)?;
    draft.cancel_tasks("the job failed")
}

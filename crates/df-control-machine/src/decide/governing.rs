//! Commands of the control plane: submission, verdicts, approvals, gates, pause and end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use df_contract::api::{GateView, Spend};
use df_contract::decision::{ApprovalRule, Decision, Reason, Verdict};
use df_contract::{Digest, JobSpec, JobState, LeaseKind, Role, TaskState, TenantId, Timestamp};

use super::{AuditBody, Decided, Draft, planning, steering, tasks};
use crate::command::{Command, Rejection, Seen};
use crate::job::JobEvent;
use crate::record::{Approval, ApprovalSubject, Integration, JobRecord, TaskRecord};
use crate::task::TaskEvent;
use crate::tasks::Tasks;

/// How often the output gate may send a job back to work.
pub(crate) const MAX_REWORKS: usize = 2;

/// Why tasks that were open when a job was rejected are.
const REJECTED: &str = "the job was rejected";

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
        messages: Vec::new(),
        replans: 0,
        replan: None,
        raised: None,
        raises: 0,
        budget_request: None,
        assigned: Arc::default(),
        root_cause: None,
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
            draft.job(JobEvent::DecidedRejected, &rules(&decision.reasons, Verdict::Rejected))?;
            draft.cancel_tasks(REJECTED)
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
pub(super) fn rules(reasons: &[Reason], verdict: Verdict) -> String {
    let ids: BTreeSet<&str> =
        reasons.iter().filter(|r| r.verdict == verdict).map(|r| r.rule.as_str()).collect();
    ids.into_iter().collect::<Vec<_>>().join(", ")
}

pub(super) fn ask(
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

pub(super) fn vote(draft: &mut Draft, vote: &Vote<'_>) -> Result<(), Rejection> {
    let (identity, approve) = (vote.identity, vote.approve);
    let Some(mut approval) = draft.record.approval.clone() else {
        return steering::vote_on_budget(draft, vote);
    };
    vote.count(draft, &mut approval, None)?;
    if !approve {
        draft.record.approval = None;
        draft.job(JobEvent::ApprovalDenied, &format!("rejected by {identity}"))?;
        return draft.cancel_tasks(REJECTED);
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
    pub(super) roles: &'a BTreeSet<Role>,
    pub(super) seen: &'a Seen,
    pub(super) comment: &'a str,
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
        if let Some(seen) = self.seen.job_version.filter(|seen| *seen != approval.job_version) {
            return Err(Rejection::ApprovalStale { seen, waiting: approval.job_version });
        }
        // What waits was asked for over this plan: one that came since was before nobody.
        let named = |seen: &Option<Digest>, waits: &Option<Digest>| seen.is_none() || seen == waits;
        let of_now = approval.plan_digest.is_none() || approval.plan_digest == draft.record.plan_digest;
        if !of_now || !named(&self.seen.plan_digest, &approval.plan_digest) {
            return Err(Rejection::ApprovalOfAnother { what: "plan" });
        }
        if !named(&self.seen.artefact, &approval.artefact) {
            return Err(Rejection::ApprovalOfAnother { what: "artefact" });
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
            Some(plan) => planning::accept_plan(draft, plan),
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
    draft.job(JobEvent::ApprovalExpired, "nobody approved in time")?;
    draft.cancel_tasks(REJECTED)
}

pub(super) fn start_validation(draft: &mut Draft) -> Result<(), Rejection> {
    if draft.record.integration() != Integration::Done {
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

/// How often the gate sent the job back. What a rollback dropped was asked for in vain, and counts for nothing.
fn reworks_kept(record: &JobRecord) -> usize {
    let kept = |t: &&TaskRecord| {
        t.kind == LeaseKind::Agent && t.is_rework() && t.conflict.is_none() && t.state != TaskState::Cancelled
    };
    record.tasks.values().filter(kept).count()
}

fn rework(draft: &mut Draft, gates: &[GateView]) -> Result<(), Rejection> {
    let found: Vec<String> =
        gates.iter().filter(|g| !g.passed).map(|g| format!("{}: {}", g.gate, g.message)).collect();
    let found = found.join("\n");
    let Some(plan) = draft.record.plan.clone().filter(|_| reworks_kept(&draft.record) < MAX_REWORKS) else {
        return fail(draft, &format!("the output gate refused the result:\n{found}"));
    };
    draft.record.reworks += 1;
    draft.job(JobEvent::GateRefused, &found)?;
    let task = tasks::rework(draft.record.reworks, &plan, &draft.record.spec, &found)?;
    let (mut work, mut merge) = tasks::of_plan(&task)?;
    let wave = draft.record.tasks.census().last_wave.saturating_add(1);
    (work.wave, merge.wave) = (wave, wave);
    (work.rank, merge.rank) = (2, 1);
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
    let begun = draft.record.tasks.census().has(LeaseKind::Deliver);
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
    let left_out: Vec<String> = draft.record.left_out().map(|t| format!("`{}`", t.slug)).collect();
    let cause = if left_out.is_empty() { String::new() } else { format!("without {}", left_out.join(", ")) };
    draft.job(JobEvent::Delivered, &cause)
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

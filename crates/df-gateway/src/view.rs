//! From the record to what people see. The one place that decides what of a job leaves the daemon.

use std::collections::BTreeSet;

use df_contract::api::{
    ApprovalView, BudgetRequestView, CapsView, JobSummary, JobView, MessageView, RootCauseView, TaskView,
};
use df_contract::{Digest, HiddenCheck, JobSpec, TaskSlug};
use df_control_machine::{Approval, BudgetRequest, Caps, FailureNote, JobRecord, Message, TaskRecord};

/// A job as the API shows it: hidden checks are their ids and public hints, nothing else.
pub fn job_view(record: &JobRecord) -> JobView {
    JobView {
        summary: summary(record),
        spec: shown_spec(&record.spec),
        version: record.version,
        resume_to: record.resume_to,
        cause: record.cause.clone(),
        decision: record.decision.as_deref().cloned(),
        // Before the plan gate has spoken, the proposed plan is what an approver must see.
        plan: record.proposed_plan.as_deref().or(record.plan.as_deref()).cloned(),
        plan_digest: record.plan_digest.clone(),
        head: record.head.clone(),
        approval: record.approval.as_ref().map(approval_view),
        caps: record.caps().map(caps_view),
        budget_request: record.budget_request.as_ref().map(budget_view),
        messages: record.messages.iter().map(message_view).collect(),
        integrated: record.integrated(),
        replans: record.replans,
        root_cause: record.root_cause.as_ref().map(cause_view),
        tasks: record.tasks.values().map(|task| task_view(record, task)).collect(),
        gates: record.gates.clone(),
        spend: record.spend,
        artefacts: shown_artefacts(record).map(|(name, digest)| (name.clone(), digest.clone())).collect(),
    }
}

fn summary(record: &JobRecord) -> JobSummary {
    JobSummary {
        id: record.id,
        title: record.spec.title.clone(),
        tenant: record.tenant.clone(),
        submitter: record.submitter.clone(),
        state: record.state,
        priority: record.priority,
        created_at: record.created_at,
        updated_at: record.updated_at,
    }
}

fn shown_spec(spec: &JobSpec) -> JobSpec {
    JobSpec { hidden_checks: spec.hidden_checks.iter().map(shown_check).collect(), ..spec.clone() }
}

fn shown_check(check: &HiddenCheck) -> HiddenCheck {
    HiddenCheck {
        id: check.id.clone(),
        public_hint: check.public_hint.clone(),
        blob: None,
        path: None,
        command: String::new(),
        timeout_ms: check.timeout_ms,
    }
}

fn approval_view(approval: &Approval) -> ApprovalView {
    ApprovalView {
        subject: approval.subject.as_str().to_owned(),
        needed: approval.rule.count,
        roles: approval.rule.roles.clone(),
        requested_at: approval.requested_at,
        expires_at: approval.expires_at,
        job_version: approval.job_version,
        plan_digest: approval.plan_digest.clone(),
        artefact: approval.artefact.clone(),
        approved_by: approval.approved_by.iter().cloned().collect(),
    }
}

fn caps_view(caps: Caps) -> CapsView {
    CapsView { tokens: caps.tokens, nano_usd: caps.money_nano_usd }
}

fn budget_view(request: &BudgetRequest) -> BudgetRequestView {
    let BudgetRequest { by, caps, approval } = request;
    BudgetRequestView { by: by.clone(), caps: caps_view(*caps), approval: approval_view(approval) }
}

fn message_view(message: &Message) -> MessageView {
    let Message { at, by, text, given_to } = message.clone();
    MessageView { at, by, text, given_to }
}

fn cause_view(note: &FailureNote) -> RootCauseView {
    let FailureNote { task, kind, detail, attempts } = note.clone();
    RootCauseView { task, kind, detail, attempts }
}

fn task_view(record: &JobRecord, task: &TaskRecord) -> TaskView {
    let agent = record.agent_of(task);
    TaskView {
        slug: task.slug.clone(),
        kind: task.kind,
        role: task.role,
        agent: agent.map(|agent| agent.name.clone()),
        agent_digest: agent.map(|agent| agent.digest.clone()),
        title: task.title.clone(),
        state: task.state,
        epoch: task.epoch,
        attempts: task.attempts,
        depends_on: task.depends_on.iter().cloned().collect::<Vec<TaskSlug>>(),
        started_at: task.started_at,
        ended_at: task.ended_at,
        failure: task.failures.last().cloned(),
        summary: task.output.summary.clone(),
        checks: task.output.checks.clone(),
        usage: task.output.usage,
        spend: task.spend,
        tolerated: task.tolerated,
        // What it waits for is not the record's to say.
        waiting_for: None,
        trace: task.output.trace.clone(),
        sandbox_layers: task.output.sandbox_layers.clone(),
    }
}

fn hidden_blobs(record: &JobRecord) -> BTreeSet<&Digest> {
    record.spec.hidden_checks.iter().filter_map(|check| check.blob.as_ref()).collect()
}

/// Whether a blob is that of a hidden check.
pub(crate) fn is_hidden(record: &JobRecord, digest: &Digest) -> bool {
    hidden_blobs(record).contains(digest)
}

/// Artefacts without any that is a hidden check under another name.
pub(crate) fn shown_artefacts(record: &JobRecord) -> impl Iterator<Item = (&String, &Digest)> {
    let hidden = hidden_blobs(record);
    record.artefacts.iter().filter(move |(_, digest)| !hidden.contains(digest))
}

/// Blobs of a job that may be read through the API: artefacts, traces, logs of visible checks. What a worker reports
/// is not trusted to leave out the hidden ones, so they are taken out here.
pub fn shown_blobs(record: &JobRecord) -> BTreeSet<Digest> {
    let hidden_ids: BTreeSet<&str> =
        record.spec.hidden_checks.iter().map(|check| check.id.as_str()).collect();
    let of_task = |task: &TaskRecord| -> Vec<Digest> {
        let visible = task.output.checks.iter().filter(|check| !hidden_ids.contains(check.id.as_str()));
        let logs = visible.filter_map(|check| check.log.clone());
        logs.chain(task.output.trace.clone()).collect()
    };
    let hidden = hidden_blobs(record);
    let all = record.artefacts.values().cloned().chain(record.tasks.values().flat_map(of_task));
    all.filter(|digest| !hidden.contains(digest)).collect()
}

#[cfg(test)]
mod tests;

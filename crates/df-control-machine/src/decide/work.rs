//! Commands of the execution plane: claim, give back, report, spend.

use std::sync::Arc;

use df_contract::api::Spend;
use df_contract::lease::{MAX_EVIDENCE, checks_of};
use df_contract::task::{AgentStatus, Product};
use df_contract::{
    AttemptId, AttemptOutcome, CheckResult, Digest, FailureKind, JobState, LeaseKind, Role, SessionId,
    TaskSlug, TaskState, Timestamp,
};

use super::{AuditBody, Draft, failing, planning};
use crate::command::{Command, Rejection, ReturnCause};
use crate::retry;
use crate::task::TaskEvent;

/// Most bytes kept of a text that a worker reports. The whole is in the attempt's trace.
const MAX_TEXT_BYTES: usize = 16 * 1024;
/// Most results of checks, and most names of layers, kept of one report.
const MAX_REPORTED: usize = 256;

/// The beginning of a reported text: it goes into records, events and briefs, whatever the worker sends.
fn clipped(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_TEXT_BYTES)].to_owned()
}

fn clipped_checks(checks: &[CheckResult]) -> Vec<CheckResult> {
    let clip = |c: &CheckResult| CheckResult {
        id: clipped(&c.id),
        output_tail: clipped(&c.output_tail),
        ..c.clone()
    };
    checks.iter().take(MAX_REPORTED).map(clip).collect()
}

/// The state in which a job's tasks of a kind may be worked on.
pub(crate) fn stage_of(kind: LeaseKind, role: Role) -> JobState {
    match kind {
        LeaseKind::Intake => JobState::GovernanceAnalysis,
        LeaseKind::Agent if role == Role::Coordinator => JobState::TaskPlanning,
        LeaseKind::Agent | LeaseKind::Integrate => JobState::InProgress,
        LeaseKind::Validate => JobState::Validating,
        LeaseKind::Deliver => JobState::Deployable,
    }
}

pub(super) fn claim(
    draft: &mut Draft,
    slug: &TaskSlug,
    session: SessionId,
    attempt: AttemptId,
    deadline: Timestamp,
) -> Result<(), Rejection> {
    let (task, at) = (draft.task_ref(slug)?, draft.at);
    if draft.record.state != stage_of(task.kind, task.role) {
        return Err(draft.not_now("claim", "its stage is not on"));
    }
    if !retry::is_due(task.not_before, at) {
        return Err(draft.not_now("claim", "the task waits before its next attempt"));
    }
    if task.kind == LeaseKind::Integrate && draft.record.tasks.census().merges.leased > 0 {
        return Err(draft.not_now("claim", "another change is being merged"));
    }
    let hears = task.kind == LeaseKind::Agent;
    draft.task(slug, TaskEvent::Claimed, "")?;
    let record = &mut draft.record;
    if let Some(task) = record.tasks.get_mut(slug) {
        for message in record.messages.iter_mut().filter(|m| hears && m.given_to.is_none()) {
            message.given_to = Some(slug.clone());
            task.messages.push(message.text.clone());
        }
        task.attempts += 1;
        task.session = Some(session);
        task.attempt = Some(attempt);
        task.leased_at = Some(at);
        task.deadline = Some(deadline);
        task.started_at.get_or_insert(at);
    }
    Ok(())
}

/// Refuses anything that does not come from the present holder of the lease.
fn fence(draft: &Draft, slug: &TaskSlug, held: u64) -> Result<(), Rejection> {
    let task = draft.task_ref(slug)?;
    if task.state == TaskState::Leased && task.epoch == held {
        return Ok(());
    }
    Err(Rejection::Stale { slug: slug.clone(), held, current: task.epoch })
}

pub(super) fn give_back(
    draft: &mut Draft,
    command: &Command,
    slug: &TaskSlug,
    epoch: u64,
    cause: ReturnCause,
    detail: &str,
) -> Result<(), Rejection> {
    fence(draft, slug, epoch)?;
    match cause {
        ReturnCause::SessionEnded | ReturnCause::NotMade => failing::lost(draft, slug, detail),
        ReturnCause::Drained => failing::handed_back(draft, slug, detail),
        ReturnCause::AgentDisabled => draft.task(slug, TaskEvent::Returned, detail),
        ReturnCause::Deadline => {
            failing::failed(draft, slug, FailureKind::LimitReached, detail, seed_of(command))
        }
        ReturnCause::Stalled => failing::failed(draft, slug, FailureKind::Stalled, detail, seed_of(command)),
    }
}

/// The seed of the jitter: the command's own randomness.
fn seed_of(command: &Command) -> u64 {
    u64::from_be_bytes(command.id.uuid().as_bytes()[8..].try_into().unwrap_or_default())
}

/// What a report says it holds.
pub(super) struct Held<'a> {
    pub(super) slug: &'a TaskSlug,
    pub(super) epoch: u64,
    pub(super) attempt: AttemptId,
}

pub(super) fn report(
    draft: &mut Draft,
    command: &Command,
    held: &Held<'_>,
    outcome: &AttemptOutcome,
    layers: &[String],
    evidence: &[Digest],
) -> Result<(), Rejection> {
    let Held { slug, epoch, attempt } = *held;
    fence(draft, slug, epoch)?;
    let evidence = &shown(&draft.record, outcome, evidence);
    if draft.task_ref(slug)?.attempt != Some(attempt) {
        return Err(Rejection::Stale { slug: slug.clone(), held: epoch, current: epoch });
    }
    if let Some(task) = draft.record.tasks.get_mut(slug) {
        task.handed_back = 0;
        task.output.sandbox_layers = layers.iter().take(MAX_REPORTED).map(|l| clipped(l)).collect();
    }
    match outcome {
        AttemptOutcome::Succeeded { product } => match breach(draft, draft.task_ref(slug)?, product) {
            Some(breach) => {
                failing::failed(draft, slug, FailureKind::ContractBreach, &breach, 0)?;
                note_left(draft, slug, trace_of(product), evidence);
                Ok(())
            }
            None => succeed(draft, slug, product, evidence),
        },
        AttemptOutcome::Failed { kind, detail, trace } => {
            if let Some(task) = draft.record.tasks.get_mut(slug) {
                task.output.trace.clone_from(trace);
            }
            failing::failed(draft, slug, *kind, &clipped(detail), seed_of(command))?;
            note_left(draft, slug, trace.as_ref(), evidence);
            Ok(())
        }
    }
}

/// Evidence without what a worker says hidden checks printed, and no more than is kept.
fn shown(record: &crate::JobRecord, outcome: &AttemptOutcome, evidence: &[Digest]) -> Vec<Digest> {
    let hidden: Vec<&str> = record.spec.hidden_checks.iter().map(|check| check.id.as_str()).collect();
    let of_hidden: Vec<&Digest> = checks_of(outcome)
        .filter(|check| hidden.contains(&check.id.as_str()))
        .filter_map(|check| check.log.as_ref())
        .collect();
    evidence.iter().filter(|blob| !of_hidden.contains(blob)).take(MAX_EVIDENCE).cloned().collect()
}

/// What an attempt that failed left stays the evidence of it, whatever later attempts leave.
fn note_left(draft: &mut Draft, slug: &TaskSlug, trace: Option<&Digest>, evidence: &[Digest]) {
    let of_agent = draft.record.tasks.get(slug).is_some_and(|task| task.kind == LeaseKind::Agent);
    if let Some(trace) = trace.filter(|_| of_agent) {
        draft.note_task(slug, AuditBody::Traced { trace: trace.clone() });
    }
    let blobs: Vec<Digest> = evidence.iter().filter(|blob| Some(*blob) != trace).cloned().collect();
    if !blobs.is_empty() {
        draft.note_task(slug, AuditBody::Evidence { blobs });
    }
}

fn trace_of(product: &Product) -> Option<&Digest> {
    match product {
        Product::Plan { result, .. } | Product::Change { result, .. } => result.artefacts.get("trace"),
        Product::Intake { .. } | Product::Merge { .. } | Product::Gate { .. } | Product::Delivery { .. } => {
            None
        }
    }
}

/// What is wrong with a product as such: a result that breaks its contract is a failed attempt, with the reason.
fn breach(draft: &Draft, task: &crate::TaskRecord, product: &Product) -> Option<String> {
    let coordinates = task.role == Role::Coordinator;
    let (fits, result) = match product {
        Product::Intake { .. } => (task.kind == LeaseKind::Intake, None),
        Product::Plan { result, .. } => (task.kind == LeaseKind::Agent && coordinates, Some(result)),
        Product::Change { result, .. } => (task.kind == LeaseKind::Agent && !coordinates, Some(result)),
        Product::Merge { .. } => (task.kind == LeaseKind::Integrate, None),
        Product::Gate { .. } => (task.kind == LeaseKind::Validate, None),
        Product::Delivery { .. } => (task.kind == LeaseKind::Deliver, None),
    };
    if !fits {
        return Some(format!("a lease of kind {} does not make this product", task.kind.as_str()));
    }
    match result.map(|r| &r.status)? {
        AgentStatus::Succeeded => {}
        AgentStatus::Failed { kind, detail } => {
            return Some(clipped(&format!("a success whose result says {}: {detail}", kind.as_str())));
        }
        AgentStatus::NeedsInput { question } => {
            return Some(clipped(&format!("the agent asks, and nobody can answer: {question}")));
        }
    }
    let Product::Plan { plan, .. } = product else { return None };
    // Else an agent could let its job go on without the task that it cannot do.
    if let Some(task) = plan.tasks.iter().find(|t| t.on_failure.is_some() || t.nano_usd.is_some()) {
        return Some(format!("task `{}` sets `on_failure` or `nano_usd`, which only people may", task.slug));
    }
    let why = planning::whole_plan(&draft.record, plan).err()?;
    Some(clipped(&format!("the plan is not valid: {why}")))
}

fn succeed(
    draft: &mut Draft,
    slug: &TaskSlug,
    product: &Product,
    evidence: &[Digest],
) -> Result<(), Rejection> {
    let task = draft.task_ref(slug)?;
    let (kind, role) = (task.kind, task.role);
    let (mut trees, mut trace) = (Vec::new(), None);
    let wave = draft.open_wave();
    match (kind, product) {
        (LeaseKind::Intake, Product::Intake { facts, base }) => {
            draft.record.facts = Some(Arc::new(facts.clone()));
            draft.record.base = Some(base.clone());
            draft.record.head = Some(base.clone());
            trees.push(base.clone());
        }
        (LeaseKind::Agent, Product::Plan { plan, result }) if role == Role::Coordinator => {
            trace = note_result(draft, slug, result);
            let whole = planning::whole_plan(&draft.record, plan).map_err(Rejection::Contract)?;
            planning::propose(draft, Arc::new(whole))?;
        }
        (LeaseKind::Agent, Product::Change { tree, result }) if role != Role::Coordinator => {
            trace = note_result(draft, slug, result);
            note_tree(draft, slug, tree);
            trees.push(tree.clone());
        }
        (LeaseKind::Integrate, Product::Merge { tree, checks }) => {
            draft.record.head = Some(tree.clone());
            note_tree(draft, slug, tree);
            let before = draft.record.tasks.census().merges.succeeded;
            if let Some(task) = draft.record.tasks.get_mut(slug) {
                task.output.checks = clipped_checks(checks);
                task.merge_number = Some(before + 1);
            }
            trees.push(tree.clone());
        }
        (LeaseKind::Validate, Product::Gate { facts }) => draft.record.gate_facts = Some(facts.clone()),
        (LeaseKind::Deliver, Product::Delivery { artefacts }) => {
            draft.record.artefacts.extend(artefacts.clone());
        }
        (
            LeaseKind::Intake
            | LeaseKind::Agent
            | LeaseKind::Integrate
            | LeaseKind::Validate
            | LeaseKind::Deliver,
            _,
        ) => {
            return Err(Rejection::Contract(format!(
                "a lease of kind {} does not make this product",
                kind.as_str()
            )));
        }
    }
    draft.task(slug, TaskEvent::Succeeded, "")?;
    let known =
        |blob: &&Digest| trace.as_ref() == Some(*blob) || trees.iter().any(|tree| tree.bundle == **blob);
    let evidence = evidence.iter().filter(|blob| !known(blob)).cloned().collect();
    draft.note_task(slug, AuditBody::Produced { trees, trace, evidence });
    draft.unblock_after(slug, wave)
}

fn note_result(
    draft: &mut Draft,
    slug: &TaskSlug,
    result: &df_contract::AgentResult,
) -> Option<df_contract::Digest> {
    let trace = result.artefacts.get("trace").cloned();
    if let Some(task) = draft.record.tasks.get_mut(slug) {
        task.output.summary = clipped(&result.summary);
        task.output.checks = clipped_checks(&result.checks);
        task.output.usage = result.usage;
        task.output.trace.clone_from(&trace);
    }
    trace
}

fn note_tree(draft: &mut Draft, slug: &TaskSlug, tree: &df_contract::task::TreeRef) {
    if let Some(task) = draft.record.tasks.get_mut(slug) {
        task.output.tree = Some(tree.clone());
    }
}

pub(super) fn record_spend(
    draft: &mut Draft,
    slug: &TaskSlug,
    spend: &Spend,
    through: u64,
) -> Result<(), Rejection> {
    let task = draft.record.tasks.get_mut(slug).ok_or_else(|| Rejection::TaskUnknown(slug.clone()))?;
    task.spend.add(spend);
    draft.record.spend.add(spend);
    draft.note_task(slug, AuditBody::Spent { spend: *spend, through });
    Ok(())
}

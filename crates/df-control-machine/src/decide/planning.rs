//! From a plan to tasks, and from a plan that came to a stop to the next one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use df_contract::decision::{ApprovalRule, Reason, Verdict};
use df_contract::plan::graph::Graph;
use df_contract::task::Replan;
use df_contract::{
    Digest, JobState, LeaseKind, Plan, PlanError, PlanLimits, PlanTask, Role, TaskSlug, Timestamp,
};

use super::{AuditBody, Draft, failing, governing, tasks};
use crate::command::Rejection;
use crate::job::JobEvent;
use crate::record::{ApprovalSubject, BudgetRequest, JobRecord};
use crate::step::{Step, next_step};

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
    let over_another =
        |request: &BudgetRequest| request.approval.plan_digest.as_ref().is_some_and(|d| *d != digest);
    if draft.record.budget_request.as_ref().is_some_and(over_another) {
        draft.record.budget_request = None;
        let cause = "the rest was planned anew; ask again over the new plan".to_owned();
        draft.note(AuditBody::BudgetDenied { cause });
    }
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
            let cause = governing::rules(reasons, Verdict::NeedsApproval);
            governing::ask(draft, ApprovalSubject::Plan, rule, expires_at, &cause)
        }
        Verdict::Rejected => {
            let told: Vec<&str> = reasons.iter().map(|r| r.message.as_str()).collect();
            governing::fail(draft, &format!("the plan was refused: {}", told.join("; ")))
        }
    }
}

/// Makes the tasks of a plan, except those that an earlier plan has finished.
///
/// A plan runs in waves (the layers of its graph), so that what an agent finds in its tree follows from the plan
/// alone and not from who was faster: only then can a run be replayed against a recorded conversation.
pub(super) fn accept_plan(draft: &mut Draft, plan: Arc<Plan>) -> Result<(), Rejection> {
    let digest = draft.record.plan_digest.clone().unwrap_or_else(Digest::zero);
    let count = plan.tasks.len().try_into().unwrap_or(u32::MAX);
    draft.note(AuditBody::PlanAccepted { plan: digest, tasks: count });
    let again = draft.record.plan.is_some();
    let finished = |t: &&PlanTask| again && draft.record.is_integrated(&t.slug);
    let new = plan.tasks.iter().filter(|t| !finished(t)).cloned().collect();
    let new = Plan { summary: String::new(), tasks: new };
    let graph =
        Graph::of(&new).map_err(|_| Rejection::Contract("the plan goes round in a circle".to_owned()))?;
    let before = draft.record.tasks.census().last_wave;
    for at in graph.order {
        let (mut work, mut merge) = tasks::of_plan(&new.tasks[at])?;
        let wave =
            before.saturating_add(u32::try_from(graph.layer[at]).unwrap_or(u32::MAX)).saturating_add(1);
        (work.wave, merge.wave) = (wave, wave);
        // Each task of the plan is two on the chain.
        let rank = u32::try_from(2 * graph.rank[at]).unwrap_or(u32::MAX);
        (work.rank, merge.rank) = (rank, rank - 1);
        draft.create(work)?;
        draft.create(merge)?;
    }
    draft.record.plan = Some(plan);
    draft.record.replan = None;
    draft.unblock()
}

/// IN_PROGRESS → TASK_PLANNING: what is merged stays, all else of the plan is dropped, and a coordinator plans the rest.
pub(super) fn replan(draft: &mut Draft) -> Result<(), Rejection> {
    if next_step(&draft.record, draft.at) != Step::Replan {
        return Err(draft.not_now("replan", "no task has failed for good that the job is planned anew for"));
    }
    let note = draft.record.root_cause.as_ref();
    let cause = note.map_or(String::new(), |n| format!("`{}`: {}: {}", n.task, n.kind.as_str(), n.detail));
    draft.job(JobEvent::ReplanStarted, &cause)?;
    failing::drop_unfinished(draft)?;
    let (mut finished, mut dropped) = (BTreeMap::new(), BTreeMap::new());
    for task in draft.record.plan.iter().flat_map(|p| &p.tasks) {
        if draft.record.is_integrated(&task.slug) {
            let summary = draft.record.tasks.get(&task.slug).map(|t| t.output.summary.clone());
            finished.insert(task.slug.clone(), summary.unwrap_or_default());
        } else {
            dropped.insert(task.slug.clone(), task.title.clone());
        }
    }
    draft.record.replans += 1;
    let number = draft.record.replans;
    let (kept, gone) = (finished.keys().cloned().collect(), dropped.keys().cloned().collect());
    draft.note(AuditBody::Replanned { number, kept, dropped: gone });
    draft.record.replan = Some(Replan { cause, finished, dropped });
    let slug = format!("plan.{}", number + 1);
    draft.create(tasks::single(&slug, LeaseKind::Agent, Role::Coordinator, "Plan the rest anew")?)
}

/// The plan that is judged and accepted: the proposed one, or, when the rest is planned anew, what is finished
/// followed by it. The error says what is wrong with it.
pub(super) fn whole_plan(record: &JobRecord, proposed: &Plan) -> Result<Plan, String> {
    let first = |found: Vec<PlanError>| found.first().map(ToString::to_string).unwrap_or_default();
    let (Some(before), Some(replan)) = (&record.plan, &record.replan) else {
        let found = proposed.validate(&PlanLimits::COORDINATOR);
        return if found.is_empty() { Ok(proposed.clone()) } else { Err(first(found)) };
    };
    let finished = before.tasks.iter().filter(|t| replan.finished.contains_key(&t.slug)).cloned().collect();
    let finished = Plan { summary: before.summary.clone(), tasks: finished };
    let used: BTreeSet<TaskSlug> = record.tasks.keys().cloned().collect();
    Plan::extend(&finished, &used, proposed.clone()).map_err(first)
}

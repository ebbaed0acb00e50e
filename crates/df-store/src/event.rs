//! What watchers see of a transition.

use df_contract::{EventKind, JobEventView, JobState, TaskState};
use df_control_machine::{AuditBody, AuditDraft};

/// The event of one audit draft, when it is one that watchers are told.
pub(crate) fn of(draft: &AuditDraft, actor: &str) -> Option<EventKind> {
    let actor = actor.to_owned();
    match &draft.body {
        AuditBody::Submitted { .. } => {
            Some(EventKind::JobState { from: None, to: JobState::Draft, actor, cause: String::new() })
        }
        AuditBody::Job { from, to, cause, .. } => {
            Some(EventKind::JobState { from: Some(*from), to: *to, actor, cause: cause.clone() })
        }
        AuditBody::TaskCreated { state, .. } => Some(EventKind::TaskState {
            slug: draft.slug.clone()?,
            from: None,
            to: *state,
            epoch: draft.epoch.unwrap_or(0),
            cause: String::new(),
        }),
        AuditBody::Task { from, to, cause, .. } => Some(EventKind::TaskState {
            slug: draft.slug.clone()?,
            from: Some(*from),
            to: *to,
            epoch: draft.epoch.unwrap_or(0),
            cause: cause.clone(),
        }),
        AuditBody::Decided { decision } => Some(EventKind::Decision { decision: decision.clone() }),
        AuditBody::ApprovalRequested { subject, needed, .. } => {
            Some(EventKind::ApprovalRequested { subject: subject.as_str().to_owned(), needed: *needed })
        }
        AuditBody::Voted { identity, approve, comment } => Some(EventKind::ApprovalVote {
            by: identity.clone(),
            approved: *approve,
            comment: comment.clone(),
        }),
        AuditBody::BudgetRequested { by, caps } => Some(EventKind::BudgetRequested {
            by: by.clone(),
            tokens: Some(caps.tokens),
            nano_usd: caps.money_nano_usd,
        }),
        AuditBody::Message { by, .. } => Some(EventKind::Message { by: by.clone() }),
        AuditBody::Replanned { kept, dropped, .. } => {
            Some(EventKind::Replanned { kept: kept.clone(), dropped: dropped.clone() })
        }
        AuditBody::RolledBack { to, undone, .. } => {
            Some(EventKind::RolledBack { to: to.clone(), undone: undone.clone() })
        }
        AuditBody::BudgetRaised { .. }
        | AuditBody::AgentsAssigned { .. }
        | AuditBody::BudgetDenied { .. }
        | AuditBody::PriorityChanged { .. }
        | AuditBody::PlanJudged { .. }
        | AuditBody::PlanAccepted { .. }
        | AuditBody::Produced { .. }
        | AuditBody::Traced { .. }
        | AuditBody::Evidence { .. }
        | AuditBody::OutputJudged { .. }
        | AuditBody::Spent { .. }
        | AuditBody::Delivered { .. } => None,
    }
}

/// The line of the daemon's log for an event that was committed. Causes and comments stay out: they quote what agents
/// and people wrote.
pub(crate) fn log(JobEventView { job, event, .. }: &JobEventView) {
    match event {
        EventKind::JobState { from, to, actor, cause: _ } => {
            tracing::info!(%job, from = from.map(JobState::as_str), to = to.as_str(), actor, "job moved");
        }
        EventKind::TaskState { slug, from, to, epoch, cause: _ } => {
            tracing::info!(%job, task = %slug, from = from.map(TaskState::as_str), to = to.as_str(), epoch, "task moved");
        }
        EventKind::Decision { decision } => {
            tracing::info!(%job, verdict = decision.verdict.as_str(), facts = %decision.facts, policy = %decision.policy, "job judged");
        }
        EventKind::ApprovalRequested { subject, needed } => {
            tracing::info!(%job, subject, needed, "approval requested");
        }
        EventKind::ApprovalVote { by, approved, comment: _ } => {
            tracing::info!(%job, by, approved, "vote counted")
        }
        EventKind::Message { by } => tracing::info!(%job, by, "message taken"),
        EventKind::BudgetRequested { by, tokens, nano_usd } => {
            tracing::info!(%job, by, tokens = tokens.map(|t| t.0), nano_usd = nano_usd.map(|n| n.0), "budget requested");
        }
        EventKind::Replanned { kept, dropped } => {
            tracing::info!(%job, kept = kept.len(), dropped = dropped.len(), "planned anew");
        }
        EventKind::RolledBack { to, undone } => {
            let to = to.as_ref().map_or("the base", |slug| slug.as_str());
            tracing::info!(%job, to, undone = undone.len(), "job branch rolled back");
        }
        EventKind::StaleResult { slug, held, current, trace: _ } => {
            tracing::warn!(%job, task = %slug, held, current, "a result came too late and was refused");
        }
        // Live output has its own place.
        EventKind::Progress { .. } => {}
    }
}

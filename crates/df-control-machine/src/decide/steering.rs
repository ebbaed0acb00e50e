//! What people ask of a job that runs: messages, more budget, another priority.

use std::collections::BTreeSet;

use df_contract::decision::ApprovalRule;
use df_contract::{Digest, JobState, Timestamp};

use super::governing::Vote;
use super::{AuditBody, Draft};
use crate::command::Rejection;
use crate::job::{self, JobEvent};
use crate::record::{Approval, ApprovalSubject, BudgetRequest, Caps, Message};
use crate::step::over_budget;

/// Most messages that one job takes.
pub const MAX_MESSAGES: usize = 64;
/// Longest message in bytes.
pub const MAX_MESSAGE_BYTES: usize = 8 * 1024;
/// How the cause of a pause for lack of budget begins; more budget ends such a pause, and no other.
pub const OUT_OF_BUDGET: &str = "the budget is used up";

pub(super) fn message(draft: &mut Draft, by: &str, text: &str) -> Result<(), Rejection> {
    if job::is_terminal(draft.record.state) {
        return Err(draft.not_now("message", "the job has ended"));
    }
    if text.trim().is_empty() || text.len() > MAX_MESSAGE_BYTES {
        let told = format!("a message has 1 to {MAX_MESSAGE_BYTES} bytes; this one has {}", text.len());
        return Err(Rejection::Invalid(told));
    }
    // A message is shown to agents and to whoever reads the job: nothing in it may steer a terminal.
    if let Some(found) = text.chars().find(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
        return Err(Rejection::Invalid(format!(
            "the message holds the control character U+{:04X}; of those only line ends and tabs may be there",
            u32::from(found)
        )));
    }
    if draft.record.messages.len() >= MAX_MESSAGES {
        return Err(Rejection::Invalid(format!(
            "the job has its {MAX_MESSAGES} messages, which is the limit"
        )));
    }
    let (by, text) = (by.to_owned(), text.to_owned());
    draft.note(AuditBody::Message { by: by.clone(), text: Digest::of(text.as_bytes()) });
    draft.record.messages.push(Message { at: draft.at, by, text, given_to: None });
    Ok(())
}

pub(super) fn set_priority(draft: &mut Draft, to: i8) -> Result<(), Rejection> {
    if job::is_terminal(draft.record.state) {
        return Err(draft.not_now("set_priority", "the job has ended"));
    }
    if !(-100..=100).contains(&to) {
        return Err(Rejection::Invalid(format!("the priority is {to}; it goes from -100 to 100")));
    }
    let from = std::mem::replace(&mut draft.record.priority, to);
    draft.note(AuditBody::PriorityChanged { from, to });
    Ok(())
}

pub(super) fn request_budget(
    draft: &mut Draft,
    by: &str,
    caps: Caps,
    rule: &ApprovalRule,
    expires_at: Timestamp,
) -> Result<(), Rejection> {
    let state = draft.record.state;
    if !job::is_working(state) && state != JobState::Paused {
        return Err(draft.not_now("request_budget", "the job does not work"));
    }
    if draft.record.budget_request.is_some() {
        return Err(draft.not_now("request_budget", "a request for more budget waits already"));
    }
    let Some(now) = draft.record.caps() else {
        return Err(draft.not_now("request_budget", "nothing is decided"));
    };
    if let Some(why) = not_a_raise(now, caps) {
        return Err(Rejection::Invalid(why.to_owned()));
    }
    let subject = ApprovalSubject::Budget;
    draft.note(AuditBody::BudgetRequested { by: by.to_owned(), caps });
    draft.note(AuditBody::ApprovalRequested { subject, needed: rule.count.max(1), expires_at });
    let approval = Approval {
        subject,
        rule: rule.clone(),
        requested_at: draft.at,
        expires_at,
        job_version: draft.record.version + 1,
        plan_digest: draft.record.plan_digest.clone(),
        artefact: None,
        approved_by: BTreeSet::new(),
    };
    draft.record.budget_request = Some(BudgetRequest { by: by.to_owned(), caps, approval });
    Ok(())
}

/// Why `asked` is not more than `now`.
fn not_a_raise(now: Caps, asked: Caps) -> Option<&'static str> {
    let money = match (now.money_nano_usd, asked.money_nano_usd) {
        (None, None) => std::cmp::Ordering::Equal,
        (Some(now), Some(asked)) => asked.cmp(&now),
        (Some(_), None) => return Some("a cap in money can be raised, not taken away"),
        (None, Some(_)) => return Some("the job has no cap in money; one would lower what it may spend"),
    };
    if asked.tokens < now.tokens || money.is_lt() {
        return Some("a cap would be lower than it is; ask for as much as there is, or more");
    }
    (asked.tokens == now.tokens && money.is_eq()).then_some("no cap would be higher than it is")
}

/// A vote where only a request for more budget can be meant.
pub(super) fn vote_on_budget(draft: &mut Draft, vote: &Vote<'_>) -> Result<(), Rejection> {
    let Some(mut request) = draft.record.budget_request.take() else {
        return Err(draft.not_now("vote", "nothing waits for approval"));
    };
    vote.count(draft, &mut request.approval, Some(&request.by))?;
    if !vote.approve {
        draft.note(AuditBody::BudgetDenied { cause: format!("rejected by {}", vote.identity) });
        return Ok(());
    }
    if !request.approval.is_complete() {
        draft.record.budget_request = Some(request);
        return Ok(());
    }
    let (state, cause) = (draft.record.state, draft.record.cause.as_deref());
    let waits_for_it = state == JobState::Paused && cause.is_some_and(|c| c.starts_with(OUT_OF_BUDGET));
    draft.record.raised = Some(request.caps);
    draft.record.raises += 1;
    draft.note(AuditBody::BudgetRaised { caps: request.caps });
    if waits_for_it && !over_budget(&draft.record) {
        return draft.job(JobEvent::Resumed, "");
    }
    Ok(())
}

pub(super) fn expire_budget(draft: &mut Draft) -> Result<(), Rejection> {
    match &draft.record.budget_request {
        Some(request) if request.approval.expires_at <= draft.at => {}
        Some(_) => return Err(draft.not_now("expire_approval", "the approval has not expired")),
        None => return Err(draft.not_now("expire_approval", "nothing that waits has expired")),
    }
    draft.record.budget_request = None;
    draft.note(AuditBody::BudgetDenied { cause: "nobody approved in time".to_owned() });
    Ok(())
}

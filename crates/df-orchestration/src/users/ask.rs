//! What people ask of a job that runs: messages, more budget, another priority, an earlier point of the job branch.
//!
//! A message becomes part of what agents are asked to do, and a budget part of what they may spend. Neither was there
//! when governance decided, so governance is asked again, and what it would not have allowed is refused.

use df_contract::api::BudgetAsk;
use df_contract::decision::{ApprovalRule, Decision, Verdict};
use df_contract::{JobId, JobSpec, NanoUsd, Reason, TaskSlug, Tokens};
use df_control_governance as governance;
use df_control_machine::decide::MAX_MESSAGE_BYTES;
use df_control_machine::job::is_terminal;
use df_control_machine::{Caps, CommandBody, JobRecord, Rejection};

use super::Caller;
use crate::advance::rule;
use crate::{OrchestrationError, Orchestrator, TenantCaps};

impl Orchestrator {
    /// Says something to the agents of a running job: the agent task that is claimed next is told.
    pub async fn message(
        &self,
        caller: &Caller,
        job: JobId,
        text: String,
    ) -> Result<JobRecord, OrchestrationError> {
        let record = self.job(job).await?;
        // What the state machine refuses anyway need not be judged.
        if !is_terminal(record.state) && text.len() <= MAX_MESSAGE_BYTES {
            let (this, said) = (self.clone(), text.clone());
            blocking(move || this.judge_message(&record, &said)).await?;
        }
        let body = CommandBody::Message { by: caller.identity.clone(), text };
        self.steer(caller, job, caller.acting(), body).await
    }

    /// A message may ask for nothing that the decision would have been stricter about, had it been part of the job.
    fn judge_message(&self, record: &JobRecord, text: &str) -> Result<(), OrchestrationError> {
        let mut spec = (*record.spec).clone();
        for said in &record.messages {
            add(&mut spec, &said.text);
        }
        let before = self.judge(record, &spec)?;
        add(&mut spec, text);
        let after = self.judge(record, &spec)?;
        // Who approved one thing under a rule has not approved whatever else falls under it.
        let known = |new: &Reason, old: &Reason| old.rule == new.rule && old.evidence == new.evidence;
        let new = |reason: &&Reason| {
            reason.verdict > Verdict::Approved && !before.reasons.iter().any(|old| known(reason, old))
        };
        let mut reasons: Vec<String> = after.reasons.iter().filter(new).map(told).collect();
        if reasons.is_empty() && after.verdict > before.verdict {
            reasons.push("the verdict would be stricter".to_owned());
        }
        if reasons.is_empty() && after.obligations != before.obligations {
            reasons.push("the job would be bound otherwise than was decided".to_owned());
        }
        refuse_for("this message; submit it as part of a job of its own", reasons)
    }

    /// Asks for higher caps. Nothing changes until the request is approved.
    pub async fn request_budget(
        &self,
        caller: &Caller,
        job: JobId,
        ask: BudgetAsk,
    ) -> Result<JobRecord, OrchestrationError> {
        let record = self.job(job).await?;
        let why = "nothing is decided";
        let now =
            record.caps().ok_or(Rejection::NotNow { command: "request_budget", state: record.state, why })?;
        let caps = Caps {
            tokens: ask.tokens.unwrap_or(now.tokens),
            money_nano_usd: ask.nano_usd.or(now.money_nano_usd),
        };
        let rule = if is_terminal(record.state) {
            rule(&record)
        } else {
            let this = self.clone();
            blocking(move || this.judge_budget(&record, caps)).await?
        };
        let expires_at = self.inner.env.now().plus(self.inner.config.approval_ttl_ms);
        let body = CommandBody::RequestBudget { by: caller.identity.clone(), caps, rule, expires_at };
        self.steer(caller, job, caller.acting(), body).await
    }

    /// Who must approve these caps; refused where the operator's, the tenant's or a policy's limit is lower.
    fn judge_budget(&self, record: &JobRecord, caps: Caps) -> Result<ApprovalRule, OrchestrationError> {
        let mut spec = (*record.spec).clone();
        (spec.budget.tokens, spec.budget.money_nano_usd) = (Some(caps.tokens), caps.money_nano_usd);
        let decision = self.judge(record, &spec)?;
        let rejects = |reason: &&Reason| reason.verdict == Verdict::Rejected;
        let mut reasons: Vec<String> = decision.reasons.iter().filter(rejects).map(told).collect();
        reasons.extend(above(
            caps,
            decision.obligations.tokens,
            decision.obligations.money_nano_usd,
            "policy",
        ));
        let TenantCaps { nano_usd, tokens } = self.inner.config.tenant_caps;
        reasons.extend(above(caps, tokens.unwrap_or(Tokens(u64::MAX)), nano_usd, "the tenant's cap"));
        refuse_for("this budget", reasons)?;
        Ok(decision.obligations.approval.unwrap_or_else(|| rule(record)))
    }

    fn judge(&self, record: &JobRecord, spec: &JobSpec) -> Result<Decision, OrchestrationError> {
        let source = record.facts.as_deref().cloned().unwrap_or_default();
        let facts = governance::job_facts(spec, &source, &record.tenant, &record.submitter)?;
        Ok(governance::decide(&facts, &self.inner.policy, &self.inner.limits)?)
    }

    pub async fn set_priority(
        &self,
        caller: &Caller,
        job: JobId,
        priority: i8,
    ) -> Result<JobRecord, OrchestrationError> {
        self.steer(caller, job, caller.acting(), CommandBody::SetPriority { priority }).await
    }

    /// Takes the job branch back to where it was after the merge of `to`; `None` = to where the job began.
    pub async fn rollback(
        &self,
        caller: &Caller,
        job: JobId,
        to: Option<TaskSlug>,
    ) -> Result<JobRecord, OrchestrationError> {
        self.steer(caller, job, caller.acting(), CommandBody::Rollback { to }).await
    }
}

/// Judging a long text takes a while: on a thread that may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, OrchestrationError> + Send + 'static,
) -> Result<T, OrchestrationError> {
    let judged = tokio::task::spawn_blocking(work).await;
    judged.unwrap_or(Err(OrchestrationError::Incomplete("a judgement comes to an end")))
}

fn add(spec: &mut JobSpec, text: &str) {
    spec.description.push_str("\n\n");
    spec.description.push_str(text);
}

fn told(reason: &Reason) -> String {
    format!("{}: {}", reason.rule, reason.message)
}

fn refuse_for(what: &'static str, reasons: Vec<String>) -> Result<(), OrchestrationError> {
    if reasons.is_empty() { Ok(()) } else { Err(OrchestrationError::PolicyRefused { what, reasons }) }
}

/// What of `caps` is above a limit.
fn above(caps: Caps, tokens: Tokens, money: Option<NanoUsd>, whose: &str) -> Vec<String> {
    let mut found = Vec::new();
    if caps.tokens > tokens {
        found.push(format!("{} tokens are asked, {whose} allows {}", caps.tokens.0, tokens.0));
    }
    if let (Some(asked), Some(most)) = (caps.money_nano_usd, money)
        && asked > most
    {
        found.push(format!("{asked} is asked, {whose} allows {most}"));
    }
    found
}

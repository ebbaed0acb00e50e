//! Brings one job as far forward as the control plane can without workers, people or time.

use std::sync::Arc;

use df_contract::api::GateView;
use df_contract::decision::{ApprovalRule, Decision, Reason, Verdict};
use df_contract::{JobId, Plan, Role};
use df_control_governance as governance;
use df_control_machine::decide::OUT_OF_BUDGET;
use df_control_machine::{CommandBody, JobRecord, Step, next_step};

use crate::agents::Roster;
use crate::cause::{out_of_time, root_cause};
use crate::env::command_id_of;
use crate::reconcile::Reconciler;
use crate::{OrchestrationError, Orchestrator};

/// Most steps taken for one job in one go; a job that needs more goes on in the next round.
const MAX_STEPS: usize = 32;

impl Orchestrator {
    /// Takes steps until the job waits. Two callers at once do no harm: the id of a step's command follows from the
    /// job's version, so the second gets the first one's outcome.
    ///
    /// Answers how many steps it took.
    pub async fn advance(&self, id: JobId) -> Result<usize, OrchestrationError> {
        let mut taken = 0;
        for _ in 0..MAX_STEPS {
            let record = self.job_at_hand(id).await?;
            let step = next_step(&record, self.inner.env.now());
            if step == Step::Wait {
                return Ok(taken);
            }
            let names_cost = matches!(step, Step::StartDelivery | Step::Complete);
            if names_cost && !self.inner.reconcilers.fails(Reconciler::Usage) {
                // What is delivered and what is shown at the end name the cost: ask for it once more. A proxy that is
                // away holds nothing up; its ledger is read when it is back. Nor does one that takes a question and never
                // answers: once the reconciler has waited in vain no job does, one after the other.
                match self.read_usage().await {
                    Ok(_) | Err(OrchestrationError::ProxyAway(_)) => {}
                    Err(other) => return Err(other),
                }
            }
            let roster = self.roster_for(step, &record).await?;
            let body = match roster.assignment(step, &record) {
                Some(assignment) => assignment,
                None => self.judged(step, record.clone(), roster).await?,
            };
            let governs = matches!(step, Step::Decide | Step::JudgePlan | Step::JudgeOutput);
            let actor = if governs { self.governance() } else { self.daemon() };
            let command =
                command_id_of(&["advance", &id.to_string(), &record.version.to_string(), body.name()]);
            match self.send(command, id, actor, body).await {
                Ok(_) => taken += 1,
                // Somebody else moved the job between the read and the command: look again.
                Err(OrchestrationError::Rejected(r)) => {
                    tracing::debug!(job = %id, reason = %r, "step was overtaken");
                    if self.job_at_hand(id).await?.version == record.version {
                        return Err(OrchestrationError::Rejected(r));
                    }
                }
                Err(other) => return Err(other),
            }
        }
        Ok(taken)
    }

    /// [`Self::command_for`] on a thread that may block: judging a long text takes a while.
    async fn judged(
        &self,
        step: Step,
        record: Arc<JobRecord>,
        roster: Roster,
    ) -> Result<CommandBody, OrchestrationError> {
        let this = self.clone();
        let judged = tokio::task::spawn_blocking(move || this.command_for(step, &record, &roster)).await;
        judged.unwrap_or(Err(OrchestrationError::Incomplete("a judgement comes to an end")))
    }

    fn command_for(
        &self,
        step: Step,
        record: &JobRecord,
        roster: &Roster,
    ) -> Result<CommandBody, OrchestrationError> {
        let approval_expires_at = self.inner.env.now().plus(self.inner.config.approval_ttl_ms);
        Ok(match step {
            Step::Wait => return Err(OrchestrationError::Incomplete("a waiting job takes no step")),
            Step::StartAnalysis => CommandBody::StartAnalysis,
            Step::Decide => {
                CommandBody::Decide { decision: Box::new(self.decide(record)?), approval_expires_at }
            }
            Step::ExpireApproval => CommandBody::ExpireApproval,
            Step::StartPlanning => CommandBody::StartPlanning,
            Step::JudgePlan => {
                let plan =
                    record.proposed_plan.as_ref().ok_or(OrchestrationError::Incomplete("a plan waits"))?;
                let digest = record
                    .plan_digest
                    .clone()
                    .ok_or(OrchestrationError::Incomplete("a plan has a digest"))?;
                let (verdict, reasons) = judge_plan(plan, record, roster)?;
                CommandBody::JudgePlan {
                    plan_digest: digest,
                    verdict,
                    reasons,
                    rule: rule(record),
                    approval_expires_at,
                }
            }
            Step::StartValidation => CommandBody::StartValidation,
            Step::JudgeOutput => {
                let (verdict, gates, reasons) = judge_output(record)?;
                CommandBody::JudgeOutput { verdict, gates, reasons, rule: rule(record), approval_expires_at }
            }
            Step::AskDelivery => CommandBody::AskDelivery { rule: rule(record), approval_expires_at },
            Step::StartDelivery => CommandBody::StartDelivery,
            Step::Complete => CommandBody::Complete,
            Step::PauseForBudget => CommandBody::Pause { cause: over_budget(record) },
            Step::FailForTime => CommandBody::Fail { cause: out_of_time(record) },
            Step::FailForTask => CommandBody::Fail { cause: root_cause(record) },
            Step::Replan => CommandBody::Replan,
        })
    }

    fn decide(&self, record: &JobRecord) -> Result<Decision, OrchestrationError> {
        let facts = record.facts.as_ref().ok_or(OrchestrationError::Incomplete("a decision has facts"))?;
        let facts = governance::job_facts(&record.spec, facts, &record.tenant, &record.submitter)?;
        Ok(governance::decide(&facts, &self.inner.policy, &self.inner.limits)?)
    }
}

fn judge_plan(
    plan: &Plan,
    record: &JobRecord,
    roster: &Roster,
) -> Result<(Verdict, Vec<Reason>), OrchestrationError> {
    let decision = record.decision.as_ref().ok_or(OrchestrationError::Incomplete("a plan has a decision"))?;
    let finished = record.integrated().into_iter().collect();
    let caps = record.caps().ok_or(OrchestrationError::Incomplete("a decided job has caps"))?;
    let judged = governance::gate_plan(&governance::PlanCase {
        plan,
        finished: &finished,
        obligations: &decision.obligations,
        tokens: caps.tokens,
        nano_usd: caps.money_nano_usd,
    });
    let mut reasons = roster.reasons(plan, record);
    let verdict = if reasons.is_empty() { judged.verdict } else { Verdict::Rejected };
    reasons.extend(judged.reasons);
    Ok((verdict, reasons))
}

fn judge_output(record: &JobRecord) -> Result<(Verdict, Vec<GateView>, Vec<Reason>), OrchestrationError> {
    let decision =
        record.decision.as_ref().ok_or(OrchestrationError::Incomplete("an output has a decision"))?;
    let facts = record.gate_facts.as_ref().ok_or(OrchestrationError::Incomplete("an output has facts"))?;
    let plan = record.plan.as_ref().ok_or(OrchestrationError::Incomplete("an output has a plan"))?;
    let base = record.facts.as_ref().ok_or(OrchestrationError::Incomplete("an output has a base"))?;
    let case =
        governance::OutputCase { facts, obligations: &decision.obligations, base, plan, spec: &record.spec };
    let judged = governance::gate_output(&case);
    Ok((judged.verdict, judged.gates, judged.reasons))
}

/// Who approves what comes after the decision: as the decision says, or one approver.
pub(crate) fn rule(record: &JobRecord) -> ApprovalRule {
    let given = record.decision.as_ref().and_then(|d| d.obligations.approval.clone());
    given.unwrap_or_else(|| ApprovalRule { count: 1, roles: [Role::Approver, Role::Admin].into() })
}

fn over_budget(record: &JobRecord) -> String {
    let caps = record.caps();
    let money = caps.and_then(|c| c.money_nano_usd).map_or("no cap in money".to_owned(), |m| m.to_string());
    format!(
        "{OUT_OF_BUDGET}: {} tokens of {} and {} of {money}",
        record.spend.tokens().0,
        caps.map_or(0, |c| c.tokens.0),
        record.spend.nano_usd
    )
}

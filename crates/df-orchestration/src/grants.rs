//! Grants for attempts: what a job's decision and plan allow it to spend, signed for the proxy.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use df_contract::grant::{BudgetCap, MAX_GRANT_LIFE, plan_level};
use df_contract::{Grant, GrantClaims, NanoUsd, Timestamp, Tokens};
use df_control_machine::{JobRecord, TaskRecord};
use ed25519_dalek::SigningKey;

use crate::{Env, OrchestrationConfig, OrchestrationError, TenantCaps};

/// Signs grants.
#[derive(Clone)]
pub struct GrantSigner {
    key: SigningKey,
    /// Version of the caps that come from the configuration: rises with every start, or the proxy would keep to the
    /// first cap it ever saw.
    configured: u64,
    /// How far the proxy's clock is ahead of ours, in ms; 0 while that is too little to matter.
    ahead_ms: Arc<AtomicI64>,
}

/// Clocks that differ by less are taken for the same: a grant lives [`MAX_GRANT_LIFE`], and is renewed long before.
const SAME_CLOCK_MS: i64 = 10_000;

impl std::fmt::Debug for GrantSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("GrantSigner")
    }
}

impl GrantSigner {
    pub fn new(seed: [u8; 32]) -> Self {
        Self { key: SigningKey::from_bytes(&seed), configured: 1, ahead_ms: Arc::default() }
    }

    /// For a configuration read at `start`.
    pub(crate) fn configured_at(self, start: Timestamp) -> Self {
        Self { configured: start.as_millis().max(1), ..self }
    }

    /// Takes note of what the proxy's clock said at `here`. A clock that was set, here or there, would otherwise make
    /// every grant one that has expired already.
    pub(crate) fn proxy_said(&self, there: Timestamp, here: Timestamp) {
        let ahead =
            i64::try_from(there.since(here).0).unwrap_or(0) - i64::try_from(here.since(there).0).unwrap_or(0);
        let ahead = if ahead.abs() < SAME_CLOCK_MS { 0 } else { ahead };
        if self.ahead_ms.swap(ahead, Ordering::Relaxed) != ahead && ahead != 0 {
            tracing::warn!(ahead_ms = ahead, "the proxy's clock is another; grants are dated by it");
        }
    }

    /// Now, as the proxy has it.
    fn now_there(&self, here: Timestamp) -> Timestamp {
        Timestamp(here.0.saturating_add_signed(self.ahead_ms.load(Ordering::Relaxed)))
    }

    /// The half that the proxy is given, as hex.
    pub fn verifying_key_hex(&self) -> String {
        hex::encode(self.key.verifying_key().to_bytes())
    }

    /// A grant for the attempt that holds `task` now; lives [`MAX_GRANT_LIFE`] at most.
    pub fn grant(
        &self,
        record: &JobRecord,
        task: &TaskRecord,
        config: &OrchestrationConfig,
        env: &Env,
    ) -> Result<Grant, OrchestrationError> {
        let attempt = task.attempt.ok_or(OrchestrationError::Incomplete("a leased task has an attempt"))?;
        let now = self.now_there(env.now());
        let claims = GrantClaims {
            tenant: record.tenant.clone(),
            job: record.id,
            task: task.slug.clone(),
            attempt,
            epoch: task.epoch,
            caps: self.caps(record, task, config)?,
            models: vec![model(record, task, config)?],
            // A coordinator works before there is an accepted plan, or against the one there was.
            plan: record.plan_digest.clone().filter(|_| task.plan_task.is_some()),
            issued_at: now,
            expires_at: now.plus(MAX_GRANT_LIFE),
        };
        Ok(Grant::sign(&claims, &self.key)?)
    }
}

/// The model that a task's attempts ask for: the one chosen with its registered agent, else the job's own, or the default;
/// where the decision does not allow the
/// default, the first that it allows.
pub(crate) fn model(
    record: &JobRecord,
    task: &TaskRecord,
    config: &OrchestrationConfig,
) -> Result<String, OrchestrationError> {
    if let Some(chosen) = record.agent_of(task).and_then(|agent| agent.model.clone()) {
        return Ok(chosen);
    }
    let wanted = record.spec.model.as_ref().unwrap_or(&config.default_model);
    let allowed = record.decision.as_ref().and_then(|d| d.obligations.models.as_ref());
    match allowed {
        Some(set) if !set.contains(wanted) => {
            set.first().cloned().ok_or(OrchestrationError::Incomplete("some model is allowed"))
        }
        Some(_) | None => Ok(wanted.clone()),
    }
}

/// What one task may use in tokens: its share by the plan, or all that the job may.
pub(crate) fn task_tokens(record: &JobRecord, task: &TaskRecord) -> Tokens {
    let job = record.caps().map_or(Tokens::ZERO, |caps| caps.tokens);
    let planned = task.plan_task.as_ref();
    let share = record.plan.as_ref().zip(planned).and_then(|(plan, of)| plan.token_share(&of.slug, job));
    share.or(planned.and_then(|of| of.tokens)).map_or(job, |share| share.min(job))
}

/// The same in money.
pub(crate) fn task_money(record: &JobRecord, task: &TaskRecord) -> Option<NanoUsd> {
    let job = record.caps().and_then(|caps| caps.money_nano_usd);
    let planned = task.plan_task.as_ref();
    let shared = job.zip(record.plan.as_ref().zip(planned));
    let share = shared.and_then(|(cap, (plan, of))| plan.money_share(&of.slug, cap));
    share.or(planned.and_then(|of| of.nano_usd)).into_iter().chain(job).min()
}

impl GrantSigner {
    /// The four levels, outermost first, and the plan.
    fn caps(
        &self,
        record: &JobRecord,
        task: &TaskRecord,
        config: &OrchestrationConfig,
    ) -> Result<Vec<BudgetCap>, OrchestrationError> {
        let job = record.caps().ok_or(OrchestrationError::Incomplete("agent work has a decision"))?;
        let (money, tokens) = (task_money(record, task), task_tokens(record, task));
        // A cap that was raised is a newer one.
        let version = 1 + u64::from(record.raises);
        let attempt = task.attempt.map(JobRecord::attempt_account).unwrap_or_default();
        let level = |account: String, nano_usd, tokens| BudgetCap { account, version, nano_usd, tokens };
        let TenantCaps { nano_usd, tokens: of_tenant } = config.tenant_caps;
        let tenant = level(format!("tenant:{}", record.tenant), nano_usd, of_tenant);
        Ok(vec![
            BudgetCap { version: self.configured, ..tenant },
            level(format!("job:{}", record.id), job.money_nano_usd, Some(job.tokens)),
            level(record.task_account(&task.slug), money, Some(tokens)),
            level(attempt, money, Some(tokens)),
            // Beginning to plan anew is enough: nothing of the old plan may spend beside the new coordinator.
            plan_level(record.id, 1 + u64::from(record.replans)),
        ])
    }
}

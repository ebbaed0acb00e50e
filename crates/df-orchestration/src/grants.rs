//! Grants for attempts: what a job's decision and plan allow it to spend, signed for the proxy.

use df_contract::grant::{BudgetCap, MAX_GRANT_LIFE};
use df_contract::{Grant, GrantClaims, Tokens};
use df_control_machine::{JobRecord, TaskRecord};
use ed25519_dalek::SigningKey;

use crate::{Env, OrchestrationConfig, OrchestrationError};

/// Signs grants.
#[derive(Clone)]
pub struct GrantSigner {
    key: SigningKey,
}

impl std::fmt::Debug for GrantSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("GrantSigner")
    }
}

impl GrantSigner {
    pub fn new(seed: [u8; 32]) -> Self {
        Self { key: SigningKey::from_bytes(&seed) }
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
        let now = env.now();
        let claims = GrantClaims {
            tenant: record.tenant.clone(),
            job: record.id,
            task: task.slug.clone(),
            attempt,
            epoch: task.epoch,
            caps: caps(record, task, config)?,
            models: vec![model(record, config)],
            issued_at: now,
            expires_at: now.plus(MAX_GRANT_LIFE),
        };
        Ok(Grant::sign(&claims, &self.key)?)
    }
}

/// The model that a job's attempts ask for.
pub(crate) fn model(record: &JobRecord, config: &OrchestrationConfig) -> String {
    record.spec.model.clone().unwrap_or_else(|| config.default_model.clone())
}

/// What one task may use in tokens: its slice of the plan, or all that the job may.
pub(crate) fn task_tokens(record: &JobRecord, task: &TaskRecord) -> Tokens {
    let job = record.decision.as_ref().map_or(Tokens::ZERO, |d| d.obligations.tokens);
    task.plan_task.as_ref().and_then(|p| p.tokens).map_or(job, |slice| slice.min(job))
}

/// The four levels, outermost first.
fn caps(
    record: &JobRecord,
    task: &TaskRecord,
    config: &OrchestrationConfig,
) -> Result<Vec<BudgetCap>, OrchestrationError> {
    let decision =
        record.decision.as_ref().ok_or(OrchestrationError::Incomplete("agent work has a decision"))?;
    let money = decision.obligations.money_nano_usd;
    let tokens = task_tokens(record, task);
    let attempt = task.attempt.map(|a| a.to_string()).unwrap_or_default();
    let level = |account: String, nano_usd, tokens| BudgetCap { account, version: 1, nano_usd, tokens };
    Ok(vec![
        level(format!("tenant:{}", record.tenant), config.tenant_caps.nano_usd, config.tenant_caps.tokens),
        level(format!("job:{}", record.id), money, Some(decision.obligations.tokens)),
        level(format!("task:{}/{}", record.id, task.slug), money, Some(tokens)),
        level(format!("attempt:{attempt}"), money, Some(tokens)),
    ])
}

//! Settings of orchestration; part of the daemon's configuration file.

use df_contract::{DurationMs, LeaseKind, NanoUsd, Tokens};
use df_control_machine::schedule::{Rules, RulesError};
use serde::{Deserialize, Serialize};

/// Section `[orchestration]` of the daemon's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OrchestrationConfig {
    /// Where workers reach the proxy, without `/v1`.
    pub proxy_url: String,
    /// The model asked for when a job names none.
    pub default_model: String,
    /// An approval that nobody gives in this time is a rejection.
    pub approval_ttl_ms: DurationMs,
    /// Longest time one attempt may take.
    pub attempt_wall_ms: DurationMs,
    /// An attempt without any sign of progress for this long is taken back.
    pub progress_timeout_ms: DurationMs,
    /// Most model turns of one attempt.
    pub attempt_max_steps: u32,
    /// Most jobs that may be open at once; more are refused with `queue_full`.
    pub max_open_jobs: u64,
    /// Most of them that one tenant may have.
    pub max_open_jobs_per_tenant: u64,
    pub tenant_caps: TenantCaps,
    /// Shares of tenants, and how many leases may be held at once.
    pub scheduling: Rules,
}

/// Caps over all jobs of one tenant.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TenantCaps {
    pub nano_usd: Option<NanoUsd>,
    pub tokens: Option<Tokens>,
}

impl Default for OrchestrationConfig {
    fn default() -> Self {
        Self {
            proxy_url: "http://127.0.0.1:8787".to_owned(),
            default_model: "default".to_owned(),
            approval_ttl_ms: DurationMs::from_secs(7 * 24 * 3600),
            attempt_wall_ms: DurationMs::from_secs(3600),
            progress_timeout_ms: DurationMs::from_secs(900),
            attempt_max_steps: 80,
            max_open_jobs: 10_000,
            max_open_jobs_per_tenant: 5_000,
            tenant_caps: TenantCaps::default(),
            scheduling: Rules::default(),
        }
    }
}

impl OrchestrationConfig {
    /// Checks what the types alone do not.
    ///
    /// # Errors
    /// Names the first key that is out of bounds.
    pub fn validate(&self) -> Result<(), RulesError> {
        self.scheduling.validate()
    }

    /// How long a lease of this kind may run.
    pub fn lease_wall(&self, kind: LeaseKind) -> DurationMs {
        match kind {
            LeaseKind::Intake | LeaseKind::Deliver => DurationMs::from_secs(600),
            LeaseKind::Agent | LeaseKind::Integrate | LeaseKind::Validate => self.attempt_wall_ms,
        }
    }
}

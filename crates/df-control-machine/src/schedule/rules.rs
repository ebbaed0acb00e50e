//! Weights and caps, as the operator sets them.

use std::collections::BTreeMap;

use df_contract::agent::Runtime;
use df_contract::{AgentName, TenantId};
use serde::{Deserialize, Serialize};

use super::SCALE;

/// Greatest weight of a tenant.
pub const MAX_WEIGHT: u32 = 1_000;
/// Greatest cap; more is the same as none.
pub const MAX_CAP: u32 = 1_000_000;
/// Most entries of one table.
pub const MAX_RULES: usize = 10_000;

/// Section `[orchestration.scheduling]` of the daemon's configuration. Caps count leases that are held at once.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rules {
    /// Shares of tenants relative to each other, 1 to [`MAX_WEIGHT`]; 1 for those not named.
    pub tenant_weights: BTreeMap<TenantId, u32>,
    /// Cap for every tenant not named in `tenants`; absent = none.
    pub max_per_tenant: Option<u32>,
    /// Caps of single tenants.
    pub tenants: BTreeMap<TenantId, u32>,
    /// Cap for every job; absent = none.
    pub max_per_job: Option<u32>,
    /// Caps of agents, built in (`backend`) or registered, for each tenant by itself: agents of one name in two tenants
    /// are two agents.
    pub agents: BTreeMap<AgentName, u32>,
    /// Caps of runtimes, over all agents and tenants: they guard the machines.
    pub runtimes: BTreeMap<Runtime, u32>,
}

/// What is wrong with the rules. The text names the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RulesError {
    #[error("`scheduling.tenant_weights.{tenant}` is {got}; a weight goes from 1 to {MAX_WEIGHT}")]
    Weight { tenant: TenantId, got: u32 },
    #[error(
        "`scheduling.{key}` is {got}; a cap goes from 1 to {MAX_CAP}, and without one nothing is held back"
    )]
    Cap { key: String, got: u32 },
    #[error("`scheduling.{key}` has {got} entries, the limit is {MAX_RULES}")]
    TooMany { key: &'static str, got: usize },
}

impl Rules {
    /// The first thing that is wrong, if anything is.
    pub fn validate(&self) -> Result<(), RulesError> {
        for (key, got) in [
            ("tenant_weights", self.tenant_weights.len()),
            ("tenants", self.tenants.len()),
            ("agents", self.agents.len()),
        ] {
            if got > MAX_RULES {
                return Err(RulesError::TooMany { key, got });
            }
        }
        for (tenant, got) in &self.tenant_weights {
            if !(1..=MAX_WEIGHT).contains(got) {
                return Err(RulesError::Weight { tenant: tenant.clone(), got: *got });
            }
        }
        let fixed = [("max_per_tenant", self.max_per_tenant), ("max_per_job", self.max_per_job)];
        let fixed = fixed.into_iter().filter_map(|(key, cap)| Some((key.to_owned(), cap?)));
        let tenants = self.tenants.iter().map(|(name, cap)| (format!("tenants.{name}"), *cap));
        let agents = self.agents.iter().map(|(name, cap)| (format!("agents.{name}"), *cap));
        let runtimes = self.runtimes.iter().map(|(name, cap)| (format!("runtimes.{}", name.as_str()), *cap));
        match fixed.chain(tenants).chain(agents).chain(runtimes).find(|(_, cap)| !(1..=MAX_CAP).contains(cap))
        {
            Some((key, got)) => Err(RulesError::Cap { key, got }),
            None => Ok(()),
        }
    }

    /// What a claim costs the tenant, in virtual time.
    pub fn cost(&self, tenant: &TenantId) -> u64 {
        let weight = self.tenant_weights.get(tenant).copied().unwrap_or(1).clamp(1, MAX_WEIGHT);
        SCALE / u64::from(weight)
    }

    /// Most leases that the tenant may hold at once.
    pub fn tenant_cap(&self, tenant: &TenantId) -> Option<u32> {
        self.tenants.get(tenant).copied().or(self.max_per_tenant)
    }
}

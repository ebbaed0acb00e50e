//! The shelf of registered agents: every version that was registered, which are enabled, which one a tenant has
//! pinned, and what was done to them. Whether a manifest is valid and a signature good is said elsewhere.

use std::collections::BTreeMap;

use df_contract::agent::RegisteredAgent;
use df_contract::{AgentName, Digest, TenantId, Timestamp};

use crate::rows::{Kept, Rows};
use crate::transition::Tx;
use crate::{Store, StoreError};

/// Most versions of agents that one tenant, or everybody together, may have.
pub const MAX_AGENT_VERSIONS: u32 = 1_000;

/// One version of one agent. Without a tenant it is everybody's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AgentKey {
    pub tenant: Option<TenantId>,
    pub name: AgentName,
    pub digest: Digest,
}

impl AgentKey {
    pub fn of(agent: &RegisteredAgent) -> Self {
        let name = agent.manifest.name.clone();
        Self { tenant: agent.tenant.clone(), name, digest: agent.digest.clone() }
    }
}

/// Who does something to an agent, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct By {
    pub actor: String,
    pub at: Timestamp,
}

/// What came of a registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registered {
    New,
    /// This version was there already, and stays as it is.
    Known,
    /// There are [`MAX_AGENT_VERSIONS`] of this tenant.
    Full,
}

/// Something that was done to an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentChange {
    Registered,
    Enabled,
    Disabled,
    Pinned,
    Unpinned,
}

impl AgentChange {
    pub const ALL: &'static [AgentChange] = &[
        AgentChange::Registered,
        AgentChange::Enabled,
        AgentChange::Disabled,
        AgentChange::Pinned,
        AgentChange::Unpinned,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            AgentChange::Registered => "registered",
            AgentChange::Enabled => "enabled",
            AgentChange::Disabled => "disabled",
            AgentChange::Pinned => "pinned",
            AgentChange::Unpinned => "unpinned",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|change| change.as_str() == text)
    }
}

/// A line of the log of agents; lines are only ever added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentLogRow {
    pub seq: u64,
    pub by: By,
    pub change: AgentChange,
    pub tenant: Option<TenantId>,
    pub name: AgentName,
    /// Absent when a pin was taken out.
    pub digest: Option<Digest>,
}

fn log(tx: &mut Tx<'_>, by: By, change: AgentChange, key: AgentKey) -> Kept<()> {
    let digest = (change != AgentChange::Unpinned).then_some(key.digest);
    let row = AgentLogRow { seq: 0, by, change, tenant: key.tenant, name: key.name, digest };
    tx.rows.agent_log_insert(&row)
}

fn register(tx: &mut Tx<'_>, agent: &RegisteredAgent) -> Kept<Registered> {
    let key = AgentKey::of(agent);
    if tx.rows.agent(&key)?.is_some() {
        return Ok(Registered::Known);
    }
    if tx.rows.agent_count(key.tenant.as_ref())? >= MAX_AGENT_VERSIONS {
        return Ok(Registered::Full);
    }
    tx.rows.agent_insert(agent)?;
    let by = By { actor: agent.registered_by.clone(), at: agent.registered_at };
    log(tx, by, AgentChange::Registered, key)?;
    Ok(Registered::New)
}

fn enable(tx: &mut Tx<'_>, key: AgentKey, enabled: bool, by: By) -> Kept<bool> {
    match tx.rows.agent(&key)? {
        None => Ok(false),
        Some(agent) if agent.enabled == enabled => Ok(true),
        Some(_) => {
            tx.rows.agent_enable(&key, enabled)?;
            let change = if enabled { AgentChange::Enabled } else { AgentChange::Disabled };
            log(tx, by, change, key)?;
            Ok(true)
        }
    }
}

fn pin(tx: &mut Tx<'_>, tenant: &TenantId, to: &AgentKey, by: By) -> Kept<bool> {
    if tx.rows.agent(to)?.is_none() {
        return Ok(false);
    }
    if tx.rows.agent_pins(tenant)?.get(&to.name) != Some(&to.digest) {
        tx.rows.agent_pin(tenant, &to.name, Some(&to.digest))?;
        log(tx, by, AgentChange::Pinned, AgentKey { tenant: Some(tenant.clone()), ..to.clone() })?;
    }
    Ok(true)
}

fn unpin(tx: &mut Tx<'_>, tenant: &TenantId, name: &AgentName, by: By) -> Kept<bool> {
    let Some(digest) = tx.rows.agent_pins(tenant)?.remove(name) else { return Ok(false) };
    tx.rows.agent_pin(tenant, name, None)?;
    let key = AgentKey { tenant: Some(tenant.clone()), name: name.clone(), digest };
    log(tx, by, AgentChange::Unpinned, key)?;
    Ok(true)
}

/// Registered agents.
impl Store {
    /// Keeps a version of an agent. The same version again changes nothing.
    pub async fn agent_register(&self, agent: RegisteredAgent) -> Result<Registered, StoreError> {
        self.owner.call(move |tx| register(tx, &agent)).await
    }

    pub async fn agent(&self, key: AgentKey) -> Result<Option<RegisteredAgent>, StoreError> {
        self.read(move |rows| rows.agent(&key)).await
    }

    /// Every version that a tenant can use, its own and everybody's; without a tenant, all there are. By name, then
    /// by the time of registration.
    pub async fn agent_list(&self, tenant: Option<TenantId>) -> Result<Vec<RegisteredAgent>, StoreError> {
        self.read(move |rows: &dyn Rows| rows.agents(tenant.as_ref())).await
    }

    /// Whether there is such a version.
    pub async fn agent_enable(&self, key: AgentKey, enabled: bool, by: By) -> Result<bool, StoreError> {
        self.owner.call(move |tx| enable(tx, key, enabled, by)).await
    }

    /// Makes a tenant use one version of an agent, its own or everybody's. Whether there is such a version.
    pub async fn agent_pin(&self, tenant: TenantId, to: AgentKey, by: By) -> Result<bool, StoreError> {
        self.owner.call(move |tx| pin(tx, &tenant, &to, by)).await
    }

    /// Whether there was a pin.
    pub async fn agent_unpin(&self, tenant: TenantId, name: AgentName, by: By) -> Result<bool, StoreError> {
        self.owner.call(move |tx| unpin(tx, &tenant, &name, by)).await
    }

    /// The versions that a tenant has pinned.
    pub async fn agent_pins(&self, tenant: TenantId) -> Result<BTreeMap<AgentName, Digest>, StoreError> {
        self.read(move |rows| rows.agent_pins(&tenant)).await
    }

    /// What was done to agents, with a number above `after`, oldest first.
    pub async fn agent_log(&self, after: u64, limit: u32) -> Result<Vec<AgentLogRow>, StoreError> {
        self.read(move |rows| rows.agent_log(after, limit)).await
    }
}

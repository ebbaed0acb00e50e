//! The registry as the rest of the installation calls it.

use df_contract::agent::AgentRef;
use df_contract::{AgentName, Digest, RegisteredAgent, TenantId};
use df_control_audit::RegistryRecord;

use super::rules::{forget_key, pin, register, switch, unpin};
use super::{AgentRow, PinRow, RegistryActor, RegistryRefusal, agent_for};
use crate::{Store, StoreError};

/// Most records of an agent's log that are shown: the last ones.
const MAX_LOG: u32 = 1_000;

/// The registry of agents.
impl Store {
    /// Registers a version whose signature was checked, makes it the current one, and keeps the registrant to its key.
    /// The same registration again changes nothing; any other needs the next number.
    pub async fn agent_register(
        &self,
        version: RegisteredAgent,
        actor: RegistryActor,
        takes_over: bool,
    ) -> Result<Result<RegisteredAgent, RegistryRefusal>, StoreError> {
        self.owner.call(move |tx| register(tx, &version, &actor, takes_over)).await
    }

    /// Enables or disables one version, or every one. `over_others`: by the right to switch anybody's agents; without it
    /// what was disabled by that right stays so.
    pub async fn agent_switch(
        &self,
        of: AgentRef,
        digest: Option<Digest>,
        enabled: bool,
        actor: RegistryActor,
        over_others: bool,
    ) -> Result<Result<(), RegistryRefusal>, StoreError> {
        self.owner.call(move |tx| switch(tx, &of, digest.as_ref(), enabled, &actor, over_others)).await
    }

    /// Keeps the actor's tenant to a version; without one, to the current.
    pub async fn agent_pin(
        &self,
        name: AgentName,
        digest: Option<Digest>,
        replaces: bool,
        actor: RegistryActor,
    ) -> Result<Result<PinRow, RegistryRefusal>, StoreError> {
        self.owner.call(move |tx| pin(tx, &name, digest, replaces, &actor)).await
    }

    pub async fn agent_unpin(
        &self,
        name: AgentName,
        actor: RegistryActor,
    ) -> Result<Result<(), RegistryRefusal>, StoreError> {
        self.owner.call(move |tx| unpin(tx, &name, &actor)).await
    }

    /// Forgets the key that an identity is kept to: the next one it registers with is kept.
    pub async fn signer_reset(
        &self,
        tenant: TenantId,
        identity: String,
        actor: RegistryActor,
    ) -> Result<Result<(), RegistryRefusal>, StoreError> {
        self.owner.call(move |tx| forget_key(tx, &tenant, &identity, &actor)).await
    }

    pub async fn agent(&self, of: AgentRef) -> Result<Option<AgentRow>, StoreError> {
        self.read(move |rows| rows.agent(&of)).await
    }

    /// The agent that a tenant means by a name: its own or everybody's.
    pub async fn agent_for(&self, tenant: TenantId, name: AgentName) -> Result<Option<AgentRow>, StoreError> {
        self.read(move |rows| agent_for(rows, &tenant, &name)).await
    }

    /// With `enabled` as it is now.
    pub async fn agent_version(
        &self,
        of: AgentRef,
        digest: Digest,
    ) -> Result<Option<RegisteredAgent>, StoreError> {
        self.read(move |rows| rows.agent_version(&of, &digest)).await
    }

    /// Whether a version that `tenant` means is there and disabled.
    pub async fn agent_is_off(
        &self,
        tenant: TenantId,
        name: AgentName,
        digest: Digest,
    ) -> Result<bool, StoreError> {
        self.read(move |rows| rows.agent_is_off(&tenant, &name, &digest)).await
    }

    /// Newest first.
    pub async fn agent_versions(&self, of: AgentRef) -> Result<Vec<RegisteredAgent>, StoreError> {
        self.read(move |rows| rows.agent_versions(&of)).await
    }

    /// By name: the agents that serve `tenant`, or all, each at its current version.
    pub async fn agent_list(
        &self,
        tenant: Option<TenantId>,
    ) -> Result<Vec<(AgentRow, RegisteredAgent)>, StoreError> {
        self.read(move |rows| {
            let mut listed = Vec::new();
            for row in rows.agents(tenant.as_ref())? {
                let current = rows.agent_version(&row.of(), &row.current)?;
                let missing =
                    || StoreError::Invariant(format!("the current version of `{}` is gone", row.name));
                listed.push((row.clone(), current.ok_or_else(missing)?));
            }
            Ok(listed)
        })
        .await
    }

    pub async fn agent_pins(&self, tenant: TenantId) -> Result<Vec<PinRow>, StoreError> {
        self.read(move |rows| rows.agent_pins(&tenant)).await
    }

    /// What was done to one agent, oldest first, at most the last thousand.
    pub async fn agent_log(&self, of: AgentRef) -> Result<Vec<RegistryRecord>, StoreError> {
        self.read(move |rows| rows.agent_log(Some(&of), MAX_LOG)).await
    }
}

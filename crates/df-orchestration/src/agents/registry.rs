//! What people ask of the registry.

use std::collections::BTreeMap;

use df_contract::agent::api::{
    AgentPage, AgentRegister, AgentRegistered, AgentSummary, AgentView, PinView, VersionView,
};
use df_contract::agent::{AgentManifest, BUILT_IN, Runtime};
use df_contract::{Action, AgentName, Digest, RegisteredAgent, Role, Scope, TenantId};
use df_store::{AgentRow, PinRow, RegistryActor, RegistryRefusal};

use crate::users::Caller;
use crate::{OrchestrationError, Orchestrator};

/// Whose agent is registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentScope {
    /// The caller's tenant's.
    Tenant,
    /// Everybody's.
    Global,
}

fn view(pin: &PinRow) -> PinView {
    PinView { digest: pin.digest.clone(), replaces: pin.replaces }
}

impl Orchestrator {
    fn registry_actor(&self, caller: &Caller) -> RegistryActor {
        let (identity, tenant) = (caller.identity.clone(), caller.tenant.clone());
        RegistryActor { identity, tenant, at: self.inner.env.now() }
    }

    /// Whether the caller manages agents that others registered.
    fn manages_others(&self, caller: &Caller, reach: Scope) -> bool {
        let may = |role: &Role| self.policy().authorise(*role, Action::AgentManage, reach).is_allowed();
        caller.roles.iter().any(may)
    }

    /// Registers a manifest that the caller has signed.
    pub async fn agent_register(
        &self,
        caller: &Caller,
        scope: AgentScope,
        ask: AgentRegister,
    ) -> Result<AgentRegistered, OrchestrationError> {
        let manifest = AgentManifest::read(&ask.manifest).map_err(|found| {
            OrchestrationError::InvalidAgent(found.iter().map(ToString::to_string).collect())
        })?;
        let actor = self.registry_actor(caller);
        let (tenant, reach) = match scope {
            AgentScope::Tenant => (Some(caller.tenant.clone()), Scope::Tenant),
            AgentScope::Global => (None, Scope::Installation),
        };
        let agent = RegisteredAgent {
            digest: manifest.digest()?,
            manifest,
            number: ask.number,
            tenant,
            registered_by: caller.identity.clone(),
            registered_at: actor.at,
            public_key: ask.public_key,
            signature: ask.signature,
            enabled: true,
        };
        // Without a number it would be the first form of the signed text, which fits any time.
        if agent.number == 0 {
            return Err(OrchestrationError::InvalidAgent(vec!["`number` counts from 1".to_owned()]));
        }
        agent.verify().map_err(OrchestrationError::Seal)?;
        // Who manages what others registered may also take it over.
        let takes_over = self.manages_others(caller, reach);
        let agent = self.inner.store.agent_register(agent, actor, takes_over).await??;
        tracing::info!(
            agent = %agent.of(), number = agent.number, digest = %agent.digest, by = caller.identity, "agent registered"
        );
        Ok(AgentRegistered { notes: self.notes(&agent).await?, agent })
    }

    async fn notes(&self, agent: &RegisteredAgent) -> Result<Vec<String>, OrchestrationError> {
        let runtime = agent.manifest.runtime;
        let offered = match runtime {
            // Every worker brings it.
            Runtime::Builtin => true,
            Runtime::Acp | Runtime::Command | Runtime::Remote => {
                let sessions = self.inner.store.session_list().await?;
                sessions.iter().any(|(session, _)| session.runtimes.contains(&runtime))
            }
        };
        let mut notes = Vec::new();
        if !offered {
            let runtime = runtime.as_str();
            notes.push(format!(
                "no worker offers the runtime `{runtime}` now: tasks for this agent wait until one does"
            ));
        }
        if !agent.enabled {
            notes.push("this version is disabled: no task is given to it until it is enabled".to_owned());
        }
        Ok(notes)
    }

    /// The agents of the caller's tenant and everybody's, or of the whole installation.
    pub async fn agent_page(&self, caller: &Caller, reach: Scope) -> Result<AgentPage, OrchestrationError> {
        let of = match reach {
            Scope::Own | Scope::Tenant => Some(caller.tenant.clone()),
            Scope::Installation => None,
        };
        let pins = self.pins(&caller.tenant).await?;
        let summary = |(row, agent): (AgentRow, RegisteredAgent)| AgentSummary {
            pin: pins.get(&row.name).filter(|_| row.serves(&caller.tenant)).map(view),
            name: row.name,
            tenant: row.tenant,
            role: agent.manifest.role,
            runtime: agent.manifest.runtime,
            description: agent.manifest.description,
            digest: agent.digest,
            number: agent.number,
            enabled: agent.enabled,
            registered_by: agent.registered_by,
            registered_at: agent.registered_at,
        };
        let agents = self.inner.store.agent_list(of).await?.into_iter().map(summary).collect();
        let built_in = BUILT_IN.iter().map(|name| (*name).to_owned()).collect();
        Ok(AgentPage { tenant: caller.tenant.clone(), built_in, agents })
    }

    async fn pins(&self, tenant: &TenantId) -> Result<BTreeMap<AgentName, PinRow>, OrchestrationError> {
        let pins = self.inner.store.agent_pins(tenant.clone()).await?;
        Ok(pins.into_iter().map(|pin| (pin.name.clone(), pin)).collect())
    }

    /// The agent that a tenant means by a name, or `agent_unknown`.
    pub async fn agent_for(
        &self,
        tenant: &TenantId,
        name: &AgentName,
    ) -> Result<AgentRow, OrchestrationError> {
        let found = self.inner.store.agent_for(tenant.clone(), name.clone()).await?;
        Ok(found.ok_or_else(|| RegistryRefusal::Unknown(name.clone()))?)
    }

    /// One agent with its versions.
    pub async fn agent_view(&self, caller: &Caller, row: &AgentRow) -> Result<AgentView, OrchestrationError> {
        let versions = self.inner.store.agent_versions(row.of()).await?;
        let current = versions.iter().find(|version| version.digest == row.current).cloned();
        let agent = current.ok_or(OrchestrationError::Incomplete("an agent has its current version"))?;
        let version = |version: RegisteredAgent| VersionView {
            digest: version.digest,
            number: version.number,
            registered_by: version.registered_by,
            registered_at: version.registered_at,
            enabled: version.enabled,
        };
        let pins = self.pins(&caller.tenant).await?;
        let pin = pins.get(&row.name).filter(|_| row.serves(&caller.tenant)).map(view);
        Ok(AgentView { agent, versions: versions.into_iter().map(version).collect(), pin })
    }

    /// Enables or disables one version, or every one. Once it is written no attempt begins with a disabled one, and those
    /// that run are ended: their leases and grants are gone, and their tasks wait. What somebody disabled who manages
    /// others' agents is enabled by such a one alone.
    pub async fn agent_switch(
        &self,
        caller: &Caller,
        row: &AgentRow,
        digest: Option<Digest>,
        enabled: bool,
    ) -> Result<(), OrchestrationError> {
        let actor = self.registry_actor(caller);
        let own = row.tenant.as_ref() == Some(&caller.tenant);
        let over_others = self.manages_others(caller, if own { Scope::Tenant } else { Scope::Installation });
        self.inner.store.agent_switch(row.of(), digest, enabled, actor, over_others).await??;
        tracing::info!(agent = %row.of(), enabled, by = caller.identity, "agent switched");
        if !enabled && let Err(error) = self.reap().await {
            // It is disabled all the same; the next round of the reconciler ends what runs.
            tracing::warn!(agent = %row.of(), error = %error, "attempts of a disabled agent could not be ended yet");
        }
        Ok(())
    }

    /// Keeps the caller's tenant to a version.
    pub async fn agent_pin(
        &self,
        caller: &Caller,
        name: AgentName,
        digest: Option<Digest>,
        replaces: bool,
    ) -> Result<PinView, OrchestrationError> {
        let actor = self.registry_actor(caller);
        let pin = self.inner.store.agent_pin(name.clone(), digest, replaces, actor).await??;
        tracing::info!(agent = %name, digest = %pin.digest, replaces, by = caller.identity, "agent pinned");
        Ok(view(&pin))
    }

    pub async fn agent_unpin(&self, caller: &Caller, name: AgentName) -> Result<(), OrchestrationError> {
        self.inner.store.agent_unpin(name.clone(), self.registry_actor(caller)).await??;
        tracing::info!(agent = %name, by = caller.identity, "agent unpinned");
        Ok(())
    }

    /// Forgets the key to which an identity is kept.
    pub async fn signer_reset(
        &self,
        caller: &Caller,
        tenant: TenantId,
        identity: String,
    ) -> Result<(), OrchestrationError> {
        let actor = self.registry_actor(caller);
        self.inner.store.signer_reset(tenant, identity.clone(), actor).await??;
        tracing::info!(identity, by = caller.identity, "signing key forgotten");
        Ok(())
    }
}

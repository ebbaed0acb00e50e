//! Which agents a job may use, each at one version: the one its tasks have already, else the one the job keeps to,
//! else the one its tenant keeps to, else the current one.

use std::collections::{BTreeMap, BTreeSet};

use df_contract::agent::{Absent, AgentMisfit, misfits};
use df_contract::{AgentName, Digest, Plan, RegisteredAgent, Role, TenantId};
use df_control_machine::JobRecord;
use df_store::{AgentRow, PinRow};

use crate::{OrchestrationError, Orchestrator};

/// The agents that were looked for and found.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    agents: BTreeMap<AgentName, RegisteredAgent>,
    /// Those that do the tasks of their role in the place of the built-in one.
    replacing: BTreeMap<Role, AgentName>,
}

impl Roster {
    /// The agent, if it is there and enabled.
    pub(crate) fn enabled(&self, name: &AgentName) -> Result<&RegisteredAgent, Absent> {
        let found = self.agents.get(name).ok_or(Absent::Unknown)?;
        if found.enabled { Ok(found) } else { Err(Absent::Disabled) }
    }

    /// The enabled agent that the tenant has put in the place of the built-in one.
    pub(crate) fn replacing(&self, role: Role) -> Option<&RegisteredAgent> {
        self.enabled(self.replacing.get(&role)?).ok()
    }

    /// Enabled agents that do tasks of plans, by name.
    pub(crate) fn builders(&self) -> impl Iterator<Item = &RegisteredAgent> {
        self.agents.values().filter(|agent| agent.enabled && agent.manifest.role != Role::Coordinator)
    }

    /// Everything that is wrong with the agents that a plan names.
    pub(crate) fn misfits(&self, plan: &Plan) -> Vec<AgentMisfit> {
        let offers: BTreeMap<&AgentName, _> =
            self.agents.iter().map(|(name, agent)| (name, agent.manifest.offer())).collect();
        misfits(plan, |name| {
            self.enabled(name)?;
            offers.get(name).ok_or(Absent::Unknown)
        })
    }
}

/// Whose roster it is.
struct Wanted<'a> {
    tenant: &'a TenantId,
    /// Versions of agents whose tasks exist.
    taken: BTreeMap<&'a AgentName, &'a Digest>,
    kept: &'a BTreeMap<AgentName, Digest>,
}

impl<'a> Wanted<'a> {
    fn by(record: &'a JobRecord) -> Self {
        let taken = record.assigned.values().map(|agent| (&agent.name, &agent.digest)).collect();
        Self { tenant: &record.tenant, taken, kept: &record.spec.agents }
    }

    fn version(&self, row: &AgentRow, pins: &[PinRow]) -> Digest {
        let pinned = || pins.iter().find(|pin| pin.name == row.name).map(|pin| &pin.digest);
        let own = self.taken.get(&row.name).copied().or_else(|| self.kept.get(&row.name));
        own.or_else(pinned).unwrap_or(&row.current).clone()
    }
}

impl Orchestrator {
    /// The agents that a plan of the job names, and those that replace built-in ones.
    pub(crate) async fn roster_of(
        &self,
        record: &JobRecord,
        plan: Option<&Plan>,
    ) -> Result<Roster, OrchestrationError> {
        self.roster(&Wanted::by(record), plan).await
    }

    /// As [`Self::roster_of`], of a job that is not there yet.
    pub(crate) async fn roster_before(
        &self,
        tenant: &TenantId,
        kept: &BTreeMap<AgentName, Digest>,
        plan: Option<&Plan>,
    ) -> Result<Roster, OrchestrationError> {
        self.roster(&Wanted { tenant, taken: BTreeMap::new(), kept }, plan).await
    }

    async fn roster(&self, wanted: &Wanted<'_>, plan: Option<&Plan>) -> Result<Roster, OrchestrationError> {
        let pins = self.inner.store.agent_pins(wanted.tenant.clone()).await?;
        let named =
            plan.into_iter().flat_map(|plan| plan.tasks.iter().filter_map(|task| task.agent.as_ref()));
        let replacing = pins.iter().filter(|pin| pin.replaces).map(|pin| &pin.name);
        let names: BTreeSet<&AgentName> = named.chain(replacing).chain(wanted.kept.keys()).collect();
        let mut roster = Roster::default();
        for name in names {
            if let Some(row) = self.inner.store.agent_for(wanted.tenant.clone(), name.clone()).await? {
                self.enlist(&mut roster, wanted, &row, &pins).await?;
            }
        }
        Ok(roster)
    }

    /// Every agent that the job may use.
    pub(crate) async fn roster_of_all(&self, record: &JobRecord) -> Result<Roster, OrchestrationError> {
        let wanted = Wanted::by(record);
        let pins = self.inner.store.agent_pins(record.tenant.clone()).await?;
        let mut roster = Roster::default();
        for (row, current) in self.inner.store.agent_list(Some(record.tenant.clone())).await? {
            if wanted.version(&row, &pins) == row.current {
                roster.agents.insert(row.name, current);
            } else {
                self.enlist(&mut roster, &wanted, &row, &pins).await?;
            }
        }
        Ok(roster)
    }

    async fn enlist(
        &self,
        roster: &mut Roster,
        wanted: &Wanted<'_>,
        row: &AgentRow,
        pins: &[PinRow],
    ) -> Result<(), OrchestrationError> {
        if !row.serves(wanted.tenant) {
            return Ok(());
        }
        let digest = wanted.version(row, pins);
        if let Some(agent) = self.inner.store.agent_version(row.of(), digest).await? {
            if pins.iter().any(|pin| pin.replaces && pin.name == row.name) {
                roster.replacing.insert(agent.manifest.role, row.name.clone());
            }
            roster.agents.insert(row.name.clone(), agent);
        }
        Ok(())
    }
}

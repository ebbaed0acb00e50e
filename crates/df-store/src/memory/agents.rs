//! The registry of agents without a disk.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use df_contract::agent::AgentRef;
use df_contract::{AgentName, Digest, JobId, RegisteredAgent, TaskSlug, TaskState, TenantId};
use df_control_audit::RegistryRecord;

use super::{Memory, put_back};
use crate::agents::{AgentRow, AgentRows, PinRow};
use crate::rows::Kept;

#[derive(Default)]
pub(super) struct Agents {
    rows: BTreeMap<AgentRef, AgentRow>,
    versions: BTreeMap<(AgentRef, Digest, u64), RegisteredAgent>,
    pins: BTreeMap<(TenantId, AgentName), PinRow>,
    signers: BTreeMap<(TenantId, String), String>,
    log: Vec<(Option<AgentRef>, RegistryRecord)>,
}

impl AgentRows for Memory {
    fn agent(&self, of: &AgentRef) -> Kept<Option<AgentRow>> {
        Ok(self.agents.rows.get(of).cloned())
    }

    fn agents_named(&self, name: &AgentName) -> Kept<Vec<AgentRow>> {
        Ok(self.agents.rows.values().filter(|row| row.name == *name).cloned().collect())
    }

    fn agent_write(&mut self, row: &AgentRow) -> Kept<()> {
        let (of, before) = (row.of(), self.agents.rows.insert(row.of(), row.clone()));
        self.undoing(move |memory| put_back(&mut memory.agents.rows, of, before));
        Ok(())
    }

    fn agents(&self, tenant: Option<&TenantId>) -> Kept<Vec<AgentRow>> {
        let rows = self.agents.rows.values();
        let mut rows: Vec<AgentRow> =
            rows.filter(|row| tenant.is_none_or(|tenant| row.serves(tenant))).cloned().collect();
        rows.sort_by(|a, b| (&a.name, &a.tenant).cmp(&(&b.name, &b.tenant)));
        Ok(rows)
    }

    fn agent_version(&self, of: &AgentRef, digest: &Digest) -> Kept<Option<RegisteredAgent>> {
        let key = |number| (of.clone(), digest.clone(), number);
        Ok(self.agents.versions.range(key(0)..=key(u64::MAX)).next_back().map(|(_, version)| version.clone()))
    }

    fn agent_is_off(&self, tenant: &TenantId, name: &AgentName, digest: &Digest) -> Kept<bool> {
        let off = |own: Option<&TenantId>| -> Kept<bool> {
            let of = AgentRef { tenant: own.cloned(), name: name.clone() };
            Ok(self.agent_version(&of, digest)?.is_some_and(|version| !version.enabled))
        };
        Ok(off(Some(tenant))? || off(None)?)
    }

    fn leases_of_disabled(&self) -> Kept<Vec<(JobId, TaskSlug)>> {
        let some_off = |tenant: &TenantId, name: &AgentName| {
            let off = self.agents.versions.iter().filter(|(_, version)| !version.enabled);
            off.into_iter()
                .any(|((of, _, _), _)| of.name == *name && of.tenant.as_ref().is_none_or(|own| own == tenant))
        };
        let mut found = Vec::new();
        for job in self.jobs.values() {
            let record = &job.row.record;
            let held = record.tasks.values().filter(|task| task.state == TaskState::Leased);
            let of =
                held.filter(|task| record.agent_of(task).is_some_and(|a| some_off(&record.tenant, &a.name)));
            found.extend(of.map(|task| (record.id, task.slug.clone())));
        }
        Ok(found)
    }

    fn agent_versions(&self, of: &AgentRef) -> Kept<Vec<RegisteredAgent>> {
        let of_agent = self.agents.versions.iter().filter(|((own, _, _), _)| own == of);
        let mut versions: Vec<_> = of_agent.map(|(_, version)| version.clone()).collect();
        versions.sort_by_key(|v| (Reverse(v.number), Reverse(v.registered_at), v.digest.clone()));
        Ok(versions)
    }

    fn agent_version_insert(&mut self, version: &RegisteredAgent) -> Kept<()> {
        let key = (version.of(), version.digest.clone(), version.number);
        let before = self.agents.versions.insert(key.clone(), version.clone());
        self.undoing(move |memory| put_back(&mut memory.agents.versions, key, before));
        Ok(())
    }

    fn agent_version_switch(&mut self, of: &AgentRef, digest: &Digest, enabled: bool) -> Kept<()> {
        let key = |number| (of.clone(), digest.clone(), number);
        let before: Vec<_> = self
            .agents
            .versions
            .range(key(0)..=key(u64::MAX))
            .map(|(key, version)| (key.clone(), version.clone()))
            .collect();
        for (key, before) in before {
            self.agents.versions.insert(key.clone(), RegisteredAgent { enabled, ..before.clone() });
            self.undoing(move |memory| put_back(&mut memory.agents.versions, key, Some(before)));
        }
        Ok(())
    }

    fn agent_pins(&self, tenant: &TenantId) -> Kept<Vec<PinRow>> {
        let pins = self.agents.pins.iter().filter(|((of, _), _)| of == tenant);
        Ok(pins.map(|(_, pin)| pin.clone()).collect())
    }

    fn agent_pin_write(&mut self, tenant: &TenantId, pin: &PinRow) -> Kept<()> {
        let key = (tenant.clone(), pin.name.clone());
        let before = self.agents.pins.insert(key.clone(), pin.clone());
        self.undoing(move |memory| put_back(&mut memory.agents.pins, key, before));
        Ok(())
    }

    fn agent_pin_delete(&mut self, tenant: &TenantId, name: &AgentName) -> Kept<()> {
        let key = (tenant.clone(), name.clone());
        let before = self.agents.pins.remove(&key);
        self.undoing(move |memory| put_back(&mut memory.agents.pins, key, before));
        Ok(())
    }

    fn signer(&self, tenant: &TenantId, identity: &str) -> Kept<Option<String>> {
        Ok(self.agents.signers.get(&(tenant.clone(), identity.to_owned())).cloned())
    }

    fn signer_write(&mut self, tenant: &TenantId, identity: &str, public_key: &str) -> Kept<()> {
        let key = (tenant.clone(), identity.to_owned());
        let before = self.agents.signers.insert(key.clone(), public_key.to_owned());
        self.undoing(move |memory| put_back(&mut memory.agents.signers, key, before));
        Ok(())
    }

    fn signer_delete(&mut self, tenant: &TenantId, identity: &str) -> Kept<()> {
        let key = (tenant.clone(), identity.to_owned());
        let before = self.agents.signers.remove(&key);
        self.undoing(move |memory| put_back(&mut memory.agents.signers, key, before));
        Ok(())
    }

    fn agent_log_insert(&mut self, record: &RegistryRecord, of: Option<&AgentRef>) -> Kept<()> {
        self.agents.log.push((of.cloned(), record.clone()));
        self.undoing(|memory| drop(memory.agents.log.pop()));
        Ok(())
    }

    fn agent_log(&self, of: Option<&AgentRef>, limit: u32) -> Kept<Vec<RegistryRecord>> {
        let log = self.agents.log.iter().filter(|(about, _)| of.is_none() || about.as_ref() == of);
        let log: Vec<_> = log.map(|(_, record)| record.clone()).collect();
        Ok(log[log.len().saturating_sub(limit as usize)..].to_vec())
    }
}

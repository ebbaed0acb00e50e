//! The registry of agents without a disk.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use df_contract::{AgentName, Digest, RegisteredAgent, TenantId};
use df_control_audit::RegistryRecord;

use super::{Memory, put_back};
use crate::agents::{AgentRow, AgentRows, PinRow, named};
use crate::rows::Kept;

#[derive(Default)]
pub(super) struct Agents {
    rows: BTreeMap<AgentName, AgentRow>,
    versions: BTreeMap<(AgentName, Digest), RegisteredAgent>,
    pins: BTreeMap<(TenantId, AgentName), PinRow>,
    signers: BTreeMap<(TenantId, String), String>,
    log: Vec<RegistryRecord>,
}

impl AgentRows for Memory {
    fn agent(&self, name: &AgentName) -> Kept<Option<AgentRow>> {
        Ok(self.agents.rows.get(name).cloned())
    }

    fn agent_write(&mut self, row: &AgentRow) -> Kept<()> {
        let before = self.agents.rows.insert(row.name.clone(), row.clone());
        let name = row.name.clone();
        self.undoing(move |memory| put_back(&mut memory.agents.rows, name, before));
        Ok(())
    }

    fn agents(&self, tenant: Option<&TenantId>) -> Kept<Vec<AgentRow>> {
        let rows = self.agents.rows.values();
        Ok(rows.filter(|row| tenant.is_none_or(|tenant| row.serves(tenant))).cloned().collect())
    }

    fn agent_version(&self, name: &AgentName, digest: &Digest) -> Kept<Option<RegisteredAgent>> {
        Ok(self.agents.versions.get(&(name.clone(), digest.clone())).cloned())
    }

    fn agent_versions(&self, name: &AgentName) -> Kept<Vec<RegisteredAgent>> {
        let of_name = self.agents.versions.values().filter(|version| version.manifest.name == *name);
        let mut versions: Vec<_> = of_name.cloned().collect();
        versions.sort_by_key(|version| (Reverse(version.registered_at), version.digest.clone()));
        Ok(versions)
    }

    fn agent_version_insert(&mut self, version: &RegisteredAgent) -> Kept<()> {
        let key = (version.manifest.name.clone(), version.digest.clone());
        let before = self.agents.versions.insert(key.clone(), version.clone());
        self.undoing(move |memory| put_back(&mut memory.agents.versions, key, before));
        Ok(())
    }

    fn agent_version_switch(&mut self, name: &AgentName, digest: &Digest, enabled: bool) -> Kept<()> {
        let key = (name.clone(), digest.clone());
        if let Some(before) = self.agents.versions.get(&key).cloned() {
            let now = RegisteredAgent { enabled, ..before.clone() };
            self.agents.versions.insert(key.clone(), now);
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

    fn agent_log_insert(&mut self, record: &RegistryRecord) -> Kept<()> {
        self.agents.log.push(record.clone());
        self.undoing(|memory| drop(memory.agents.log.pop()));
        Ok(())
    }

    fn agent_log(&self, name: Option<&AgentName>, limit: u32) -> Kept<Vec<RegistryRecord>> {
        let of_name = |record: &&RegistryRecord| name.is_none() || named(&record.event) == name;
        let log: Vec<_> = self.agents.log.iter().filter(of_name).cloned().collect();
        Ok(log[log.len().saturating_sub(limit as usize)..].to_vec())
    }
}

//! What was done to the registry of agents: records in one hash chain, and the registry that follows from them.

use std::collections::BTreeMap;

use df_contract::{AgentName, Digest, TenantId, Timestamp, canonical_json};
use serde::{Deserialize, Serialize};

use crate::chain::Tip;

/// Prefix of the hashed bytes, as for the records of jobs.
const LEAF_PREFIX: u8 = 0;

/// One thing that was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum RegistryEvent {
    /// The version is the current one from here on. The actor is the agent's registrant from here on.
    Registered {
        name: AgentName,
        tenant: Option<TenantId>,
        digest: Digest,
        public_key: String,
    },
    /// One version, or every one.
    Enabled {
        name: AgentName,
        digest: Option<Digest>,
    },
    Disabled {
        name: AgentName,
        digest: Option<Digest>,
    },
    Pinned {
        tenant: TenantId,
        name: AgentName,
        digest: Digest,
        replaces: bool,
    },
    Unpinned {
        tenant: TenantId,
        name: AgentName,
    },
    /// The first key of an identity, to which it is kept.
    KeyKept {
        tenant: TenantId,
        identity: String,
        public_key: String,
    },
    KeyForgotten {
        tenant: TenantId,
        identity: String,
    },
}

/// One link of the registry's chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistryRecord {
    /// From 1, without gaps.
    pub seq: u64,
    pub at: Timestamp,
    /// The identity that did it.
    pub actor: String,
    pub event: RegistryEvent,
    /// Hash of the record before; zeros for the first.
    pub prev: Digest,
    /// SHA-256 over 0x00 and the canonical JSON of all other fields.
    pub hash: Digest,
}

#[derive(Serialize)]
struct Hashed<'a> {
    seq: u64,
    at: Timestamp,
    actor: &'a str,
    event: &'a RegistryEvent,
    prev: &'a Digest,
}

/// Why the registry's log does not verify; names the first record that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("record {seq} of the registry of agents: {why}")]
pub struct RegistryError {
    pub seq: u64,
    pub why: String,
}

fn wrong(seq: u64, why: impl Into<String>) -> RegistryError {
    RegistryError { seq, why: why.into() }
}

impl RegistryRecord {
    fn computed_hash(&self) -> Result<Digest, RegistryError> {
        let hashed =
            Hashed { seq: self.seq, at: self.at, actor: &self.actor, event: &self.event, prev: &self.prev };
        let mut bytes = vec![LEAF_PREFIX];
        bytes.extend(canonical_json(&hashed).map_err(|e| wrong(self.seq, e.to_string()))?);
        Ok(Digest::of(&bytes))
    }
}

/// The record that follows `tip`.
pub fn registry_append(
    tip: &Tip,
    at: Timestamp,
    actor: &str,
    event: RegistryEvent,
) -> Result<RegistryRecord, RegistryError> {
    let (seq, actor) = (tip.seq + 1, actor.to_owned());
    let mut record = RegistryRecord { seq, at, actor, event, prev: tip.head.clone(), hash: Digest::zero() };
    record.hash = record.computed_hash()?;
    Ok(record)
}

/// The registry as its log leaves it, and as its tables have it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistryState {
    /// Number and hash of the last record.
    pub last: Option<(u64, Digest)>,
    pub agents: BTreeMap<AgentName, AgentState>,
    pub pins: BTreeMap<TenantId, BTreeMap<AgentName, (Digest, bool)>>,
    /// Public keys, by tenant and identity.
    pub signers: BTreeMap<TenantId, BTreeMap<String, String>>,
}

/// One agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentState {
    pub tenant: Option<TenantId>,
    pub owner: String,
    pub current: Digest,
    pub versions: BTreeMap<Digest, VersionState>,
}

/// One version, as it was registered first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VersionState {
    pub enabled: bool,
    pub registered_by: String,
    pub public_key: String,
}

/// Checks links, hashes and numbers, oldest first, and folds the registry.
pub fn verify_registry<'a>(
    records: impl IntoIterator<Item = &'a RegistryRecord>,
) -> Result<RegistryState, RegistryError> {
    let mut state = RegistryState::default();
    let mut tip = Tip::empty();
    for record in records {
        let seq = tip.seq + 1;
        if record.seq != seq {
            return Err(wrong(seq, format!("is missing, {} comes in its place", record.seq)));
        }
        if record.prev != tip.head {
            return Err(wrong(seq, "does not link to the record before it"));
        }
        if record.computed_hash()? != record.hash {
            return Err(wrong(seq, "does not have the hash it states: it was changed"));
        }
        state.step(record)?;
        tip = Tip { seq, head: record.hash.clone() };
        state.last = Some((seq, record.hash.clone()));
    }
    Ok(state)
}

impl RegistryState {
    fn step(&mut self, record: &RegistryRecord) -> Result<(), RegistryError> {
        let unknown =
            |name: &AgentName| wrong(record.seq, format!("`{name}` or this version was never registered"));
        match record.event.clone() {
            RegistryEvent::Registered { name, tenant, digest, public_key } => {
                let owner = record.actor.clone();
                let version = VersionState { enabled: true, registered_by: owner.clone(), public_key };
                let agent = self.agents.entry(name).or_insert_with(|| AgentState {
                    tenant: tenant.clone(),
                    owner: owner.clone(),
                    current: digest.clone(),
                    versions: BTreeMap::new(),
                });
                if agent.tenant != tenant {
                    return Err(wrong(record.seq, "gives an agent to another tenant"));
                }
                agent.versions.entry(digest.clone()).or_insert(version);
                (agent.owner, agent.current) = (owner, digest);
            }
            RegistryEvent::Enabled { name, digest } => {
                self.switch(&name, digest.as_ref(), true).ok_or_else(|| unknown(&name))?;
            }
            RegistryEvent::Disabled { name, digest } => {
                self.switch(&name, digest.as_ref(), false).ok_or_else(|| unknown(&name))?;
            }
            RegistryEvent::Pinned { tenant, name, digest, replaces } => {
                let known = self.agents.get(&name).is_some_and(|a| a.versions.contains_key(&digest));
                if !known {
                    return Err(unknown(&name));
                }
                self.pins.entry(tenant).or_default().insert(name, (digest, replaces));
            }
            RegistryEvent::Unpinned { tenant, name } => take(&mut self.pins, &tenant, &name),
            RegistryEvent::KeyKept { tenant, identity, public_key } => {
                self.signers.entry(tenant).or_default().insert(identity, public_key);
            }
            RegistryEvent::KeyForgotten { tenant, identity } => take(&mut self.signers, &tenant, &identity),
        }
        Ok(())
    }

    fn switch(&mut self, name: &AgentName, digest: Option<&Digest>, enabled: bool) -> Option<()> {
        let versions = &mut self.agents.get_mut(name)?.versions;
        match digest {
            Some(digest) => versions.get_mut(digest)?.enabled = enabled,
            None => versions.values_mut().for_each(|version| version.enabled = enabled),
        }
        Some(())
    }
}

/// Takes out one entry, and its tenant with the last.
fn take<K: Ord, V>(tenants: &mut BTreeMap<TenantId, BTreeMap<K, V>>, tenant: &TenantId, key: &K) {
    if let Some(of_tenant) = tenants.get_mut(tenant) {
        of_tenant.remove(key);
        if of_tenant.is_empty() {
            tenants.remove(tenant);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registered(name: &str, digest: &str) -> RegistryEvent {
        let (name, digest) = (name.parse().unwrap(), Digest::of(digest.as_bytes()));
        RegistryEvent::Registered { name, tenant: None, digest, public_key: "00".to_owned() }
    }

    fn log(events: Vec<RegistryEvent>) -> Vec<RegistryRecord> {
        let (mut tip, mut log) = (Tip::empty(), Vec::new());
        for event in events {
            let record = registry_append(&tip, Timestamp(5), "alice", event).unwrap();
            tip = Tip { seq: record.seq, head: record.hash.clone() };
            log.push(record);
        }
        log
    }

    #[test]
    fn the_registry_follows_from_its_log() {
        let name: AgentName = "docs-writer".parse().unwrap();
        let tenant: TenantId = "acme".parse().unwrap();
        let (one, two) = (Digest::of(b"1"), Digest::of(b"2"));
        let log = log(vec![
            registered("docs-writer", "1"),
            registered("docs-writer", "2"),
            RegistryEvent::Disabled { name: name.clone(), digest: Some(one.clone()) },
            RegistryEvent::Pinned {
                tenant: tenant.clone(),
                name: name.clone(),
                digest: one.clone(),
                replaces: false,
            },
            RegistryEvent::KeyKept {
                tenant: tenant.clone(),
                identity: "alice".into(),
                public_key: "00".into(),
            },
            RegistryEvent::KeyForgotten { tenant: tenant.clone(), identity: "alice".into() },
        ]);
        let state = verify_registry(&log).unwrap();
        let agent = &state.agents[&name];
        assert_eq!(agent.current, two);
        assert_eq!((agent.versions[&one].enabled, agent.versions[&two].enabled), (false, true));
        assert_eq!(state.pins[&tenant][&name], (one, false));
        assert!(state.signers.is_empty());
    }

    #[test]
    fn a_changed_dropped_or_impossible_record_is_found() {
        let good = log(vec![registered("a", "1"), registered("b", "1"), registered("c", "1")]);
        let broken = |change: &dyn Fn(&mut Vec<RegistryRecord>)| {
            let mut log = good.clone();
            change(&mut log);
            verify_registry(&log).unwrap_err().seq
        };
        assert_eq!(broken(&|log| log[1].actor = "mallory".into()), 2);
        assert_eq!(broken(&|log| drop(log.remove(1))), 2);
        assert_eq!(broken(&|log| log[2].prev = Digest::zero()), 3);
        let never = RegistryEvent::Enabled { name: "z".parse().unwrap(), digest: None };
        assert!(verify_registry(&log(vec![never])).is_err());
    }
}

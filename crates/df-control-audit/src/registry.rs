//! What was done to the registry of agents: records in one hash chain, and the registry that follows from them.

use std::collections::BTreeMap;

use df_contract::agent::AgentRef;
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
        /// Counts the registrations of the name; 0 = from before they were counted.
        #[serde(default, skip_serializing_if = "is_zero")]
        number: u64,
    },
    /// One version, or every one.
    Enabled {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        whose: Option<Whose>,
        name: AgentName,
        digest: Option<Digest>,
    },
    Disabled {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        whose: Option<Whose>,
        name: AgentName,
        digest: Option<Digest>,
        /// Whether it takes an operator to enable it again. Absent in records from when that was not told: then it does
        /// if the actor was not the agent's registrant.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by_operator: Option<bool>,
    },
    Pinned {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        whose: Option<Whose>,
        /// Who keeps to the version.
        tenant: TenantId,
        name: AgentName,
        digest: Digest,
        replaces: bool,
    },
    Unpinned {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        whose: Option<Whose>,
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

/// Whose agent a record is about. Absent in records from when a name was one agent's in the whole installation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Whose {
    Everybody,
    Tenant(TenantId),
}

impl Whose {
    pub fn of(tenant: Option<&TenantId>) -> Self {
        tenant.map_or(Whose::Everybody, |tenant| Whose::Tenant(tenant.clone()))
    }

    fn tenant(&self) -> Option<TenantId> {
        match self {
            Whose::Everybody => None,
            Whose::Tenant(tenant) => Some(tenant.clone()),
        }
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
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
    /// By [`AgentRef`], as text.
    pub agents: BTreeMap<String, AgentState>,
    pub pins: BTreeMap<TenantId, BTreeMap<AgentName, (Digest, bool)>>,
    /// Public keys, by tenant and identity.
    pub signers: BTreeMap<TenantId, BTreeMap<String, String>>,
}

/// One agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentState {
    pub name: AgentName,
    pub tenant: Option<TenantId>,
    pub owner: String,
    pub current: Digest,
    /// Of the last registration.
    pub number: u64,
    /// By number, then digest.
    pub versions: Vec<VersionState>,
}

/// One registration of a version. Of those that are not counted, the first of each digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VersionState {
    pub number: u64,
    pub digest: Digest,
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
            RegistryEvent::Registered { name, tenant, digest, public_key, number } => {
                let version = VersionState {
                    number,
                    digest,
                    enabled: true,
                    registered_by: record.actor.clone(),
                    public_key,
                };
                self.register(AgentRef { tenant, name }, version).map_err(|why| wrong(record.seq, why))?;
            }
            RegistryEvent::Enabled { whose, name, digest } => {
                self.switch(whose.as_ref(), &name, digest.as_ref(), true).ok_or_else(|| unknown(&name))?;
            }
            RegistryEvent::Disabled { whose, name, digest, by_operator: _ } => {
                self.switch(whose.as_ref(), &name, digest.as_ref(), false).ok_or_else(|| unknown(&name))?;
            }
            RegistryEvent::Pinned { whose, tenant, name, digest, replaces } => {
                let agent = self.find(whose.as_ref(), &name).ok_or_else(|| unknown(&name))?;
                if agent.tenant.as_ref().is_some_and(|own| *own != tenant) {
                    return Err(wrong(record.seq, "pins another tenant's agent"));
                }
                if !agent.versions.iter().any(|version| version.digest == digest) {
                    return Err(unknown(&name));
                }
                self.pins.entry(tenant).or_default().insert(name, (digest, replaces));
            }
            RegistryEvent::Unpinned { whose: _, tenant, name } => take(&mut self.pins, &tenant, &name),
            RegistryEvent::KeyKept { tenant, identity, public_key } => {
                self.signers.entry(tenant).or_default().insert(identity, public_key);
            }
            RegistryEvent::KeyForgotten { tenant, identity } => take(&mut self.signers, &tenant, &identity),
        }
        Ok(())
    }

    /// A tenant's name is its own, and everybody's are nobody else's; numbers go up by one.
    fn register(&mut self, of: AgentRef, mut version: VersionState) -> Result<(), &'static str> {
        let meets = |agent: &AgentState| {
            agent.name == of.name
                && agent.tenant != of.tenant
                && (agent.tenant.is_none() || of.tenant.is_none())
        };
        if self.agents.values().any(meets) {
            return Err(
                "takes the name of an agent that is everybody's, or makes everybody's what is a tenant's",
            );
        }
        let agent = self.agents.entry(of.to_string()).or_insert_with(|| AgentState {
            name: of.name,
            tenant: of.tenant,
            owner: version.registered_by.clone(),
            current: version.digest.clone(),
            number: 0,
            versions: Vec::new(),
        });
        let known = agent.versions.iter().rev().find(|known| known.digest == version.digest);
        (agent.owner, agent.current) = (version.registered_by.clone(), version.digest.clone());
        match (known, version.number) {
            (Some(_), 0) if agent.number == 0 => return Ok(()),
            (_, number) if number > 0 && number != agent.number + 1 => {
                return Err("skips or repeats a number");
            }
            (_, 0) if agent.number > 0 => return Err("has no number, and the ones before have"),
            (known, _) => version.enabled = known.is_none_or(|known| known.enabled),
        }
        agent.number = version.number;
        agent.versions.push(version);
        agent.versions.sort_by(|a, b| (a.number, &a.digest).cmp(&(b.number, &b.digest)));
        Ok(())
    }

    fn key(&self, whose: Option<&Whose>, name: &AgentName) -> Option<String> {
        match whose {
            Some(whose) => Some(AgentRef { tenant: whose.tenant(), name: name.clone() }.to_string()),
            None => self.agents.iter().find(|(_, agent)| agent.name == *name).map(|(key, _)| key.clone()),
        }
    }

    fn find(&self, whose: Option<&Whose>, name: &AgentName) -> Option<&AgentState> {
        self.agents.get(&self.key(whose, name)?)
    }

    fn switch(
        &mut self,
        whose: Option<&Whose>,
        name: &AgentName,
        digest: Option<&Digest>,
        enabled: bool,
    ) -> Option<()> {
        let key = self.key(whose, name)?;
        let versions = &mut self.agents.get_mut(&key)?.versions;
        let mut switched = false;
        for version in versions.iter_mut().filter(|version| digest.is_none_or(|d| version.digest == *d)) {
            (version.enabled, switched) = (enabled, true);
        }
        switched.then_some(())
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

    /// As registrations were before they were counted.
    fn registered(name: &str, digest: &str) -> RegistryEvent {
        counted(None, name, digest, 0)
    }

    fn counted(tenant: Option<&str>, name: &str, digest: &str, number: u64) -> RegistryEvent {
        let (name, digest) = (name.parse().unwrap(), Digest::of(digest.as_bytes()));
        let tenant = tenant.map(|tenant| tenant.parse().unwrap());
        RegistryEvent::Registered { name, tenant, digest, public_key: "00".to_owned(), number }
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
            RegistryEvent::Disabled {
                whose: None,
                name: name.clone(),
                digest: Some(one.clone()),
                by_operator: None,
            },
            RegistryEvent::Pinned {
                whose: Some(Whose::Everybody),
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
        let agent = &state.agents["*/docs-writer"];
        assert_eq!(agent.current, two);
        let enabled = |digest: &Digest| agent.versions.iter().find(|v| v.digest == *digest).unwrap().enabled;
        assert_eq!((enabled(&one), enabled(&two)), (false, true));
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
        let never = RegistryEvent::Enabled { whose: None, name: "z".parse().unwrap(), digest: None };
        assert!(verify_registry(&log(vec![never])).is_err());
    }

    #[test]
    fn tenants_may_share_a_name_and_nobody_shares_everybodys() {
        let of = |tenant: &str| Some(Whose::Tenant(tenant.parse().unwrap()));
        let name: AgentName = "a".parse().unwrap();
        let both = [counted(Some("acme"), "a", "1", 1), counted(Some("other"), "a", "2", 1)];
        let (whose, of_name) = (of("other"), name.clone());
        let off = RegistryEvent::Disabled { whose, name: of_name, digest: None, by_operator: Some(false) };
        let state = verify_registry(&log([&both[..], &[off]].concat())).unwrap();
        let enabled = |agent: &str| state.agents[agent].versions[0].enabled;
        assert_eq!((enabled("acme/a"), enabled("other/a")), (true, false));
        let (digest, tenant) = (Digest::of(b"2"), "acme".parse().unwrap());
        let theirs = RegistryEvent::Pinned { whose: of("other"), tenant, name, digest, replaces: false };
        for bad in [counted(None, "a", "3", 1), counted(Some("acme"), "a", "1", 1), theirs] {
            let told = verify_registry(&log([&both[..], &[bad]].concat())).unwrap_err();
            assert_eq!(told.seq, 3, "{told}");
        }
    }

    #[test]
    fn an_earlier_version_comes_back_under_a_new_number_alone() {
        let before = [registered("a", "1"), registered("a", "2"), counted(None, "a", "3", 1)];
        let with = |next: RegistryEvent| verify_registry(&log([&before[..], &[next]].concat()));
        let state = with(counted(None, "a", "1", 2)).unwrap();
        assert_eq!(state.agents["*/a"].versions.len(), 4);
        for number in [0, 1, 3] {
            assert!(with(counted(None, "a", "1", number)).is_err(), "{number}");
        }
    }
}

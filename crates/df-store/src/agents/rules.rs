//! What may be done to the registry, judged and written in one transaction: a refusal writes nothing.

use df_contract::agent::AgentRef;
use df_contract::{AgentName, Digest, RegisteredAgent, Role, TenantId};
use df_control_audit::{RegistryEvent, Whose};

use super::hold::held;
use super::log::log;
use super::{AgentRow, MAX_AGENTS, MAX_VERSIONS, PinRow, RegistryActor, RegistryRefusal, agent_for};
use crate::rows::Kept;
use crate::transition::Tx;

type Judged<T> = Kept<Result<T, RegistryRefusal>>;

fn found(tx: &Tx<'_>, of: &AgentRef) -> Judged<AgentRow> {
    Ok(tx.rows.agent(of)?.ok_or_else(|| RegistryRefusal::Unknown(of.name.clone())))
}

macro_rules! must {
    ($judged:expr) => {
        match $judged {
            Ok(value) => value,
            Err(refusal) => return Ok(Err(refusal)),
        }
    };
}

/// Whether the registrant may have the name. A tenant's agent shadows none of everybody's, nor the other way round: by a
/// name a tenant means one agent.
fn free(
    tx: &Tx<'_>,
    of: &AgentRef,
    before: Option<&AgentRow>,
    actor: &RegistryActor,
    takes_over: bool,
) -> Judged<()> {
    let is_free = match before {
        Some(row) => row.owner == actor.identity || takes_over,
        None => {
            let shadows = |row: &AgentRow| of.tenant.is_none() || row.tenant.is_none();
            !tx.rows.agents_named(&of.name)?.iter().any(shadows)
        }
    };
    Ok(if is_free { Ok(()) } else { Err(RegistryRefusal::Taken(of.name.clone())) })
}

/// Takes a version whose signature was checked. `takes_over`: also a name of somebody else in the tenant, and enabled where
/// an operator has disabled another version.
pub(super) fn register(
    tx: &mut Tx<'_>,
    version: &RegisteredAgent,
    actor: &RegistryActor,
    takes_over: bool,
) -> Judged<RegisteredAgent> {
    let (of, digest) = (version.of(), &version.digest);
    let before = tx.rows.agent(&of)?;
    must!(free(tx, &of, before.as_ref(), actor, takes_over)?);
    let key = tx.rows.signer(&actor.tenant, &actor.identity)?;
    if key.as_ref().is_some_and(|key| *key != version.public_key) {
        return Ok(Err(RegistryRefusal::OtherKey(actor.identity.clone())));
    }
    let known = tx.rows.agent_version(&of, digest)?;
    let row = AgentRow {
        name: of.name.clone(),
        tenant: of.tenant.clone(),
        owner: actor.identity.clone(),
        current: digest.clone(),
        number: version.number,
    };
    // The same registration, sent again.
    if let Some(known) = known.as_ref().filter(|_| before.as_ref() == Some(&row))
        && known.signature == version.signature
    {
        return Ok(Ok(known.clone()));
    }
    let next = before.as_ref().map_or(0, |row| row.number) + 1;
    if version.number != next {
        let (name, signed) = (of.name, version.number);
        return Ok(Err(RegistryRefusal::Number { name, signed, next }));
    }
    must!(room(tx, version, before.is_none())?);
    // What was switched off stays so until it is switched on.
    let is_held = known.is_none() && !takes_over && !held(tx.rows, &of)?.is_empty();
    let enabled = known.map_or(!is_held, |known| known.enabled);
    let version = RegisteredAgent { enabled, ..version.clone() };
    let kept = RegistryEvent::KeyKept {
        tenant: actor.tenant.clone(),
        identity: actor.identity.clone(),
        public_key: version.public_key.clone(),
    };
    let (whose, name, digest) = (Some(Whose::of(of.tenant.as_ref())), of.name, Some(digest.clone()));
    let off = RegistryEvent::Disabled { whose, name, digest, by_operator: Some(true) };
    let is_first_key = key.is_none();
    let events = [is_first_key.then_some(kept), Some(registered(&row, &version)), is_held.then_some(off)];
    log(tx, actor, events.into_iter().flatten().collect())?;
    if is_first_key {
        tx.rows.signer_write(&actor.tenant, &actor.identity, &version.public_key)?;
    }
    tx.rows.agent_write(&row)?;
    tx.rows.agent_version_insert(&version)?;
    Ok(Ok(version))
}

fn registered(row: &AgentRow, version: &RegisteredAgent) -> RegistryEvent {
    RegistryEvent::Registered {
        name: row.name.clone(),
        tenant: row.tenant.clone(),
        digest: row.current.clone(),
        public_key: version.public_key.clone(),
        number: row.number,
    }
}

fn room(tx: &Tx<'_>, version: &RegisteredAgent, new_name: bool) -> Judged<()> {
    let beside = |row: &AgentRow| row.tenant == version.tenant;
    if new_name
        && tx.rows.agents(version.tenant.as_ref())?.iter().filter(|row| beside(row)).count() >= MAX_AGENTS
    {
        return Ok(Err(RegistryRefusal::Full { what: "agents", limit: MAX_AGENTS }));
    }
    if tx.rows.agent_versions(&version.of())?.len() >= MAX_VERSIONS {
        return Ok(Err(RegistryRefusal::Full { what: "versions of this agent", limit: MAX_VERSIONS }));
    }
    Ok(Ok(()))
}

/// `over_others`: by the right to switch anybody's agents. What was disabled by it is enabled by it alone, so it is a change
/// also to disable by it what its registrant has disabled.
pub(super) fn switch(
    tx: &mut Tx<'_>,
    of: &AgentRef,
    digest: Option<&Digest>,
    enabled: bool,
    actor: &RegistryActor,
    over_others: bool,
) -> Judged<()> {
    must!(found(tx, of)?);
    let versions: Vec<RegisteredAgent> = match digest {
        Some(digest) => vec![must!(version_of(tx, of, digest)?)],
        None => tx.rows.agent_versions(of)?,
    };
    let is_so = versions.iter().all(|version| version.enabled == enabled);
    if is_so && (enabled || !over_others) {
        return Ok(Ok(()));
    }
    let held = held(tx.rows, of)?;
    if is_so && versions.iter().all(|version| held.contains(&version.digest)) {
        return Ok(Ok(()));
    }
    if enabled && !over_others && !held.is_empty() {
        return Ok(Err(RegistryRefusal::Held(of.name.clone())));
    }
    let (whose, name, digest) = (Some(Whose::of(of.tenant.as_ref())), of.name.clone(), digest.cloned());
    let event = match enabled {
        true => RegistryEvent::Enabled { whose, name, digest },
        false => RegistryEvent::Disabled { whose, name, digest, by_operator: Some(over_others) },
    };
    log(tx, actor, vec![event])?;
    for version in versions {
        tx.rows.agent_version_switch(of, &version.digest, enabled)?;
    }
    Ok(Ok(()))
}

fn version_of(tx: &Tx<'_>, of: &AgentRef, digest: &Digest) -> Judged<RegisteredAgent> {
    let unknown = || RegistryRefusal::VersionUnknown { name: of.name.clone(), digest: digest.clone() };
    Ok(tx.rows.agent_version(of, digest)?.ok_or_else(unknown))
}

fn found_for(tx: &Tx<'_>, tenant: &TenantId, name: &AgentName) -> Judged<AgentRow> {
    Ok(agent_for(tx.rows, tenant, name)?.ok_or_else(|| RegistryRefusal::Unknown(name.clone())))
}

/// Pins for the actor's tenant. One agent at most replaces the built-in one of a role: the last that was pinned so.
pub(super) fn pin(
    tx: &mut Tx<'_>,
    name: &AgentName,
    digest: Option<Digest>,
    replaces: bool,
    actor: &RegistryActor,
) -> Judged<PinRow> {
    let row = must!(found_for(tx, &actor.tenant, name)?);
    let digest = digest.unwrap_or_else(|| row.current.clone());
    let role = must!(version_of(tx, &row.of(), &digest)?).manifest.role;
    if replaces && role == Role::RegisteredAgent {
        return Ok(Err(RegistryRefusal::ReplacesNobody(name.clone())));
    }
    let pins = tx.rows.agent_pins(&actor.tenant)?;
    let new = PinRow { name: name.clone(), digest, replaces };
    if pins.contains(&new) {
        return Ok(Ok(new));
    }
    let mut written = Vec::new();
    for other in pins.into_iter().filter(|pin| replaces && pin.replaces && pin.name != *name) {
        let Some(of) = agent_for(tx.rows, &actor.tenant, &other.name)?.map(|row| row.of()) else { continue };
        if tx.rows.agent_version(&of, &other.digest)?.is_some_and(|version| version.manifest.role == role) {
            written.push((of.tenant, PinRow { replaces: false, ..other }));
        }
    }
    written.push((row.tenant, new.clone()));
    let event = |(tenant, pin): &(Option<TenantId>, PinRow)| RegistryEvent::Pinned {
        whose: Some(Whose::of(tenant.as_ref())),
        tenant: actor.tenant.clone(),
        name: pin.name.clone(),
        digest: pin.digest.clone(),
        replaces: pin.replaces,
    };
    log(tx, actor, written.iter().map(event).collect())?;
    for (_, pin) in &written {
        tx.rows.agent_pin_write(&actor.tenant, pin)?;
    }
    Ok(Ok(new))
}

pub(super) fn unpin(tx: &mut Tx<'_>, name: &AgentName, actor: &RegistryActor) -> Judged<()> {
    let row = must!(found_for(tx, &actor.tenant, name)?);
    if !tx.rows.agent_pins(&actor.tenant)?.iter().any(|pin| pin.name == *name) {
        return Ok(Err(RegistryRefusal::NotPinned(name.clone())));
    }
    let (whose, tenant) = (Some(Whose::of(row.tenant.as_ref())), actor.tenant.clone());
    log(tx, actor, vec![RegistryEvent::Unpinned { whose, tenant, name: name.clone() }])?;
    tx.rows.agent_pin_delete(&actor.tenant, name)?;
    Ok(Ok(()))
}

pub(super) fn forget_key(
    tx: &mut Tx<'_>,
    tenant: &TenantId,
    identity: &str,
    actor: &RegistryActor,
) -> Judged<()> {
    if tx.rows.signer(tenant, identity)?.is_none() {
        return Ok(Err(RegistryRefusal::NoKey(identity.to_owned())));
    }
    let event = RegistryEvent::KeyForgotten { tenant: tenant.clone(), identity: identity.to_owned() };
    log(tx, actor, vec![event])?;
    tx.rows.signer_delete(tenant, identity)?;
    Ok(Ok(()))
}

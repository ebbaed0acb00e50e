//! What may be done to the registry, judged and written in one transaction: a refusal writes nothing.

use df_contract::{AgentName, Digest, RegisteredAgent, Role, TenantId};
use df_control_audit::RegistryEvent;

use super::log::log;
use super::{AgentRow, MAX_AGENTS, MAX_VERSIONS, PinRow, RegistryActor, RegistryRefusal};
use crate::rows::Kept;
use crate::transition::Tx;

type Judged<T> = Kept<Result<T, RegistryRefusal>>;

fn found(tx: &Tx<'_>, name: &AgentName) -> Judged<AgentRow> {
    Ok(tx.rows.agent(name)?.ok_or_else(|| RegistryRefusal::Unknown(name.clone())))
}

macro_rules! must {
    ($judged:expr) => {
        match $judged {
            Ok(value) => value,
            Err(refusal) => return Ok(Err(refusal)),
        }
    };
}

/// Takes a version whose signature was checked. `takes_over`: also a name of somebody else in the tenant.
pub(super) fn register(
    tx: &mut Tx<'_>,
    version: &RegisteredAgent,
    actor: &RegistryActor,
    takes_over: bool,
) -> Judged<RegisteredAgent> {
    let (name, digest) = (&version.manifest.name, &version.digest);
    let before = tx.rows.agent(name)?;
    let is_free = before
        .as_ref()
        .is_none_or(|row| row.tenant == version.tenant && (row.owner == actor.identity || takes_over));
    if !is_free {
        return Ok(Err(RegistryRefusal::Taken(name.clone())));
    }
    let key = tx.rows.signer(&actor.tenant, &actor.identity)?;
    if key.as_ref().is_some_and(|key| *key != version.public_key) {
        return Ok(Err(RegistryRefusal::OtherKey(actor.identity.clone())));
    }
    let known = tx.rows.agent_version(name, digest)?;
    must!(room(tx, version, before.is_none(), known.is_none())?);
    let row = AgentRow {
        name: name.clone(),
        tenant: version.tenant.clone(),
        owner: actor.identity.clone(),
        current: digest.clone(),
    };
    if before.as_ref() == Some(&row)
        && let Some(known) = known
    {
        return Ok(Ok(known));
    }
    let (tenant, public_key) = (version.tenant.clone(), version.public_key.clone());
    let registered = RegistryEvent::Registered {
        name: name.clone(),
        tenant,
        digest: digest.clone(),
        public_key: public_key.clone(),
    };
    let kept =
        RegistryEvent::KeyKept { tenant: actor.tenant.clone(), identity: actor.identity.clone(), public_key };
    let first = key.is_none();
    log(tx, actor, if first { vec![kept, registered] } else { vec![registered] })?;
    if first {
        tx.rows.signer_write(&actor.tenant, &actor.identity, &version.public_key)?;
    }
    tx.rows.agent_write(&row)?;
    if known.is_none() {
        tx.rows.agent_version_insert(version)?;
    }
    Ok(Ok(known.unwrap_or_else(|| version.clone())))
}

fn room(tx: &Tx<'_>, version: &RegisteredAgent, new_name: bool, new_version: bool) -> Judged<()> {
    let beside = |row: &AgentRow| row.tenant == version.tenant;
    if new_name
        && tx.rows.agents(version.tenant.as_ref())?.iter().filter(|row| beside(row)).count() >= MAX_AGENTS
    {
        return Ok(Err(RegistryRefusal::Full { what: "agents", limit: MAX_AGENTS }));
    }
    if new_version && tx.rows.agent_versions(&version.manifest.name)?.len() >= MAX_VERSIONS {
        return Ok(Err(RegistryRefusal::Full { what: "versions of this agent", limit: MAX_VERSIONS }));
    }
    Ok(Ok(()))
}

pub(super) fn switch(
    tx: &mut Tx<'_>,
    name: &AgentName,
    digest: Option<&Digest>,
    enabled: bool,
    actor: &RegistryActor,
) -> Judged<()> {
    must!(found(tx, name)?);
    let versions: Vec<RegisteredAgent> = match digest {
        Some(digest) => vec![must!(version_of(tx, name, digest)?)],
        None => tx.rows.agent_versions(name)?,
    };
    if versions.iter().all(|version| version.enabled == enabled) {
        return Ok(Ok(()));
    }
    let (of, digest) = (name.clone(), digest.cloned());
    let event = match enabled {
        true => RegistryEvent::Enabled { name: of, digest },
        false => RegistryEvent::Disabled { name: of, digest },
    };
    log(tx, actor, vec![event])?;
    for version in versions {
        tx.rows.agent_version_switch(name, &version.digest, enabled)?;
    }
    Ok(Ok(()))
}

fn version_of(tx: &Tx<'_>, name: &AgentName, digest: &Digest) -> Judged<RegisteredAgent> {
    let unknown = || RegistryRefusal::VersionUnknown { name: name.clone(), digest: digest.clone() };
    Ok(tx.rows.agent_version(name, digest)?.ok_or_else(unknown))
}

/// Pins for the actor's tenant. One agent at most replaces the built-in one of a role: the last that was pinned so.
pub(super) fn pin(
    tx: &mut Tx<'_>,
    name: &AgentName,
    digest: Option<Digest>,
    replaces: bool,
    actor: &RegistryActor,
) -> Judged<PinRow> {
    let row = must!(found(tx, name)?);
    if !row.serves(&actor.tenant) {
        return Ok(Err(RegistryRefusal::Unknown(name.clone())));
    }
    let digest = digest.unwrap_or(row.current);
    let role = must!(version_of(tx, name, &digest)?).manifest.role;
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
        let of = tx.rows.agent_version(&other.name, &other.digest)?;
        if of.is_some_and(|version| version.manifest.role == role) {
            written.push(PinRow { replaces: false, ..other });
        }
    }
    written.push(new.clone());
    let event = |pin: &PinRow| RegistryEvent::Pinned {
        tenant: actor.tenant.clone(),
        name: pin.name.clone(),
        digest: pin.digest.clone(),
        replaces: pin.replaces,
    };
    log(tx, actor, written.iter().map(event).collect())?;
    for pin in &written {
        tx.rows.agent_pin_write(&actor.tenant, pin)?;
    }
    Ok(Ok(new))
}

pub(super) fn unpin(tx: &mut Tx<'_>, name: &AgentName, actor: &RegistryActor) -> Judged<()> {
    if !tx.rows.agent_pins(&actor.tenant)?.iter().any(|pin| pin.name == *name) {
        return Ok(Err(RegistryRefusal::NotPinned(name.clone())));
    }
    log(tx, actor, vec![RegistryEvent::Unpinned { tenant: actor.tenant.clone(), name: name.clone() }])?;
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

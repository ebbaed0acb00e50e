//! The registry of agents: who may put what under which name, decided within the transaction that writes it. Everything
//! that is done to it is a record in a hash chain of its own.

use df_contract::{AgentName, Digest, ErrorCode, RegisteredAgent, Role, TenantId, Timestamp};
use df_control_audit::{RegistryEvent, RegistryRecord, RegistryState, Tip, registry_append};

use crate::rows::{Kept, Rows};
use crate::transition::Tx;
use crate::{Store, StoreError};

/// Most agents of one tenant, and of everybody's.
pub const MAX_AGENTS: usize = 500;
/// Most versions of one agent.
pub const MAX_VERSIONS: usize = 500;
/// Most records of an agent's log that are shown: the last ones.
const MAX_LOG: u32 = 1_000;

/// Where the log has come to: its last number and hash.
const LOG_TIP: &str = "agent_log";

/// A name, whose it is, and which version is current.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentRow {
    pub name: AgentName,
    /// Absent = everybody's.
    pub tenant: Option<TenantId>,
    /// The identity that registered the current version.
    pub owner: String,
    pub current: Digest,
}

impl AgentRow {
    /// Whether jobs of `tenant` may use it.
    pub fn serves(&self, tenant: &TenantId) -> bool {
        self.tenant.as_ref().is_none_or(|own| own == tenant)
    }
}

/// The version that a tenant keeps to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinRow {
    pub name: AgentName,
    pub digest: Digest,
    /// It does the tasks of its role in the place of the built-in one.
    pub replaces: bool,
}

/// Who does something to the registry, and when.
#[derive(Debug, Clone)]
pub struct RegistryActor {
    pub identity: String,
    pub tenant: TenantId,
    pub at: Timestamp,
}

/// Why the registry did not take it. Nothing was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryRefusal {
    #[error("the name `{0}` is somebody else's; choose another")]
    Taken(AgentName),
    #[error("there is no agent `{0}`")]
    Unknown(AgentName),
    #[error("the agent `{name}` has no version {digest}")]
    VersionUnknown { name: AgentName, digest: Digest },
    #[error("`{0}` registered with another key before; sign with that one, or have an admin reset it")]
    OtherKey(String),
    #[error("no key of `{0}` is known")]
    NoKey(String),
    #[error("there are {limit} {what} already, which is the limit")]
    Full { what: &'static str, limit: usize },
    #[error("`{0}` has a role of its own: there is no built-in agent that it could replace")]
    ReplacesNobody(AgentName),
    #[error("the tenant has not pinned `{0}`")]
    NotPinned(AgentName),
}

impl RegistryRefusal {
    /// The stable code this travels under.
    pub const fn code(&self) -> ErrorCode {
        match self {
            RegistryRefusal::Taken(_) => ErrorCode::AgentTaken,
            RegistryRefusal::Unknown(_)
            | RegistryRefusal::VersionUnknown { .. }
            | RegistryRefusal::NotPinned(_) => ErrorCode::AgentUnknown,
            RegistryRefusal::OtherKey(_) => ErrorCode::SignatureInvalid,
            RegistryRefusal::NoKey(_) => ErrorCode::NotFound,
            RegistryRefusal::Full { .. } | RegistryRefusal::ReplacesNobody(_) => ErrorCode::InvalidAgent,
        }
    }
}

type Judged<T> = Kept<Result<T, RegistryRefusal>>;

/// The tables of the registry. Two implementers, as of [`Rows`].
pub(crate) trait AgentRows {
    fn agent(&self, name: &AgentName) -> Kept<Option<AgentRow>>;
    fn agent_write(&mut self, row: &AgentRow) -> Kept<()>;
    /// By name: those that serve `tenant`, or all.
    fn agents(&self, tenant: Option<&TenantId>) -> Kept<Vec<AgentRow>>;
    /// With `enabled` as it is now.
    fn agent_version(&self, name: &AgentName, digest: &Digest) -> Kept<Option<RegisteredAgent>>;
    /// Newest first.
    fn agent_versions(&self, name: &AgentName) -> Kept<Vec<RegisteredAgent>>;
    fn agent_version_insert(&mut self, version: &RegisteredAgent) -> Kept<()>;
    fn agent_version_switch(&mut self, name: &AgentName, digest: &Digest, enabled: bool) -> Kept<()>;
    fn agent_pins(&self, tenant: &TenantId) -> Kept<Vec<PinRow>>;
    fn agent_pin_write(&mut self, tenant: &TenantId, pin: &PinRow) -> Kept<()>;
    fn agent_pin_delete(&mut self, tenant: &TenantId, name: &AgentName) -> Kept<()>;
    fn signer(&self, tenant: &TenantId, identity: &str) -> Kept<Option<String>>;
    fn signer_write(&mut self, tenant: &TenantId, identity: &str, public_key: &str) -> Kept<()>;
    fn signer_delete(&mut self, tenant: &TenantId, identity: &str) -> Kept<()>;
    fn agent_log_insert(&mut self, record: &RegistryRecord) -> Kept<()>;
    /// Oldest first; of one agent its last ones.
    fn agent_log(&self, name: Option<&AgentName>, limit: u32) -> Kept<Vec<RegistryRecord>>;
}

/// The agent that an event is about.
pub(crate) fn named(event: &RegistryEvent) -> Option<&AgentName> {
    match event {
        RegistryEvent::Registered { name, .. }
        | RegistryEvent::Enabled { name, .. }
        | RegistryEvent::Disabled { name, .. }
        | RegistryEvent::Pinned { name, .. }
        | RegistryEvent::Unpinned { name, .. } => Some(name),
        RegistryEvent::KeyKept { .. } | RegistryEvent::KeyForgotten { .. } => None,
    }
}

/// The end of the chain, as it is kept beside it.
pub(crate) fn log_tip(rows: &dyn Rows) -> Kept<Tip> {
    let Some(text) = rows.meta(LOG_TIP)? else { return Ok(Tip::empty()) };
    let parsed = text
        .split_once(' ')
        .and_then(|(seq, head)| Some(Tip { seq: seq.parse().ok()?, head: head.parse().ok()? }));
    parsed.ok_or_else(|| StoreError::Row { table: "meta", why: format!("end of the agents' log `{text}`") })
}

/// The records that are to be written, made before the first of them is.
fn log(tx: &mut Tx<'_>, actor: &RegistryActor, events: Vec<RegistryEvent>) -> Kept<()> {
    let mut tip = log_tip(tx.rows)?;
    let mut records = Vec::with_capacity(events.len());
    for event in events {
        let record = registry_append(&tip, actor.at, &actor.identity, event)
            .map_err(|e| StoreError::Invariant(e.to_string()))?;
        tip = Tip { seq: record.seq, head: record.hash.clone() };
        records.push(record);
    }
    for record in &records {
        tx.rows.agent_log_insert(record)?;
    }
    tx.rows.meta_write(LOG_TIP, &format!("{} {}", tip.seq, tip.head))
}

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
fn register(
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

fn switch(
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
fn pin(
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

fn unpin(tx: &mut Tx<'_>, name: &AgentName, actor: &RegistryActor) -> Judged<()> {
    if !tx.rows.agent_pins(&actor.tenant)?.iter().any(|pin| pin.name == *name) {
        return Ok(Err(RegistryRefusal::NotPinned(name.clone())));
    }
    log(tx, actor, vec![RegistryEvent::Unpinned { tenant: actor.tenant.clone(), name: name.clone() }])?;
    tx.rows.agent_pin_delete(&actor.tenant, name)?;
    Ok(Ok(()))
}

fn forget_key(tx: &mut Tx<'_>, tenant: &TenantId, identity: &str, actor: &RegistryActor) -> Judged<()> {
    if tx.rows.signer(tenant, identity)?.is_none() {
        return Ok(Err(RegistryRefusal::NoKey(identity.to_owned())));
    }
    let event = RegistryEvent::KeyForgotten { tenant: tenant.clone(), identity: identity.to_owned() };
    log(tx, actor, vec![event])?;
    tx.rows.signer_delete(tenant, identity)?;
    Ok(Ok(()))
}

/// The registry of agents.
impl Store {
    /// Registers a version whose signature was checked, makes it the current one, and keeps the registrant to its key.
    /// The same version again changes nothing but which one is current.
    pub async fn agent_register(
        &self,
        version: RegisteredAgent,
        actor: RegistryActor,
        takes_over: bool,
    ) -> Result<Result<RegisteredAgent, RegistryRefusal>, StoreError> {
        self.owner.call(move |tx| register(tx, &version, &actor, takes_over)).await
    }

    /// Enables or disables one version, or every one.
    pub async fn agent_switch(
        &self,
        name: AgentName,
        digest: Option<Digest>,
        enabled: bool,
        actor: RegistryActor,
    ) -> Result<Result<(), RegistryRefusal>, StoreError> {
        self.owner.call(move |tx| switch(tx, &name, digest.as_ref(), enabled, &actor)).await
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

    pub async fn agent(&self, name: AgentName) -> Result<Option<AgentRow>, StoreError> {
        self.read(move |rows| rows.agent(&name)).await
    }

    /// With `enabled` as it is now.
    pub async fn agent_version(
        &self,
        name: AgentName,
        digest: Digest,
    ) -> Result<Option<RegisteredAgent>, StoreError> {
        self.read(move |rows| rows.agent_version(&name, &digest)).await
    }

    /// Newest first.
    pub async fn agent_versions(&self, name: AgentName) -> Result<Vec<RegisteredAgent>, StoreError> {
        self.read(move |rows| rows.agent_versions(&name)).await
    }

    /// By name: the agents that serve `tenant`, or all, each at its current version.
    pub async fn agent_list(
        &self,
        tenant: Option<TenantId>,
    ) -> Result<Vec<(AgentRow, RegisteredAgent)>, StoreError> {
        self.read(move |rows| {
            let mut listed = Vec::new();
            for row in rows.agents(tenant.as_ref())? {
                let current = rows.agent_version(&row.name, &row.current)?;
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
    pub async fn agent_log(&self, name: AgentName) -> Result<Vec<RegistryRecord>, StoreError> {
        self.read(move |rows| rows.agent_log(Some(&name), MAX_LOG)).await
    }
}

/// The tables in the words of the log, and what in them is not as it was signed.
pub(crate) fn tables(
    rows: &dyn Rows,
    pins: Vec<(TenantId, PinRow)>,
    signers: Vec<(TenantId, String, String)>,
) -> Kept<(RegistryState, Vec<String>)> {
    let mut state = RegistryState::default();
    let mut wrong = Vec::new();
    let tip = log_tip(rows)?;
    state.last = (tip.seq > 0).then_some((tip.seq, tip.head));
    for row in rows.agents(None)? {
        let mut versions = std::collections::BTreeMap::new();
        for version in rows.agent_versions(&row.name)? {
            if let Err(error) = version.verify() {
                wrong.push(format!("`{}` version {}: {error}", row.name, version.digest));
            }
            let kept = df_control_audit::VersionState {
                enabled: version.enabled,
                registered_by: version.registered_by,
                public_key: version.public_key,
            };
            versions.insert(version.digest, kept);
        }
        let (tenant, owner, current) = (row.tenant, row.owner, row.current);
        state.agents.insert(row.name, df_control_audit::AgentState { tenant, owner, current, versions });
    }
    for (tenant, pin) in pins {
        state.pins.entry(tenant).or_default().insert(pin.name, (pin.digest, pin.replaces));
    }
    for (tenant, identity, key) in signers {
        state.signers.entry(tenant).or_default().insert(identity, key);
    }
    Ok((state, wrong))
}

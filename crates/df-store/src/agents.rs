//! The registry of agents: who may put what under which name, decided within the transaction that writes it. Everything
//! that is done to it is a record in a hash chain of its own.

mod handle;
mod hold;
mod log;
mod rules;
mod tables;

use df_contract::agent::AgentRef;
use df_contract::{AgentName, Digest, ErrorCode, JobId, RegisteredAgent, TaskSlug, TenantId, Timestamp};
use df_control_audit::RegistryRecord;

use crate::rows::Kept;

pub(crate) use tables::tables;

/// Most agents of one tenant, and of everybody's.
pub const MAX_AGENTS: usize = 500;
/// Most versions of one agent.
pub const MAX_VERSIONS: usize = 500;

/// An agent, and which version is current.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentRow {
    pub name: AgentName,
    /// Absent = everybody's.
    pub tenant: Option<TenantId>,
    /// The identity that registered the current version.
    pub owner: String,
    pub current: Digest,
    /// Of the last registration: none after it has it or a lower one.
    pub number: u64,
}

impl AgentRow {
    pub fn of(&self) -> AgentRef {
        AgentRef { tenant: self.tenant.clone(), name: self.name.clone() }
    }

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
    #[error(
        "an operator has disabled `{0}`: until it is enabled, operators and admins alone enable its versions"
    )]
    Held(AgentName),
    #[error("there is no agent `{0}`")]
    Unknown(AgentName),
    #[error("the agent `{name}` has no version {digest}")]
    VersionUnknown { name: AgentName, digest: Digest },
    #[error(
        "`{name}` has been registered anew: the next registration is number {next}, and {signed} is signed"
    )]
    Number { name: AgentName, signed: u64, next: u64 },
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
            RegistryRefusal::Held(_) => ErrorCode::Forbidden,
            RegistryRefusal::Unknown(_)
            | RegistryRefusal::VersionUnknown { .. }
            | RegistryRefusal::NotPinned(_) => ErrorCode::AgentUnknown,
            RegistryRefusal::OtherKey(_) | RegistryRefusal::Number { .. } => ErrorCode::SignatureInvalid,
            RegistryRefusal::NoKey(_) => ErrorCode::NotFound,
            RegistryRefusal::Full { .. } | RegistryRefusal::ReplacesNobody(_) => ErrorCode::InvalidAgent,
        }
    }
}

/// The agent that `tenant` means by a name: its own or everybody's, of which there is one at most.
pub(crate) fn agent_for(
    rows: &dyn crate::rows::Rows,
    tenant: &TenantId,
    name: &AgentName,
) -> Kept<Option<AgentRow>> {
    let own = rows.agent(&AgentRef { tenant: Some(tenant.clone()), name: name.clone() })?;
    if own.is_some() { Ok(own) } else { rows.agent(&AgentRef { tenant: None, name: name.clone() }) }
}

/// The tables of the registry. Two implementers, as of [`Rows`].
pub(crate) trait AgentRows {
    fn agent(&self, of: &AgentRef) -> Kept<Option<AgentRow>>;
    /// Everybody's and every tenant's of this name.
    fn agents_named(&self, name: &AgentName) -> Kept<Vec<AgentRow>>;
    fn agent_write(&mut self, row: &AgentRow) -> Kept<()>;
    /// By name, then tenant: those that serve `tenant`, or all.
    fn agents(&self, tenant: Option<&TenantId>) -> Kept<Vec<AgentRow>>;
    /// As it was registered last, with `enabled` as it is now.
    fn agent_version(&self, of: &AgentRef, digest: &Digest) -> Kept<Option<RegisteredAgent>>;
    /// Whether it is there and disabled, of `tenant` or of everybody's.
    fn agent_is_off(&self, tenant: &TenantId, name: &AgentName, digest: &Digest) -> Kept<bool>;
    /// Tasks that are held for an agent of which some version is disabled.
    fn leases_of_disabled(&self) -> Kept<Vec<(JobId, TaskSlug)>>;
    /// Newest first.
    fn agent_versions(&self, of: &AgentRef) -> Kept<Vec<RegisteredAgent>>;
    fn agent_version_insert(&mut self, version: &RegisteredAgent) -> Kept<()>;
    fn agent_version_switch(&mut self, of: &AgentRef, digest: &Digest, enabled: bool) -> Kept<()>;
    fn agent_pins(&self, tenant: &TenantId) -> Kept<Vec<PinRow>>;
    fn agent_pin_write(&mut self, tenant: &TenantId, pin: &PinRow) -> Kept<()>;
    fn agent_pin_delete(&mut self, tenant: &TenantId, name: &AgentName) -> Kept<()>;
    fn signer(&self, tenant: &TenantId, identity: &str) -> Kept<Option<String>>;
    fn signer_write(&mut self, tenant: &TenantId, identity: &str, public_key: &str) -> Kept<()>;
    fn signer_delete(&mut self, tenant: &TenantId, identity: &str) -> Kept<()>;
    /// `of`: the agent that it is about.
    fn agent_log_insert(&mut self, record: &RegistryRecord, of: Option<&AgentRef>) -> Kept<()>;
    /// Oldest first; of one agent its last ones.
    fn agent_log(&self, of: Option<&AgentRef>, limit: u32) -> Kept<Vec<RegistryRecord>>;
}

//! Bodies of the HTTP API under `/v1/agents`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{RegisteredAgent, Runtime};
use crate::{AgentName, Digest, Role, TenantId, Timestamp};

/// `POST /v1/agents` and `/v1/agents/global`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentRegister {
    /// An [`super::AgentManifest`]. Read field by field, so that every fault in it is told at once.
    pub manifest: serde_json::Value,
    /// One more than the number of the last registration of this name; 1 for a new name.
    pub number: u64,
    /// Ed25519 public key of the registrant, as hex.
    pub public_key: String,
    /// Signature over [`super::signed_text`], as hex.
    pub signature: String,
}

/// What became of a registration.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct AgentRegistered {
    pub agent: RegisteredAgent,
    /// What the registrant should know, such as that no worker offers the runtime yet.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// `GET /v1/agents`: those that the caller may use.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct AgentPage {
    /// Tenant of the key that asks: what it registers is signed for this tenant.
    pub tenant: TenantId,
    /// Agents that every worker brings.
    pub built_in: Vec<String>,
    pub agents: Vec<AgentSummary>,
}

/// An agent in a list, at its current version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AgentSummary {
    pub name: AgentName,
    /// Absent = everybody's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantId>,
    pub role: Role,
    pub runtime: Runtime,
    pub description: String,
    pub digest: Digest,
    /// The number of the registration.
    pub number: u64,
    pub enabled: bool,
    pub registered_by: String,
    pub registered_at: Timestamp,
    /// The version that the caller's tenant keeps to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<PinView>,
}

/// `GET /v1/agents/{name}`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct AgentView {
    /// The current version.
    pub agent: RegisteredAgent,
    /// Every version, newest first.
    pub versions: Vec<VersionView>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<PinView>,
}

/// One version of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VersionView {
    pub digest: Digest,
    /// The number of the registration; 0 = from before they were counted.
    pub number: u64,
    pub registered_by: String,
    pub registered_at: Timestamp,
    pub enabled: bool,
}

/// `POST /v1/agents/{name}/enable` and `/disable`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AgentSwitch {
    /// One version; absent = every one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
}

/// `POST /v1/agents/{name}/pin`
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AgentPin {
    /// The version to keep to; absent = the current one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// It also does the tasks of its role that name no agent and fit its paths, in the place of the built-in one.
    pub replaces: bool,
}

/// A tenant's pin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PinView {
    pub digest: Digest,
    pub replaces: bool,
}

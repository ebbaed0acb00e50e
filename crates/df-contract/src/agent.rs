//! Manifests of agents: what an agent is, as registered, versioned by digest and signed by who registered it.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{AgentName, Digest, Role, SandboxTier, TenantId, Timestamp};

pub mod api;
mod check;
mod fit;
mod names;
mod seal;
mod tool;
mod within;

pub use check::{
    MAX_AGENT_PATHS, MAX_AGENT_STEPS, MAX_AGENT_WALL_S, MAX_LABELS, MAX_MODELS, MAX_PROMPT_BYTES,
    ManifestError,
};
pub(crate) use check::{MAX_LABEL_BYTES, is_label};
pub use fit::{Absent, AgentMisfit, misfits};
pub use names::{BUILT_IN, is_reserved};
pub use seal::{Registration, SealError, key_id, sign, signed_text};
pub use tool::Tool;
pub use within::pattern_within;

/// How an agent is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Runtime {
    /// The tool loop of the worker.
    Builtin,
    /// An Agent Client Protocol agent in the sandbox.
    Acp,
    /// A program that speaks the contract over stdio, in the sandbox.
    Command,
    /// A worker of its own that pulls leases over HTTP.
    Remote,
}

impl Runtime {
    pub const ALL: &'static [Runtime] = &[Runtime::Builtin, Runtime::Acp, Runtime::Command, Runtime::Remote];
    pub const fn as_str(self) -> &'static str {
        match self {
            Runtime::Builtin => "builtin",
            Runtime::Acp => "acp",
            Runtime::Command => "command",
            Runtime::Remote => "remote",
        }
    }
}

/// Limits of one attempt by the agent; a task's own limits may be lower.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentLimits {
    /// Model calls.
    pub steps: u32,
    /// Wall time in seconds.
    pub wall_s: u64,
}

/// What the sandbox of the agent must offer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SandboxNeeds {
    /// The weakest tier it may run in; a decision may ask for more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_tier: Option<SandboxTier>,
    /// Labels a worker must carry to be given its tasks.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub labels: BTreeSet<String>,
}

/// An agent as its manifest declares it. A manifest can only narrow what its role may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentManifest {
    pub name: AgentName,
    /// `coordinator`, `backend`, `frontend`, `devops`, `qa`, or `registered-agent` for a role of its own.
    pub role: Role,
    /// For whom plans are made: what the agent is good at, in a sentence.
    #[serde(default)]
    pub description: String,
    pub runtime: Runtime,
    /// Names of the tools it may use.
    pub tools: Vec<String>,
    /// Globs it may be given in a plan; required for `registered-agent`, and only ever a narrowing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// Models by preference; the first that the job may use is asked. Empty = the job's model.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    pub limits: AgentLimits,
    #[serde(default)]
    pub sandbox: SandboxNeeds,
    /// The system prompt, in Markdown.
    pub prompt: String,
}

/// A manifest in the registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RegisteredAgent {
    pub manifest: AgentManifest,
    /// SHA-256 of the manifest as canonical JSON: its version.
    pub digest: Digest,
    /// Counts the registrations of the name, from 1. 0 = registered before they were counted: its signature is over the
    /// first form of [`signed_text`].
    #[serde(default, skip_serializing_if = "is_uncounted")]
    pub number: u64,
    /// Whose it is; absent = everybody's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantId>,
    /// The identity that registered it.
    pub registered_by: String,
    pub registered_at: Timestamp,
    /// Ed25519 public key of that identity, as hex.
    pub public_key: String,
    /// Ed25519 signature over [`signed_text`], as hex.
    pub signature: String,
    pub enabled: bool,
}

fn is_uncounted(number: &u64) -> bool {
    *number == 0
}

/// An agent among all of an installation: whose it is, and its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AgentRef {
    /// Absent = everybody's.
    pub tenant: Option<TenantId>,
    pub name: AgentName,
}

impl std::fmt::Display for AgentRef {
    /// `acme/docs-writer`, or `*/docs-writer` for everybody's.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.tenant.as_ref().map_or("*", TenantId::as_str), self.name)
    }
}

impl RegisteredAgent {
    /// Which agent it is a version of.
    pub fn of(&self) -> AgentRef {
        AgentRef { tenant: self.tenant.clone(), name: self.manifest.name.clone() }
    }
}

/// What a coordinator is told about a registered agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentOffer {
    pub name: AgentName,
    pub role: Role,
    pub description: String,
    pub paths: Vec<String>,
}

/// The agent that was chosen for a task, and all that placing and paying for the task needs to know of it. Chosen when
/// the plan is judged, so that what people approve is what runs, whatever is registered later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AssignedAgent {
    pub name: AgentName,
    pub digest: Digest,
    pub runtime: Runtime,
    #[serde(default)]
    pub sandbox: SandboxNeeds,
    /// The first of its preferences that the job may use; absent = the job's model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

impl AgentManifest {
    /// SHA-256 of the manifest as canonical JSON: its version.
    pub fn digest(&self) -> Result<Digest, crate::canonical::CanonicalError> {
        crate::digest_json(self)
    }

    /// What a coordinator may know of it.
    pub fn offer(&self) -> AgentOffer {
        AgentOffer {
            name: self.name.clone(),
            role: self.role,
            description: self.description.clone(),
            paths: self.paths.clone(),
        }
    }

    /// As the agent of a task of a job that may use `models`; `None` = any.
    pub fn assigned(&self, digest: Digest, models: Option<&BTreeSet<String>>) -> AssignedAgent {
        let may_use = |model: &&String| models.is_none_or(|allowed| allowed.contains(*model));
        AssignedAgent {
            name: self.name.clone(),
            digest,
            runtime: self.runtime,
            sandbox: self.sandbox.clone(),
            model: self.models.iter().find(may_use).cloned(),
        }
    }
}

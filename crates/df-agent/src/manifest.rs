//! Manifests of agents, ready to run: the built-in ones, which are part of the program, and registered ones, which come
//! with their tasks.
//!
//! What makes a manifest valid is said once, in df-contract. A manifest can only narrow: what its role may never do, no
//! manifest grants.

use df_contract::agent::{AgentLimits, ManifestError as Fault, Runtime, Tool};
use df_contract::{AgentManifest, AgentTask, Digest, Role};
use serde::Deserialize as _;

/// Why an agent cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("the manifest cannot be read: {0}")]
    Parse(#[from] toml::de::Error),
    #[error("the manifest is not valid: {}", told(.0))]
    Invalid(Vec<Fault>),
    #[error("the manifest has no digest: {0}")]
    Digest(#[from] df_contract::canonical::CanonicalError),
    #[error("the manifest of the agent `{0}` is not the one that is registered under its digest")]
    NotAsRegistered(String),
    #[error("this worker does not run agents of the runtime `{}`", .0.as_str())]
    Runtime(Runtime),
    #[error("there is no built-in agent for the role `{}`", .0.as_str())]
    NotBuiltIn(Role),
}

fn told(faults: &[Fault]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// An agent, ready to be given tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    pub name: String,
    pub role: Role,
    pub runtime: Runtime,
    /// In the order of [`Tool::ALL`], without repeats.
    pub tools: Vec<Tool>,
    pub limits: AgentLimits,
    /// What it may write at most, as globs; empty = what its task may.
    pub paths: Vec<String>,
    /// The system prompt as models see it.
    pub prompt: String,
    /// The agent's version.
    pub digest: Digest,
}

impl Manifest {
    /// The agent that is to do a task. A registered one must be the one that was registered, byte for byte.
    pub fn of(task: &AgentTask) -> Result<Self, ManifestError> {
        let Some(manifest) = &task.agent else {
            return Self::built_in(task.r#type)?.ok_or(ManifestError::NotBuiltIn(task.r#type));
        };
        if task.agent_digest.as_ref() != Some(&manifest.digest()?) {
            return Err(ManifestError::NotAsRegistered(manifest.name.to_string()));
        }
        let faults = manifest.validate();
        if !faults.is_empty() {
            return Err(ManifestError::Invalid(faults));
        }
        match manifest.runtime {
            Runtime::Builtin => Self::ready(AgentManifest::clone(manifest)),
            other @ (Runtime::Acp | Runtime::Command | Runtime::Remote) => Err(ManifestError::Runtime(other)),
        }
    }

    /// The built-in agent for a role; `None` for roles that are not built in.
    pub fn built_in(role: Role) -> Result<Option<Self>, ManifestError> {
        built_in_files(role).map(|(document, prompt)| Self::parse(document, prompt)).transpose()
    }

    /// Reads a built-in agent's `agent.toml` and its prompt.
    fn parse(document: &str, prompt: &str) -> Result<Self, ManifestError> {
        let mut table: toml::Table = toml::from_str(document)?;
        table.insert("prompt".to_owned(), prompt.to_owned().into());
        let manifest = AgentManifest::deserialize(table)?;
        let faults = manifest.check();
        if faults.is_empty() { Self::ready(manifest) } else { Err(ManifestError::Invalid(faults)) }
    }

    fn ready(manifest: AgentManifest) -> Result<Self, ManifestError> {
        let digest = manifest.digest()?;
        let has = |tool: &Tool| manifest.tools.iter().any(|name| name == tool.as_str());
        Ok(Self {
            name: manifest.name.to_string(),
            role: manifest.role,
            runtime: manifest.runtime,
            tools: Tool::ALL.iter().copied().filter(has).collect(),
            limits: manifest.limits,
            paths: manifest.paths,
            prompt: format!("{}\n{}", manifest.prompt, rules(manifest.role)),
            digest,
        })
    }
}

/// What every agent of a role is told after its own prompt: how the tools and the factory work.
fn rules(role: Role) -> &'static str {
    match role {
        Role::Coordinator => include_str!("../../../agents/coordinator/plan-rules.md"),
        Role::Backend
        | Role::Frontend
        | Role::Devops
        | Role::Qa
        | Role::RegisteredAgent
        | Role::Governance
        | Role::Worker
        | Role::Proxy
        | Role::Deployer
        | Role::Submitter
        | Role::Approver
        | Role::Operator
        | Role::Auditor
        | Role::Viewer
        | Role::Admin => include_str!("../../../agents/working-rules.md"),
    }
}

macro_rules! files {
    ($name:literal) => {
        Some((
            include_str!(concat!("../../../agents/", $name, "/agent.toml")),
            include_str!(concat!("../../../agents/", $name, "/prompt.md")),
        ))
    };
}

fn built_in_files(role: Role) -> Option<(&'static str, &'static str)> {
    match role {
        Role::Coordinator => files!("coordinator"),
        Role::Backend => files!("backend"),
        Role::Frontend => files!("frontend"),
        Role::Devops => files!("devops"),
        Role::Qa => files!("qa"),
        Role::RegisteredAgent
        | Role::Governance
        | Role::Worker
        | Role::Proxy
        | Role::Deployer
        | Role::Submitter
        | Role::Approver
        | Role::Operator
        | Role::Auditor
        | Role::Viewer
        | Role::Admin => None,
    }
}

#[cfg(test)]
mod tests;

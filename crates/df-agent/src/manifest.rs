//! Manifests of agents: role, tools, limits and prompt, versioned by digest.
//!
//! A manifest can only narrow: what its role may never do, no manifest grants.

use df_contract::{Digest, DurationMs, Role};
use serde::Deserialize;

use crate::tools::Tool;

/// Most steps and longest wall time a manifest may ask for.
pub const STEPS_MAX: u32 = 500;
pub const WALL_MAX: DurationMs = DurationMs::from_secs(6 * 60 * 60);

/// Why a manifest was refused.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("the manifest cannot be read: {0}")]
    Parse(#[from] toml::de::Error),
    #[error("agent `{name}`: role `{}` is not a role of an agent", role.as_str())]
    NotAnAgent { name: String, role: Role },
    #[error("agent `{name}`: role `{}` may not have the tool `{tool}`", role.as_str())]
    ToolOutsideRole { name: String, role: Role, tool: &'static str },
    #[error("agent `{name}`: it needs the tool `{tool}` to end its work")]
    NoEnd { name: String, tool: &'static str },
    #[error("agent `{name}`: {what} must be between 1 and {limit}")]
    Limit { name: String, what: &'static str, limit: u64 },
    #[error("agent `{0}` has an empty prompt")]
    NoPrompt(String),
}

/// How an agent is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Runtime {
    /// The loop of this crate.
    Builtin,
}

/// Limits of the agent itself; a task's limits may be lower.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestLimits {
    /// Model calls in one attempt.
    pub steps: u32,
    /// Wall time of one attempt, in seconds.
    pub wall_s: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    name: String,
    role: Role,
    runtime: Runtime,
    tools: Vec<Tool>,
    limits: ManifestLimits,
}

/// An agent, ready to be given tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    pub name: String,
    pub role: Role,
    pub runtime: Runtime,
    /// In the order of [`Tool::ALL`], without repeats.
    pub tools: Vec<Tool>,
    pub limits: ManifestLimits,
    /// The system prompt.
    pub prompt: String,
    /// Over manifest and prompt: the agent's version.
    pub digest: Digest,
}

impl Manifest {
    /// Reads `agent.toml` and its prompt.
    pub fn parse(document: &str, prompt: &str) -> Result<Self, ManifestError> {
        let Document { name, role, runtime, tools, limits } = toml::from_str(document)?;
        let end = match role {
            Role::Coordinator => Tool::ProposePlan,
            Role::Backend | Role::Frontend | Role::Devops | Role::Qa | Role::RegisteredAgent => Tool::Finish,
            Role::Governance
            | Role::Worker
            | Role::Proxy
            | Role::Deployer
            | Role::Submitter
            | Role::Approver
            | Role::Operator
            | Role::Auditor
            | Role::Viewer
            | Role::Admin => return Err(ManifestError::NotAnAgent { name, role }),
        };
        if let Some(tool) = tools.iter().find(|tool| !tool.allowed(role)) {
            return Err(ManifestError::ToolOutsideRole { name, role, tool: tool.name() });
        }
        if !tools.contains(&end) {
            return Err(ManifestError::NoEnd { name, tool: end.name() });
        }
        let wall_max_s = WALL_MAX.0 / 1000;
        for (what, got, limit) in [
            ("limits.steps", u64::from(limits.steps), u64::from(STEPS_MAX)),
            ("limits.wall_s", limits.wall_s, wall_max_s),
        ] {
            if got == 0 || got > limit {
                return Err(ManifestError::Limit { name, what, limit });
            }
        }
        if prompt.trim().is_empty() {
            return Err(ManifestError::NoPrompt(name));
        }
        let digest = Digest::of(format!("{document}\0{prompt}").as_bytes());
        let tools = Tool::ALL.iter().copied().filter(|tool| tools.contains(tool)).collect();
        Ok(Self { name, role, runtime, tools, limits, prompt: prompt.to_owned(), digest })
    }

    /// The built-in agent for a role; `None` for roles that are not built in.
    pub fn built_in(role: Role) -> Result<Option<Self>, ManifestError> {
        built_in_files(role).map(|(document, prompt)| Self::parse(document, prompt)).transpose()
    }
}

macro_rules! files {
    ($name:literal, $rules:literal) => {
        Some((
            include_str!(concat!("../../../agents/", $name, "/agent.toml")),
            concat!(
                include_str!(concat!("../../../agents/", $name, "/prompt.md")),
                "\n",
                include_str!(concat!("../../../agents/", $rules))
            ),
        ))
    };
}

fn built_in_files(role: Role) -> Option<(&'static str, &'static str)> {
    match role {
        Role::Coordinator => files!("coordinator", "coordinator/plan-rules.md"),
        Role::Backend => files!("backend", "working-rules.md"),
        Role::Frontend => files!("frontend", "working-rules.md"),
        Role::Devops => files!("devops", "working-rules.md"),
        Role::Qa => files!("qa", "working-rules.md"),
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
mod tests {
    use super::*;

    const GOOD: &str = r#"
name = "x"
role = "qa"
runtime = "builtin"
tools = ["finish", "read", "write"]
[limits]
steps = 10
wall_s = 60
"#;

    fn check(from: &str, to: &str, expect: &str) {
        let error = Manifest::parse(&GOOD.replace(from, to), "p").unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
    }

    #[test]
    fn the_five_built_in_agents_stay_within_their_roles() {
        for role in [Role::Coordinator, Role::Backend, Role::Frontend, Role::Devops, Role::Qa] {
            let manifest = Manifest::built_in(role).unwrap().unwrap();
            assert_eq!(manifest.role, role);
            assert_eq!(manifest.name, role.as_str());
            for tool in &manifest.tools {
                assert!(tool.allowed(role), "{role:?} {tool:?}");
            }
            assert!(manifest.prompt.len() > 500, "{role:?}");
        }
        assert_eq!(Manifest::built_in(Role::Admin).unwrap(), None);
    }

    #[test]
    fn the_coordinator_can_neither_write_nor_run() {
        let tools = Manifest::built_in(Role::Coordinator).unwrap().unwrap().tools;
        assert_eq!(tools, [Tool::Read, Tool::Glob, Tool::Grep, Tool::ProposePlan]);
    }

    #[test]
    fn manifests_that_ask_too_much_or_make_no_sense_are_refused() {
        let good = Manifest::parse(GOOD, "p").unwrap();
        assert_eq!(good.tools, [Tool::Read, Tool::Write, Tool::Finish]);
        check("\"qa\"", "\"coordinator\"", "may not have the tool `finish`");
        check("\"write\"", "\"propose_plan\"", "may not have the tool `propose_plan`");
        check("\"qa\"", "\"deployer\"", "not a role of an agent");
        check("\"finish\", ", "", "needs the tool `finish`");
        check("\"write\"", "\"deploy\"", "cannot be read");
        check("steps = 10", "steps = 0", "limits.steps");
        check("wall_s = 60", "wall_s = 999999", "limits.wall_s");
        check("name = \"x\"", "name = \"x\"\nnetwork = true", "unknown field `network`");
        assert!(Manifest::parse(GOOD, " ").is_err());
    }

    #[test]
    fn the_digest_covers_manifest_and_prompt() {
        let digest = |document: &str, prompt: &str| Manifest::parse(document, prompt).unwrap().digest;
        assert_ne!(digest(GOOD, "p"), digest(GOOD, "q"));
        assert_ne!(digest(GOOD, "p"), digest(&GOOD.replace("10", "11"), "p"));
    }
}

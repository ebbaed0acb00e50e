//! Names that no registered agent may take.

use crate::{AgentName, Role};

/// The agents that every worker brings. They are part of the program and of no registry.
pub const BUILT_IN: &[&str] = &["coordinator", "backend", "frontend", "devops", "qa"];

/// Words of the factory itself, which must not be mistaken for an agent in logs, plans and addresses.
const FACTORY: &[&str] = &[
    "agent",
    "agents",
    "builtin",
    "daemon",
    "deliver",
    "devfactory",
    "devfactoryd",
    "factory",
    "global",
    "intake",
    "integrate",
    "log",
    "plan",
    "reaper",
    "resolve",
    "rework",
    "signers",
    "system",
    "validate",
];

/// Whether the name is a built-in agent's, a role's, or one of the factory's own words.
pub fn is_reserved(name: &AgentName) -> bool {
    let name = name.as_str();
    BUILT_IN.contains(&name) || FACTORY.contains(&name) || Role::parse(name).is_some()
}

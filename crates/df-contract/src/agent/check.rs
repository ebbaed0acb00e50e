//! Is a manifest one that can be registered? Everything that is wrong with it is told at once.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{AgentManifest, Runtime, Tool, is_reserved};
use crate::access::role_may_claim;
use crate::plan::is_tree_pattern;
use crate::{AgentName, Role};

/// Most model calls, and longest wall time in seconds, that a manifest may ask for in one attempt.
pub const MAX_AGENT_STEPS: u32 = 500;
pub const MAX_AGENT_WALL_S: u64 = 6 * 60 * 60;
/// Longest system prompt, in bytes.
pub const MAX_PROMPT_BYTES: usize = 64 * 1024;
/// Most paths, models and labels of one manifest.
pub const MAX_AGENT_PATHS: usize = 64;
pub const MAX_MODELS: usize = 16;
pub const MAX_LABELS: usize = 16;
/// Longest description, name of a model and label, in bytes.
const MAX_DESCRIPTION_BYTES: usize = 500;
const MAX_MODEL_BYTES: usize = 200;
pub(crate) const MAX_LABEL_BYTES: usize = 48;

/// One thing wrong with a manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    #[error("the manifest cannot be read: {0}")]
    Unreadable(String),
    #[error("unknown field `{0}`")]
    UnknownField(String),
    #[error("`{0}` is missing")]
    Missing(String),
    #[error("`{0}` is the name of a built-in agent, of a role or of a part of the factory; choose another")]
    Reserved(AgentName),
    #[error("role `{}` is not a role of an agent", .0.as_str())]
    NotAnAgent(Role),
    #[error("there is no tool `{0}`")]
    UnknownTool(String),
    #[error("the tool `{0}` is listed twice")]
    RepeatedTool(String),
    #[error("role `{}` may not have the tool `{tool}`", role.as_str())]
    ToolOutsideRole { role: Role, tool: Tool },
    #[error("it needs the tool `{0}` to end its work")]
    NoEnd(Tool),
    #[error("{what} must be between 1 and {limit}")]
    Limit { what: &'static str, limit: u64 },
    #[error("the prompt is empty")]
    NoPrompt,
    #[error("{what} has {got} bytes or items, the limit is {limit}")]
    TooLarge { what: &'static str, got: usize, limit: usize },
    #[error("`description` must be one line")]
    Description,
    #[error("path `{0}` is not a relative path pattern inside the tree")]
    BadPath(String),
    #[error("role `{}` may not write `{path}`", role.as_str())]
    PathOutsideRole { role: Role, path: String },
    #[error("the role `registered-agent` has no rights of its own: say in `paths` what it may write")]
    NoPaths,
    #[error("label `{0}` is malformed; use lower-case letters, digits, single hyphens, at most 48 bytes")]
    BadLabel(String),
    #[error("`{0}` is no name of a model")]
    BadModel(String),
    #[error("the model `{0}` is listed twice")]
    RepeatedModel(String),
}

/// The fields of a manifest and of its tables; a field that must be there is marked.
const FIELDS: &[(&str, bool)] = &[
    ("name", true),
    ("role", true),
    ("description", false),
    ("runtime", true),
    ("tools", true),
    ("paths", false),
    ("models", false),
    ("limits", true),
    ("sandbox", false),
    ("prompt", false),
];
const LIMITS: &[(&str, bool)] = &[("steps", true), ("wall_s", true)];
const SANDBOX: &[(&str, bool)] = &[("min_tier", false), ("labels", false)];

impl AgentManifest {
    /// Reads a manifest from whatever was sent, and checks it. A prompt that is not there counts as an empty one.
    pub fn read(value: &Value) -> Result<Self, Vec<ManifestError>> {
        let mut found = Vec::new();
        let mut value = value.clone();
        sift(&mut value, "", FIELDS, &mut found);
        for (table, fields) in [("limits", LIMITS), ("sandbox", SANDBOX)] {
            if let Some(inner) = value.get_mut(table) {
                sift(inner, table, fields, &mut found);
            }
        }
        if let Some(fields) = value.as_object_mut() {
            fields.entry("prompt").or_insert_with(|| Value::String(String::new()));
        }
        let incomplete = found.iter().any(|e| matches!(e, ManifestError::Missing(_)));
        match serde_json::from_value::<Self>(value) {
            Ok(manifest) => {
                found.extend(manifest.validate());
                if found.is_empty() { Ok(manifest) } else { Err(found) }
            }
            Err(_) if incomplete => Err(found),
            Err(error) => {
                found.push(ManifestError::Unreadable(error.to_string()));
                Err(found)
            }
        }
    }

    /// Everything that is wrong with it; empty = it may be registered.
    pub fn validate(&self) -> Vec<ManifestError> {
        let mut found = Vec::new();
        if is_reserved(&self.name) {
            found.push(ManifestError::Reserved(self.name.clone()));
        }
        found.extend(self.check());
        found
    }

    /// [`Self::validate`] without regard to the name: the built-in agents have reserved ones.
    pub fn check(&self) -> Vec<ManifestError> {
        let mut found = Vec::new();
        if self.prompt.trim().is_empty() {
            found.push(ManifestError::NoPrompt);
        }
        if self.description.chars().any(char::is_control) {
            found.push(ManifestError::Description);
        }
        for (what, got, limit) in [
            ("the prompt", self.prompt.len(), MAX_PROMPT_BYTES),
            ("`description`", self.description.len(), MAX_DESCRIPTION_BYTES),
            ("`tools`", self.tools.len(), Tool::ALL.len()),
            ("`paths`", self.paths.len(), MAX_AGENT_PATHS),
            ("`models`", self.models.len(), MAX_MODELS),
            ("`sandbox.labels`", self.sandbox.labels.len(), MAX_LABELS),
        ] {
            if got > limit {
                found.push(ManifestError::TooLarge { what, got, limit });
            }
        }
        for (what, got, limit) in [
            ("`limits.steps`", u64::from(self.limits.steps), u64::from(MAX_AGENT_STEPS)),
            ("`limits.wall_s`", self.limits.wall_s, MAX_AGENT_WALL_S),
        ] {
            if got == 0 || got > limit {
                found.push(ManifestError::Limit { what, limit });
            }
        }
        match Tool::end_of(self.role) {
            Some(end) => self.check_rights(end, &mut found),
            None => found.push(ManifestError::NotAnAgent(self.role)),
        }
        self.check_lists(&mut found);
        found
    }

    /// Tools and paths: a manifest narrows its role and never widens it.
    fn check_rights(&self, end: Tool, found: &mut Vec<ManifestError>) {
        let mut seen = BTreeSet::new();
        for name in &self.tools {
            match Tool::parse(name) {
                None => found.push(ManifestError::UnknownTool(name.clone())),
                Some(_) if !seen.insert(name) => found.push(ManifestError::RepeatedTool(name.clone())),
                Some(tool) if !tool.allowed(self.role) => {
                    found.push(ManifestError::ToolOutsideRole { role: self.role, tool });
                }
                Some(_) => {}
            }
        }
        // Agents of other runtimes end their work in their own way.
        if self.runtime == Runtime::Builtin && !self.tools.iter().any(|t| t == end.as_str()) {
            found.push(ManifestError::NoEnd(end));
        }
        if self.role == Role::RegisteredAgent && self.paths.is_empty() {
            found.push(ManifestError::NoPaths);
        }
        for path in &self.paths {
            if !is_tree_pattern(path) {
                found.push(ManifestError::BadPath(path.clone()));
            } else if !role_may_claim(self.role, path) {
                found.push(ManifestError::PathOutsideRole { role: self.role, path: path.clone() });
            }
        }
    }

    fn check_lists(&self, found: &mut Vec<ManifestError>) {
        let mut seen = BTreeSet::new();
        for model in &self.models {
            let odd = |c: char| c.is_control() || c.is_whitespace();
            if model.is_empty() || model.len() > MAX_MODEL_BYTES || model.contains(odd) {
                found.push(ManifestError::BadModel(model.clone()));
            } else if !seen.insert(model) {
                found.push(ManifestError::RepeatedModel(model.clone()));
            }
        }
        let bad = |label: &&String| !is_label(label);
        found.extend(self.sandbox.labels.iter().filter(bad).cloned().map(ManifestError::BadLabel));
    }
}

/// Whether a worker may carry such a label: it has the form of a name.
pub(crate) fn is_label(label: &str) -> bool {
    label.len() <= MAX_LABEL_BYTES && label.parse::<AgentName>().is_ok()
}

/// Takes out the fields that are not known, and tells of them and of those that are missing.
fn sift(value: &mut Value, table: &str, fields: &[(&str, bool)], found: &mut Vec<ManifestError>) {
    let Some(object) = value.as_object_mut() else { return };
    let path = |name: &str| if table.is_empty() { name.to_owned() } else { format!("{table}.{name}") };
    object.retain(|name, _| {
        let known = fields.iter().any(|(field, _)| field == name);
        if !known {
            found.push(ManifestError::UnknownField(path(name)));
        }
        known
    });
    for (name, _) in fields.iter().filter(|(name, must)| *must && !object.contains_key(*name)) {
        found.push(ManifestError::Missing(path(name)));
    }
}

#[cfg(test)]
mod tests;

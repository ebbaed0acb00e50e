//! Typed facts made in the execution plane and judged in the control plane.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{CheckResult, Digest};

/// A dependency as a manifest or lock file states it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DependencyFact {
    /// `pypi`, `npm`, `cargo`.
    pub ecosystem: String,
    pub name: String,
    /// The requirement or pinned version, as written.
    pub requirement: String,
    /// The file that says so.
    pub file: String,
}

/// A secret-looking text found in a file. The text itself is never carried.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretFact {
    pub rule: String,
    pub file: String,
    pub line: u32,
}

/// A port that a container or compose file opens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PortFact {
    pub port: u16,
    pub file: String,
}

/// What a tree contains, read without running anything of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceFacts {
    pub files: u64,
    pub bytes: u64,
    /// Files per language, by extension: `python`, `rust`, ...
    pub languages: BTreeMap<String, u64>,
    pub manifests: BTreeSet<String>,
    pub dependencies: Vec<DependencyFact>,
    /// SPDX expressions found in licence files and manifests; file → expression.
    pub licences: BTreeMap<String, String>,
    pub infra_files: BTreeSet<String>,
    pub ports: Vec<PortFact>,
    pub secrets: Vec<SecretFact>,
    /// Files that could not be parsed, with why: never silently skipped.
    pub unreadable: BTreeMap<String, String>,
}

/// What the validate lease found about the finished tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GateFacts {
    pub acceptance: Vec<CheckResult>,
    /// Ids and outcomes only; output of hidden checks never leaves the worker.
    pub hidden: Vec<CheckResult>,
    pub source: SourceFacts,
    /// Paths changed against the base.
    pub changed_paths: BTreeSet<String>,
    /// Digest of the tree's git bundle.
    pub artefact: Digest,
}

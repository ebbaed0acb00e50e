//! The canonical facts a decision is made on, and the limits the operator sets.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use df_contract::canonical::CanonicalError;
use df_contract::decision::SandboxTier;
use df_contract::job::RetryOverride;
use df_contract::{
    Budget, Digest, DurationMs, FailureKind, JobSpec, NanoUsd, Source, SourceFacts, TenantId, Tokens,
    digest_json,
};
use serde::{Deserialize, Serialize};

use crate::text::TextFacts;

/// Everything about a job that governance judges. Its canonical JSON is what a pack sees as `input.job`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobFacts {
    /// Digest of the submission as a whole.
    pub spec: Digest,
    pub tenant: TenantId,
    pub submitter: String,
    pub title: String,
    /// Title, description, plan and visible commands, read for policies. Hidden checks stay hidden.
    pub text: TextFacts,
    pub capabilities: CapabilityFacts,
    pub budget: Budget,
    pub origin: Source,
    pub source: SourceFacts,
    pub stack: BTreeSet<String>,
    pub delivery: BTreeSet<String>,
    pub protected_paths: BTreeSet<String>,
    pub acceptance_checks: u32,
    pub hidden_checks: u32,
    pub plan_supplied: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Other numbers of attempts and first waits that the job asks for, by kind of failure.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub retries: BTreeMap<FailureKind, RetryOverride>,
}

/// Capabilities asked for, trimmed, in lower case, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CapabilityFacts {
    pub network: BTreeSet<String>,
    pub dependencies: BTreeSet<String>,
    pub environments: BTreeSet<String>,
    pub data_classes: BTreeSet<String>,
}

impl JobFacts {
    /// SHA-256 over the canonical JSON.
    pub fn digest(&self) -> Result<Digest, CanonicalError> {
        digest_json(self)
    }
}

/// Makes the canonical facts of a job from the submission and what the intake lease found in its source.
pub fn job_facts(
    spec: &JobSpec,
    source: &SourceFacts,
    tenant: &TenantId,
    submitter: &str,
) -> Result<JobFacts, CanonicalError> {
    Ok(JobFacts {
        spec: digest_json(spec)?,
        tenant: tenant.clone(),
        submitter: submitter.to_owned(),
        title: spec.title.clone(),
        text: TextFacts::read(texts(spec)),
        capabilities: CapabilityFacts {
            network: names(&spec.capabilities.network),
            dependencies: names(&spec.capabilities.dependencies),
            environments: names(&spec.capabilities.environments),
            data_classes: names(&spec.capabilities.data_classes),
        },
        budget: spec.budget.clone(),
        origin: spec.source.clone(),
        source: source.clone(),
        stack: names(&spec.stack),
        delivery: spec.delivery.iter().cloned().collect(),
        protected_paths: spec.protected_paths.iter().cloned().collect(),
        acceptance_checks: u32::try_from(spec.acceptance.len()).unwrap_or(u32::MAX),
        hidden_checks: u32::try_from(spec.hidden_checks.len()).unwrap_or(u32::MAX),
        plan_supplied: spec.plan.is_some(),
        model: spec.model.clone(),
        retries: spec.retries.clone(),
    })
}

/// All that the submitter wrote and agents will read.
fn texts(spec: &JobSpec) -> Vec<&str> {
    let mut all = vec![spec.title.as_str(), spec.description.as_str()];
    all.extend(spec.acceptance.iter().map(|c| c.command.as_str()));
    // A rework attempt is told the hint of a hidden check that failed.
    all.extend(spec.hidden_checks.iter().map(|c| c.public_hint.as_str()));
    if let Some(plan) = &spec.plan {
        all.push(&plan.summary);
        for task in &plan.tasks {
            all.extend([task.title.as_str(), task.instructions.as_str()]);
            all.extend(task.checks.iter().map(|c| c.command.as_str()));
        }
    }
    all
}

fn names(list: &[String]) -> BTreeSet<String> {
    list.iter().map(|s| s.trim().to_lowercase()).filter(|s| !s.is_empty()).collect()
}

/// What the operator of the installation allows at most. Part of every decision: its digest is recorded with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OperatorLimits {
    /// The most money one job may ask for; absent = jobs are budgeted in tokens alone unless they ask for less.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub money_nano_usd: Option<NanoUsd>,
    /// The most tokens one job may ask for, and what it gets when it does not say.
    pub tokens: Tokens,
    /// The longest a job may ask to take.
    pub wall_ms: DurationMs,
    pub min_tier: SandboxTier,
    /// Models jobs may ask for; absent = any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub models: Option<BTreeSet<String>>,
    /// Packages (`ecosystem:name`) that sandboxes of this installation already hold. Nothing is fetched.
    pub dependencies: BTreeSet<String>,
    /// Paths no agent may change in any job.
    pub protected_paths: BTreeSet<String>,
    /// Delivery targets by name. The artefact bundle needs none.
    pub delivery: BTreeSet<String>,
    /// Beginnings of git URLs that may be fetched.
    pub git_sources: BTreeSet<String>,
    /// Environments a job may name without anybody's approval.
    pub free_environments: BTreeSet<String>,
    /// Data classes a job may name without anybody's approval.
    pub free_data_classes: BTreeSet<String>,
    /// Most attempts at a task after one kind of failure, lost workers and merges included; absent = the factory's rules and
    /// what jobs ask for within them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<NonZeroU32>,
}

impl OperatorLimits {
    /// SHA-256 over the canonical JSON.
    pub fn digest(&self) -> Result<Digest, CanonicalError> {
        digest_json(self)
    }
}

/// Tokens of one job unless the operator says otherwise.
pub const DEFAULT_JOB_TOKENS: Tokens = Tokens(20_000_000);
/// Time of one job unless the operator says otherwise: a day.
pub const DEFAULT_JOB_WALL: DurationMs = DurationMs::from_secs(24 * 60 * 60);

impl Default for OperatorLimits {
    fn default() -> Self {
        let set = |names: &[&str]| names.iter().map(|s| (*s).to_owned()).collect();
        Self {
            money_nano_usd: None,
            tokens: DEFAULT_JOB_TOKENS,
            wall_ms: DEFAULT_JOB_WALL,
            min_tier: SandboxTier::Bwrap,
            models: None,
            dependencies: BTreeSet::new(),
            protected_paths: BTreeSet::new(),
            delivery: BTreeSet::new(),
            git_sources: BTreeSet::new(),
            free_environments: set(&["ci", "dev", "development", "local", "test", "testing"]),
            free_data_classes: set(&["none", "public", "synthetic", "test"]),
            max_attempts: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_do_not_depend_on_the_order_things_were_written_in() {
        let make = |deps: &str| {
            let spec: JobSpec = serde_json::from_str(&format!(
                r#"{{"title":"t","description":"d","capabilities":{{"dependencies":{deps}}}}}"#
            ))
            .unwrap();
            job_facts(&spec, &SourceFacts::default(), &"acme".parse().unwrap(), "alice").unwrap()
        };
        let (a, b) = (make(r#"["pypi:a","pypi:B"]"#), make(r#"["pypi:b ","pypi:a"]"#));
        assert_eq!(a.capabilities, b.capabilities);
        assert_ne!(a.digest().unwrap(), b.digest().unwrap(), "the submission itself differs");
    }

    #[test]
    fn hidden_checks_are_not_in_the_facts() {
        let spec: JobSpec = serde_json::from_value(serde_json::json!({"title": "t", "description": "d",
            "hidden_checks": [{"id": "h", "public_hint": "hint", "command": "sesame"}]}))
        .unwrap();
        let facts = job_facts(&spec, &SourceFacts::default(), &"acme".parse().unwrap(), "alice").unwrap();
        assert!(!serde_json::to_string(&facts).unwrap().contains("sesame"));
    }

    #[test]
    fn hints_are_read_since_agents_will_read_them() {
        let with = |hint: &str| {
            let spec: JobSpec = serde_json::from_value(serde_json::json!({"title": "t", "description": "d",
                "hidden_checks": [{"id": "h", "public_hint": hint, "command": "true"}]}))
            .unwrap();
            job_facts(&spec, &SourceFacts::default(), &"acme".parse().unwrap(), "alice").unwrap().text
        };
        assert_ne!(with("a hint"), with("build a phishing page"));
    }

    #[test]
    fn a_stored_fact_sheet_reads_back_to_the_same_digest() {
        let spec: JobSpec =
            serde_json::from_value(serde_json::json!({"title": "ย่อลิงก์", "description": "d. e"})).unwrap();
        let facts = job_facts(&spec, &SourceFacts::default(), &"acme".parse().unwrap(), "alice").unwrap();
        let back: JobFacts = serde_json::from_slice(&df_contract::canonical_json(&facts).unwrap()).unwrap();
        assert_eq!(back.digest().unwrap(), facts.digest().unwrap());
    }
}

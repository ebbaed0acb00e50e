//! What a submitter asks for.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::agent::{MAX_LABEL_BYTES, MAX_LABELS, is_label};
use crate::{
    AgentName, Digest, DurationMs, FailureKind, JobId, NanoUsd, OnFailure, Plan, PlanError, PlanLimits,
    Revision, Timestamp, Tokens,
};

/// Limits on a submission, in bytes and counts.
pub const MAX_TITLE_BYTES: usize = 300;
pub const MAX_DESCRIPTION_BYTES: usize = 256 * 1024;
pub const MAX_CHECKS: usize = 64;
pub const MAX_COMMAND_BYTES: usize = 8 * 1024;
pub const MAX_LIST_ITEMS: usize = 256;

/// Most attempts that a job may ask for after one kind of failure, and the longest wait between two attempts.
pub const MAX_RETRY_ATTEMPTS: u32 = 10;
pub const MAX_BACKOFF: DurationMs = DurationMs(60_000);

/// A piece of software work, as submitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JobSpec {
    pub title: String,
    /// Markdown, in any language.
    pub description: String,
    #[serde(default)]
    pub source: Source,
    /// A plan supplied by the user instead of the coordinator's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
    /// Hints such as `python`, `rust`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stack: Vec<String>,
    /// Checks that agents see.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub acceptance: Vec<AcceptanceCheck>,
    /// Checks that agents never see.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hidden_checks: Vec<HiddenCheck>,
    /// Paths (globs) that no agent may change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub protected_paths: Vec<String>,
    #[serde(default)]
    pub capabilities: Capabilities,
    #[serde(default)]
    pub budget: Budget,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// Higher runs first; -100 to 100.
    #[serde(default)]
    pub priority: i8,
    /// Delivery targets, by the names the operator gave them. The artefact bundle is always made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub delivery: Vec<String>,
    /// Model to ask the proxy for; the operator's default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<JobId>,
    /// What becomes of the job when a task fails for good, unless the plan says otherwise for that task.
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_failure: OnFailure,
    /// Other numbers of attempts than the factory's, by kind of failure; the operator's policy bounds them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub retries: BTreeMap<FailureKind, RetryOverride>,
    /// Labels that a worker must carry to be given this job's agent tasks.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub labels: BTreeSet<String>,
    /// Versions of registered agents that this job keeps to, whatever is registered or pinned otherwise.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub agents: BTreeMap<AgentName, Digest>,
}

/// Another retry rule for one kind of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RetryOverride {
    /// Attempts in all, the first included.
    pub attempts: u32,
    /// Wait before the second attempt; doubles each time. Absent = the factory's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff_ms: Option<DurationMs>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Where the work starts from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Source {
    /// Nothing: the factory starts an empty repository.
    #[default]
    Empty,
    /// A git bundle in the blob store; its `HEAD` or only branch is the base.
    Bundle { digest: Digest },
    /// A tar archive (uncompressed) in the blob store.
    Tarball { digest: Digest },
    /// A directory on the submitter's machine. Only in job files: the CLI turns it into a bundle before it submits.
    Path { path: String },
    /// A git URL on the operator's allowed list.
    Git {
        url: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        revision: Option<Revision>,
    },
}

/// A command that must exit 0 in the finished tree, run in a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AcceptanceCheck {
    pub id: String,
    /// Run by `sh -c` at the root of the tree.
    pub command: String,
    #[serde(default = "default_check_timeout")]
    pub timeout_ms: DurationMs,
}

/// A check whose content agents, the API, logs and traces never show.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HiddenCheck {
    pub id: String,
    /// All that a rework attempt is told when this check fails.
    pub public_hint: String,
    /// Files of the check: a tar blob, unpacked at `.devfactory-hidden/` for the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blob: Option<Digest>,
    /// A directory on the submitter's machine; only in job files, the CLI turns it into `blob`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Run by `sh -c` at the root of the tree.
    pub command: String,
    #[serde(default = "default_check_timeout")]
    pub timeout_ms: DurationMs,
}

impl std::fmt::Debug for HiddenCheck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HiddenCheck")
            .field("id", &self.id)
            .field("public_hint", &self.public_hint)
            .finish_non_exhaustive()
    }
}

const fn default_check_timeout() -> DurationMs {
    DurationMs::from_secs(300)
}

/// What the job asks to be allowed. Everything not asked for is not granted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Capabilities {
    /// Hosts the finished software or its build wants to reach. Empty = none.
    pub network: Vec<String>,
    /// Packages as `ecosystem:name` (`pypi:requests`).
    pub dependencies: Vec<String>,
    /// Environments touched, such as `staging`, `production`.
    pub environments: Vec<String>,
    /// Classes of data touched, such as `personal`, `payment`, `health`.
    pub data_classes: Vec<String>,
}

/// What the job may spend. Absent = the operator's default cap.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Budget {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub money_nano_usd: Option<NanoUsd>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Tokens>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wall_ms: Option<DurationMs>,
}

/// One thing wrong with a submission.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    #[error("`{field}` is empty; say what is wanted")]
    Empty { field: &'static str },
    #[error("`{field}` has {got} bytes or items, the limit is {limit}")]
    TooLarge { field: &'static str, got: usize, limit: usize },
    #[error("`priority` is {0}; it goes from -100 to 100")]
    Priority(i8),
    #[error("two checks have the id `{0}`; give each its own")]
    DuplicateCheck(String),
    #[error("`{field}` holds `{text}`, which is not {want}")]
    Malformed { field: &'static str, text: String, want: &'static str },
    #[error("`retries.{}.{field}` is {got}; it goes from {least} to {most}", kind.as_str())]
    Retry { kind: FailureKind, field: &'static str, got: u64, least: u64, most: u64 },
    #[error("plan: {0}")]
    Plan(#[from] PlanError),
}

impl JobSpec {
    /// Checks sizes, ids and the supplied plan. All findings, not only the first.
    pub fn validate(&self, limits: &PlanLimits) -> Result<(), Vec<SpecError>> {
        let mut found = Vec::new();
        text_size(&mut found, "title", &self.title, MAX_TITLE_BYTES);
        text_size(&mut found, "description", &self.description, MAX_DESCRIPTION_BYTES);
        if !(-100..=100).contains(&self.priority) {
            found.push(SpecError::Priority(self.priority));
        }
        self.validate_checks(&mut found);
        self.validate_retries(&mut found);
        for (field, list) in [
            ("protected_paths", &self.protected_paths),
            ("stack", &self.stack),
            ("delivery", &self.delivery),
            ("capabilities.network", &self.capabilities.network),
            ("capabilities.dependencies", &self.capabilities.dependencies),
            ("capabilities.environments", &self.capabilities.environments),
            ("capabilities.data_classes", &self.capabilities.data_classes),
        ] {
            if list.len() > MAX_LIST_ITEMS {
                found.push(SpecError::TooLarge { field, got: list.len(), limit: MAX_LIST_ITEMS });
            }
        }
        if self.agents.len() > MAX_LIST_ITEMS {
            found.push(SpecError::TooLarge {
                field: "agents",
                got: self.agents.len(),
                limit: MAX_LIST_ITEMS,
            });
        }
        self.validate_labels(&mut found);
        // A pattern that cannot match would leave open what its author thinks is closed.
        let opens = |p: &&String| !crate::plan::is_tree_pattern(p.trim_end_matches('/'));
        for path in self.protected_paths.iter().filter(opens) {
            found.push(SpecError::Malformed {
                field: "protected_paths",
                text: path.clone(),
                want: "a relative path pattern inside the tree",
            });
        }
        for dep in &self.capabilities.dependencies {
            if !dep.split_once(':').is_some_and(|(e, n)| !e.is_empty() && !n.is_empty()) {
                found.push(SpecError::Malformed {
                    field: "capabilities.dependencies",
                    text: dep.clone(),
                    want: "`ecosystem:name`",
                });
            }
        }
        for target in self.delivery.iter().filter(|t| t.parse::<crate::TenantId>().is_err()) {
            found.push(SpecError::Malformed {
                field: "delivery",
                text: target.clone(),
                want: "the name of a target (lower-case letters, digits, hyphens)",
            });
        }
        if let Some(plan) = &self.plan {
            let budget = plan.check_budget(self.budget.tokens, self.budget.money_nano_usd);
            found.extend(plan.validate(limits).into_iter().chain(budget).map(SpecError::Plan));
        }
        if found.is_empty() { Ok(()) } else { Err(found) }
    }

    /// Labels as a worker can carry them: they end up in what claims look through.
    fn validate_labels(&self, found: &mut Vec<SpecError>) {
        if self.labels.len() > MAX_LABELS {
            found.push(SpecError::TooLarge { field: "labels", got: self.labels.len(), limit: MAX_LABELS });
        }
        // As many as may be there are looked at: the others are too many already.
        for label in self.labels.iter().take(MAX_LABELS).filter(|label| !is_label(label)) {
            found.push(SpecError::Malformed {
                field: "labels",
                text: label.chars().take(MAX_LABEL_BYTES).collect(),
                want: "a label (lower-case letters, digits, single hyphens, at most 48 bytes)",
            });
        }
    }

    fn validate_retries(&self, found: &mut Vec<SpecError>) {
        for (kind, asked) in &self.retries {
            let most = if kind.is_final() { 1 } else { MAX_RETRY_ATTEMPTS };
            if !(1..=most).contains(&asked.attempts) {
                let (field, got) = ("attempts", asked.attempts.into());
                found.push(SpecError::Retry { kind: *kind, field, got, least: 1, most: most.into() });
            }
            if let Some(wait) = asked.backoff_ms.filter(|wait| *wait > MAX_BACKOFF) {
                let (field, got) = ("backoff_ms", wait.0);
                found.push(SpecError::Retry { kind: *kind, field, got, least: 0, most: MAX_BACKOFF.0 });
            }
        }
    }

    fn validate_checks(&self, found: &mut Vec<SpecError>) {
        let total = self.acceptance.len() + self.hidden_checks.len();
        if total > MAX_CHECKS {
            found.push(SpecError::TooLarge { field: "acceptance", got: total, limit: MAX_CHECKS });
        }
        let mut seen = std::collections::BTreeSet::new();
        let shown = self.acceptance.iter().map(|c| (&c.id, &c.command));
        for (id, command) in shown.chain(self.hidden_checks.iter().map(|c| (&c.id, &c.command))) {
            text_size(found, "check id", id, 100);
            text_size(found, "check command", command, MAX_COMMAND_BYTES);
            if !seen.insert(id) {
                found.push(SpecError::DuplicateCheck(id.clone()));
            }
        }
    }
}

fn text_size(found: &mut Vec<SpecError>, field: &'static str, text: &str, limit: usize) {
    if text.trim().is_empty() {
        found.push(SpecError::Empty { field });
    } else if text.len() > limit {
        found.push(SpecError::TooLarge { field, got: text.len(), limit });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(more: serde_json::Value) -> Result<JobSpec, serde_json::Error> {
        let mut v = serde_json::json!({"title": "t", "description": "d"});
        for (k, x) in more.as_object().unwrap() {
            v[k] = x.clone();
        }
        serde_json::from_value(v)
    }

    #[test]
    fn unknown_fields_are_refused_by_name() {
        let e = spec(serde_json::json!({"descriptoin": "x"})).unwrap_err().to_string();
        assert!(e.contains("descriptoin"), "{e}");
    }

    #[test]
    fn a_protected_path_that_can_never_match_is_refused() {
        for (path, fits) in [("src/**", true), (".github/", true), ("[secret", false), ("/etc", false)] {
            let s = spec(serde_json::json!({"protected_paths": [path]})).unwrap();
            assert_eq!(s.validate(&PlanLimits::SUPPLIED).is_ok(), fits, "{path}");
        }
    }

    #[test]
    fn labels_are_those_a_worker_can_carry() {
        let many: Vec<String> = (0..17).map(|n| format!("l{n}")).collect();
        let long = "a".repeat(49);
        for (labels, expect) in [
            (vec!["gpu", "zone-a"], ""),
            (vec!["GPU"], "`labels` holds `GPU`"),
            (vec!["a\nb"], "a label (lower-case"),
            (vec![long.as_str()], "a label (lower-case"),
            (many.iter().map(String::as_str).collect(), "`labels` has 17 bytes or items, the limit is 16"),
        ] {
            let s = spec(serde_json::json!({"labels": labels})).unwrap();
            let found = s.validate(&PlanLimits::SUPPLIED).err().unwrap_or_default();
            let text = found.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            assert!(if expect.is_empty() { text.is_empty() } else { text.contains(expect) }, "{text}");
        }
    }

    #[test]
    fn retries_out_of_bounds_are_refused_by_name() {
        for (kind, attempts, wait, expect) in [
            ("agent_crash", 10, 60_000, ""),
            ("agent_crash", 11, 0, "`retries.agent_crash.attempts` is 11; it goes from 1 to 10"),
            ("agent_crash", 0, 0, "is 0; it goes from 1 to 10"),
            ("policy_breach", 2, 0, "is 2; it goes from 1 to 1"),
            ("stalled", 1, 60_001, "`retries.stalled.backoff_ms` is 60001; it goes from 0 to 60000"),
        ] {
            let s = spec(serde_json::json!({"retries": {kind: {"attempts": attempts, "backoff_ms": wait}}}));
            let found = s.unwrap().validate(&PlanLimits::COORDINATOR).err().unwrap_or_default();
            let text = found.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            assert!(if expect.is_empty() { text.is_empty() } else { text.contains(expect) }, "{text}");
        }
        assert!(spec(serde_json::json!({"retries": {"bad_luck": {"attempts": 1}}})).is_err());
    }

    #[test]
    fn debug_never_shows_a_hidden_check() {
        let s = spec(
            serde_json::json!({"hidden_checks": [{"id": "h", "public_hint": "hint", "command": "sesame"}]}),
        );
        let shown = format!("{:?}", s.unwrap());
        assert!(shown.contains("hint") && !shown.contains("sesame"), "{shown}");
    }

    #[test]
    fn every_finding_is_reported() {
        let s = spec(serde_json::json!({"title": " ", "priority": 101,
            "acceptance": [{"id": "a", "command": "true"}, {"id": "a", "command": "true"}],
            "capabilities": {"dependencies": ["requests"]}}))
        .unwrap();
        let found = s.validate(&PlanLimits::SUPPLIED).unwrap_err();
        assert_eq!(found.len(), 4, "{found:?}");
    }
}

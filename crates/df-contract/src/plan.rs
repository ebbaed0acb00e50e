//! A plan: a bounded, acyclic graph of tasks whose paths are disjoint or whose order is fixed.

mod budget;
pub mod graph;
mod patterns;
mod validate;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use budget::{MIN_SHARE_NANO_USD, MIN_SHARE_TOKENS, Share};
pub(crate) use patterns::names_a_file;
pub use patterns::{is_tree_pattern, pattern_grants, pattern_matches, patterns_may_clash};
pub use validate::{MAX_COMPARISONS, MAX_FINDINGS, PlanError, PlanLimits};

use crate::{AcceptanceCheck, AgentName, NanoUsd, Role, TaskSlug, Tokens};

/// The work of a job, cut into tasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// What the plan is about, in a sentence or two.
    pub summary: String,
    pub tasks: Vec<PlanTask>,
}

/// One task of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanTask {
    pub slug: TaskSlug,
    /// `backend`, `frontend`, `devops`, `qa`, or `registered-agent` together with `agent`.
    pub role: Role,
    pub title: String,
    pub instructions: String,
    /// Slugs of the tasks whose integrated result this one builds on.
    #[serde(default)]
    pub depends_on: Vec<TaskSlug>,
    /// Globs of the paths this task may write, relative to the root of the tree.
    pub paths: Vec<String>,
    /// Files that must exist afterwards.
    #[serde(default)]
    pub expected_outputs: Vec<String>,
    /// Commands that must exit 0 in the task's tree and again after its merge.
    #[serde(default)]
    pub checks: Vec<AcceptanceCheck>,
    /// This task's share of the job's tokens; absent = an equal share of what is left, where other tasks name theirs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Tokens>,
    /// This task's share of the job's money; absent = as with the tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nano_usd: Option<NanoUsd>,
    /// The registered agent that does it; absent = the built-in one of the role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentName>,
    /// What becomes of the job when this task fails for good; absent = as the job says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<OnFailure>,
}

/// What becomes of a job when one of its tasks fails for good.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// The job fails.
    #[default]
    Fail,
    /// The task and all that builds on it are left out; the rest goes on.
    Skip,
    /// What is finished stays, and the coordinator plans the rest anew, a bounded number of times.
    Replan,
}

impl OnFailure {
    pub const fn as_str(self) -> &'static str {
        match self {
            OnFailure::Fail => "fail",
            OnFailure::Skip => "skip",
            OnFailure::Replan => "replan",
        }
    }
}

impl PlanTask {
    /// Whether this task may write `path` (a plain relative path).
    pub fn may_write(&self, path: &str) -> bool {
        is_tree_pattern(path)
            && self.paths.iter().any(|p| pattern_grants(p, path))
            && crate::access::role_may_write(self.role, path)
    }
}

#[cfg(test)]
mod tests;

//! What governance says: the verdict lattice, obligations, and the explanation.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Digest, NanoUsd, Role, Tokens};

/// `APPROVED < NEEDS_APPROVAL < REJECTED`; several sources join by the maximum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Verdict {
    #[serde(rename = "APPROVED")]
    Approved,
    #[serde(rename = "NEEDS_APPROVAL")]
    NeedsApproval,
    #[serde(rename = "REJECTED")]
    Rejected,
}

impl Verdict {
    pub const ALL: &'static [Verdict] = &[Verdict::Approved, Verdict::NeedsApproval, Verdict::Rejected];
    pub const fn as_str(self) -> &'static str {
        match self {
            Verdict::Approved => "APPROVED",
            Verdict::NeedsApproval => "NEEDS_APPROVAL",
            Verdict::Rejected => "REJECTED",
        }
    }
    /// The stricter of two verdicts.
    pub fn join(self, other: Self) -> Self {
        self.max(other)
    }
}

/// How grave one reason is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    Info,
    Warn,
    Deny,
}

/// One rule that fired: which, on what evidence, and what would change it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reason {
    /// Stable id such as `floor.scope`, `base.misuse.phishing`, `policy.error`.
    pub rule: String,
    pub verdict: Verdict,
    pub severity: Severity,
    pub message: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub evidence: String,
    /// What the submitter could change.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub remedy: String,
}

/// Network mode granted to sandboxes.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum NetworkMode {
    #[default]
    None,
}

/// Isolation tier, weakest first, so that the maximum is the strictest.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum SandboxTier {
    None,
    LandlockOnly,
    Docker,
    #[default]
    Bwrap,
}

/// Who must approve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApprovalRule {
    /// Distinct identities needed, none of them the submitter.
    pub count: u32,
    /// Any of these roles counts.
    pub roles: BTreeSet<Role>,
}

/// What the verdict binds everything downstream to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Obligations {
    pub min_tier: SandboxTier,
    pub network: NetworkMode,
    /// Packages that may be used, as `ecosystem:name`. Empty = none.
    pub dependencies: BTreeSet<String>,
    /// Models that may be asked; absent = any the operator has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub models: Option<BTreeSet<String>>,
    /// Globs no agent may change.
    pub protected_paths: BTreeSet<String>,
    /// Cap on money; absent = the job is budgeted in tokens alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub money_nano_usd: Option<NanoUsd>,
    pub tokens: Tokens,
    /// Approval needed at once; absent = none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalRule>,
    /// Whether delivery waits for an approval as well.
    pub approve_delivery: bool,
    /// Gates that must pass at VALIDATING, by id: `acceptance`, `hidden`, `secrets`, `paths`, `licences`.
    pub gates: BTreeSet<String>,
    /// Most attempts at a task after one kind of failure, whatever the factory's rule or the job says; absent = as they say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<NonZeroU32>,
}

/// A recorded decision: recomputable from the digests it names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    pub verdict: Verdict,
    pub reasons: Vec<Reason>,
    pub obligations: Obligations,
    /// Digest of the canonical facts the decision was made on.
    pub facts: Digest,
    /// Digest of the policy bundle.
    pub policy: Digest,
    /// Digest of the operator's limits.
    pub limits: Digest,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lattice_is_a_join() {
        for a in Verdict::ALL {
            assert_eq!(a.join(*a), *a);
            for b in Verdict::ALL {
                assert_eq!(a.join(*b), b.join(*a));
                assert!(a.join(*b) >= *a);
            }
        }
        assert_eq!(Verdict::Approved.join(Verdict::Rejected), Verdict::Rejected);
    }
}

//! Obligations: what a verdict binds everything after it to, and how several sources of them join.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use df_contract::decision::SandboxTier;
use df_contract::{ApprovalRule, NanoUsd, NetworkMode, Obligations, Role, Tokens, Verdict};
use serde::Deserialize;

use crate::facts::{JobFacts, OperatorLimits};

/// Files of hidden checks are unpacked here for a run; agents never write there.
const HIDDEN_DIR: &str = ".devfactory-hidden";

/// What a policy pack may add. Everything absent leaves things as they are; nothing can be widened.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tightening {
    pub min_tier: Option<SandboxTier>,
    pub dependencies: Option<BTreeSet<String>>,
    pub models: Option<BTreeSet<String>>,
    pub protected_paths: BTreeSet<String>,
    pub money_nano_usd: Option<NanoUsd>,
    pub tokens: Option<Tokens>,
    pub approval: Option<ApprovalRule>,
    pub approve_delivery: bool,
    pub gates: BTreeSet<String>,
    pub max_attempts: Option<NonZeroU32>,
}

/// Two sources leave nothing that satisfies both.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    #[error("no model is allowed by everybody")]
    Models,
    #[error("no role may approve by everybody's rule")]
    ApproverRoles,
}

/// Who approves unless a pack is stricter: one person with the role approver or admin who is not the submitter.
pub(crate) fn default_approval() -> ApprovalRule {
    ApprovalRule { count: 1, roles: BTreeSet::from([Role::Approver, Role::Admin]) }
}

/// What job and operator agree on before any policy has spoken.
pub(crate) fn granted(facts: &JobFacts, limits: &OperatorLimits) -> Obligations {
    let mut protected = &facts.protected_paths | &limits.protected_paths;
    protected.insert(HIDDEN_DIR.to_owned());
    let mut gates: BTreeSet<String> =
        ["acceptance", "secrets", "paths", "licences"].map(str::to_owned).into();
    if facts.hidden_checks > 0 {
        gates.insert("hidden".to_owned());
    }
    Obligations {
        min_tier: limits.min_tier.max(SandboxTier::Bwrap),
        network: NetworkMode::None,
        dependencies: &facts.capabilities.dependencies & &limits.dependencies,
        models: match (&facts.model, &limits.models) {
            (Some(model), _) => Some(BTreeSet::from([model.clone()])),
            (None, allowed) => allowed.clone(),
        },
        protected_paths: protected,
        money_nano_usd: least(facts.budget.money_nano_usd, limits.money_nano_usd),
        tokens: facts.budget.tokens.map_or(limits.tokens, |t| t.min(limits.tokens)),
        approval: Some(default_approval()),
        approve_delivery: facts
            .capabilities
            .environments
            .iter()
            .any(|e| !limits.free_environments.contains(e)),
        gates,
        max_attempts: limits.max_attempts,
    }
}

fn least<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

fn common(a: Option<BTreeSet<String>>, b: Option<&BTreeSet<String>>) -> Option<BTreeSet<String>> {
    match (a, b) {
        (Some(a), Some(b)) => Some(&a & b),
        (a, b) => a.or_else(|| b.cloned()),
    }
}

/// Caps take the minimum, lists intersect, what is protected or demanded adds up, approvers and tier take the maximum.
pub fn tighten(base: Obligations, more: &Tightening) -> Result<Obligations, Conflict> {
    let models = common(base.models, more.models.as_ref());
    if models.as_ref().is_some_and(BTreeSet::is_empty) {
        return Err(Conflict::Models);
    }
    let approval = match (base.approval, &more.approval) {
        (Some(a), Some(b)) => Some(ApprovalRule { count: a.count.max(b.count), roles: &a.roles & &b.roles }),
        (a, b) => a.or_else(|| b.clone()),
    };
    if approval.as_ref().is_some_and(|rule| rule.roles.is_empty()) {
        return Err(Conflict::ApproverRoles);
    }
    Ok(Obligations {
        min_tier: base.min_tier.max(more.min_tier.unwrap_or(base.min_tier)),
        network: base.network,
        dependencies: match &more.dependencies {
            Some(list) => &base.dependencies & list,
            None => base.dependencies,
        },
        models,
        protected_paths: &base.protected_paths | &more.protected_paths,
        money_nano_usd: least(base.money_nano_usd, more.money_nano_usd),
        tokens: more.tokens.map_or(base.tokens, |t| t.min(base.tokens)),
        approval,
        approve_delivery: base.approve_delivery || more.approve_delivery,
        gates: &base.gates | &more.gates,
        max_attempts: least(base.max_attempts, more.max_attempts),
    })
}

/// A verdict of NEEDS_APPROVAL names its approvers; any other asks for none at once.
pub(crate) fn settle(obligations: Obligations, verdict: Verdict) -> Obligations {
    match verdict {
        Verdict::NeedsApproval => obligations,
        Verdict::Approved | Verdict::Rejected => Obligations { approval: None, ..obligations },
    }
}

#[cfg(test)]
mod tests;

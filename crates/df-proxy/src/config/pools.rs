//! Who shares limits, who stands in for whom, and whom an account may serve.

use df_contract::TenantId;
use serde::{Deserialize, Serialize};

use crate::select::Axis;

/// Matches every model.
pub(crate) const ANY_FAMILY: &str = "*";

/// Limits that several accounts live on together: those of an organisation, a project, a deployment.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DomainConfig {
    pub id: String,
    #[serde(default)]
    pub limits: Vec<LimitConfig>,
    /// Its accounts pay from one purse: when one has no money left, none has. True unless given.
    #[serde(default = "yes")]
    pub billing: bool,
}

/// One limit. What is not given is learnt from the provider's headers.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitConfig {
    /// Models as the account calls them: a name, a beginning with `*` after it, or `*` for all.
    #[serde(default = "any_family")]
    pub family: String,
    pub axis: Axis,
    /// Per minute or day, or at once.
    pub amount: u64,
    /// The most at once after a rest; the amount unless given.
    #[serde(default)]
    pub burst: Option<u64>,
}

impl LimitConfig {
    /// Whether it limits `model`.
    pub fn covers(&self, model: &str) -> bool {
        match self.family.strip_suffix('*') {
            Some(beginning) => model.starts_with(beginning),
            None => model == self.family,
        }
    }
}

/// Accounts that stand in for each other: one step of a route.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolConfig {
    pub id: String,
    pub accounts: Vec<String>,
}

/// Under which terms an account was had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Terms {
    #[default]
    Api,
    /// A person's own subscription: serves its owner and nobody else.
    Personal,
    SelfHosted,
}

/// What of an account concerns whom it may serve, and how much.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Placement<'a> {
    pub(crate) domains: &'a [String],
    pub(crate) limits: &'a [LimitConfig],
    pub(crate) tenants: &'a [TenantId],
    pub(crate) owner: Option<&'a TenantId>,
    pub(crate) terms: Terms,
    pub(crate) price_band: u8,
}

impl<'a> Placement<'a> {
    /// The only tenants it serves; empty = all.
    pub(crate) fn serves_only(&self) -> &'a [TenantId] {
        match (self.terms, self.owner) {
            (Terms::Personal, Some(owner)) => std::slice::from_ref(owner),
            (Terms::Personal | Terms::Api | Terms::SelfHosted, _) => self.tenants,
        }
    }
}

fn yes() -> bool {
    true
}

fn any_family() -> String {
    ANY_FAMILY.into()
}

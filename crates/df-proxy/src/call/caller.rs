//! Who makes a call, whichever credential said so.

use std::fmt;

use df_contract::grant::BudgetCap;
use df_contract::{GrantClaims, TaskSlug, TenantId, Timestamp};

use crate::ledger::{Spender, StandingKey};

/// What a credential allows, and who pays.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) spender: Spender,
    /// A call must fit all of them.
    pub(crate) caps: Vec<BudgetCap>,
    models: Models,
    /// Under which task conversations are recorded and replayed.
    pub(crate) task: TaskSlug,
}

#[derive(Debug, Clone)]
enum Models {
    These(Vec<String>),
    Every,
}

impl Caller {
    pub(crate) fn of_grant(claims: GrantClaims) -> Self {
        let GrantClaims { tenant, job, task, attempt, epoch, caps, models, .. } = claims;
        let spender = Spender::Grant { tenant, job, task: task.clone(), epoch, attempt };
        Self { spender, caps, models: Models::These(models), task }
    }

    /// A key has no task: its conversations stand under `task`.
    pub(crate) fn of_key(key: &StandingKey, task: TaskSlug, now: Timestamp) -> Self {
        let spender = Spender::Key { tenant: key.tenant.clone(), key: key.id.clone() };
        let models = if key.covers_all() { Models::Every } else { Models::These(key.models.clone()) };
        Self { spender, caps: vec![key.cap(now)], models, task }
    }

    pub(crate) fn tenant(&self) -> &TenantId {
        match &self.spender {
            Spender::Grant { tenant, .. } | Spender::Key { tenant, .. } => tenant,
        }
    }

    pub(crate) fn covers(&self, model: &str) -> bool {
        match &self.models {
            Models::These(names) => names.iter().any(|known| known == model),
            Models::Every => true,
        }
    }

    /// The models it names; none if it covers every one.
    pub(crate) fn named_models(&self) -> Option<&[String]> {
        match &self.models {
            Models::These(names) => Some(names),
            Models::Every => None,
        }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.spender {
            Spender::Grant { job, task, epoch, attempt, .. } => {
                write!(f, "{job}/{task} {attempt} epoch {epoch}")
            }
            Spender::Key { tenant, key } => write!(f, "{tenant} key:{key}"),
        }
    }
}

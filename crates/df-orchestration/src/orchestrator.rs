//! The orchestrator: what holds the store, the policy, the signer and the settings together.

use std::sync::Arc;

use df_contract::{CommandId, JobId, Role};
use df_control_governance::{OperatorLimits, PolicyBundle};
use df_control_machine::{Actor, Command, CommandBody, JobRecord};
use df_store::{Outcome, Store};

use crate::grants::GrantSigner;
use crate::lease_token::LeaseTokens;
use crate::proxy::ProxyClient;
use crate::reconcile::status::{Again, Reconcilers};
use crate::{Env, OrchestrationConfig, OrchestrationError};

/// Cheap to clone; every clone works on the same store.
#[derive(Clone, Debug)]
pub struct Orchestrator {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) policy: PolicyBundle,
    pub(crate) limits: OperatorLimits,
    pub(crate) config: OrchestrationConfig,
    pub(crate) env: Env,
    pub(crate) grants: GrantSigner,
    pub(crate) tokens: LeaseTokens,
    pub(crate) proxy: ProxyClient,
    /// Held by whoever reads the proxy's ledger.
    pub(crate) usage: tokio::sync::Mutex<()>,
    pub(crate) reconcilers: Reconcilers,
    /// Jobs that could not be advanced when something had changed; the timers' next round tries again.
    pub(crate) again: Again,
}

/// What an orchestrator is made of.
#[derive(Debug)]
pub struct Parts {
    pub store: Store,
    pub policy: PolicyBundle,
    pub limits: OperatorLimits,
    pub config: OrchestrationConfig,
    pub env: Env,
    pub grants: GrantSigner,
    pub tokens: LeaseTokens,
    pub proxy: ProxyClient,
}

impl Orchestrator {
    pub fn new(parts: Parts) -> Self {
        let Parts { store, policy, limits, config, env, grants, tokens, proxy } = parts;
        let usage = tokio::sync::Mutex::new(());
        let grants = grants.configured_at(env.now());
        let (reconcilers, again) = (Reconcilers::default(), Again::default());
        let inner =
            Inner { store, policy, limits, config, env, grants, tokens, proxy, usage, reconcilers, again };
        Self { inner: Arc::new(inner) }
    }

    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    pub fn env(&self) -> &Env {
        &self.inner.env
    }

    pub fn policy(&self) -> &PolicyBundle {
        &self.inner.policy
    }

    pub fn proxy(&self) -> &ProxyClient {
        &self.inner.proxy
    }

    /// How everything that runs by itself goes.
    pub fn reconcilers(&self) -> Vec<df_contract::api::ReconcilerView> {
        self.inner.reconcilers.view()
    }

    /// A job, or `JobUnknown`.
    pub async fn job(&self, id: JobId) -> Result<JobRecord, OrchestrationError> {
        let found = self.inner.store.job(id).await?;
        Ok(found.ok_or(df_control_machine::Rejection::JobUnknown)?)
    }

    /// A job that is at work, or `JobUnknown`: see [`Store::job_at_hand`].
    pub(crate) async fn job_at_hand(&self, id: JobId) -> Result<Arc<JobRecord>, OrchestrationError> {
        let found = self.inner.store.job_at_hand(id).await?;
        Ok(found.ok_or(df_control_machine::Rejection::JobUnknown)?)
    }

    /// Commits one command.
    pub(crate) async fn send(
        &self,
        id: CommandId,
        job: JobId,
        actor: Actor,
        body: CommandBody,
    ) -> Result<Outcome, OrchestrationError> {
        let command = Command { id, job, actor, at: self.inner.env.now(), body };
        let outcome = self.inner.store.commit(vec![command]).await?.pop();
        Ok(outcome.ok_or(OrchestrationError::Incomplete("one command has one outcome"))??)
    }

    pub(crate) fn daemon(&self) -> Actor {
        Actor { name: "devfactoryd".to_owned(), role: Role::Operator }
    }

    pub(crate) fn governance(&self) -> Actor {
        Actor { name: "governance".to_owned(), role: Role::Governance }
    }
}

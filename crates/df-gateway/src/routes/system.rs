//! The state of the installation, for `doctor` and status pages.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::extract::State;
use df_contract::api::{BreakerState, BreakerView, ReconcilerView, SystemView, WorkerView};
use df_contract::{DurationMs, Role, Scope, Timestamp};
use df_control_machine::{Breaker, BreakerKey};
use df_store::{KeyRow, SessionRow};
use serde::Serialize;

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::Passed;
use crate::gateway::Gateway;
use crate::guard::ListScope;
use crate::limits::PROXY_PATIENCE;

/// That the daemon lives, and nothing more: this is open to everybody.
#[derive(Debug, Serialize)]
pub(crate) struct Alive {
    status: &'static str,
}

pub(crate) async fn health() -> Json<Alive> {
    Json(Alive { status: "ok" })
}

/// Counts of jobs are over all tenants, so only those see them who may see every tenant.
pub(crate) async fn show(
    State(gateway): State<Gateway>,
    Passed(caller): Passed<Caller>,
    Passed(ListScope(scope)): Passed<ListScope>,
) -> Result<Json<SystemView>, ApiError> {
    let (store, now) = (gateway.store(), gateway.env().now());
    let (jobs_by_state, of) = match scope {
        Scope::Installation => (store.job_count_by_state().await?, None),
        Scope::Own | Scope::Tenant => (BTreeMap::new(), Some(caller.tenant)),
    };
    let sessions = store.session_list().await?;
    let workers = sessions.into_iter().filter(|(row, _)| now < row.expires_at).map(worker_view).collect();
    let keys: Vec<KeyRow> = store.key_list().await?.into_iter().filter(|key| key.is_live(now)).collect();
    let asked = tokio::time::timeout(PROXY_PATIENCE, gateway.orchestrator().proxy().health()).await;
    let proxy = asked.ok().flatten();
    Ok(Json(SystemView {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        jobs_by_state,
        workers,
        approver_identities: identities(&keys, may_approve),
        submitter_identities: identities(&keys, may_submit),
        four_eyes_possible: four_eyes_possible(&keys),
        policy: gateway.orchestrator().policy().digest().clone(),
        proxy_reachable: proxy.is_some(),
        model_accounts: proxy.and_then(|proxy| proxy.accounts),
        reconcilers: reconcilers(gateway.orchestrator().reconcilers(), scope),
        breakers: breakers(store.breakers(of).await?, now),
    }))
}

fn breakers(kept: Vec<(BreakerKey, Breaker)>, now: Timestamp) -> Vec<BreakerView> {
    let view = |(key, breaker): (BreakerKey, Breaker)| {
        let (state, failures, trips, open_for_ms) = match breaker {
            Breaker::Closed { failures } => (BreakerState::Closed, failures, 0, None),
            Breaker::Open { until, trips } => {
                let left = if breaker.admits(now) { DurationMs::ZERO } else { until.since(now) };
                (BreakerState::Open, 0, trips, Some(left))
            }
            Breaker::HalfOpen { trips, .. } => (BreakerState::HalfOpen, 0, trips, None),
        };
        let (worker, tenant, agent) = (key.worker, key.tenant, key.runner.agent);
        let runtime = key.runner.runtime.as_str().to_owned();
        BreakerView { worker, tenant, runtime, agent, state, failures, trips, open_for_ms }
    };
    kept.into_iter().map(view).collect()
}

/// An error may name a job or an address of the installation.
fn reconcilers(all: Vec<ReconcilerView>, scope: Scope) -> Vec<ReconcilerView> {
    let shown = |view: ReconcilerView| match scope {
        Scope::Installation => view,
        Scope::Own | Scope::Tenant => ReconcilerView {
            last_error: view.last_error.map(|_| "ask an operator for the cause".to_owned()),
            ..view
        },
    };
    all.into_iter().map(shown).collect()
}

fn worker_view((row, held): (SessionRow, u32)) -> WorkerView {
    let SessionRow { name, class, capacity, last_heartbeat, .. } = row;
    WorkerView { name, class, capacity, held, last_heartbeat }
}

fn may_approve(key: &KeyRow) -> bool {
    key.roles.contains(&Role::Approver) || key.roles.contains(&Role::Admin)
}

fn may_submit(key: &KeyRow) -> bool {
    key.roles.contains(&Role::Submitter) || key.roles.contains(&Role::Admin)
}

fn identities(keys: &[KeyRow], may: fn(&KeyRow) -> bool) -> u64 {
    keys.iter().filter(|key| may(key)).map(|key| key.identity.as_str()).collect::<BTreeSet<_>>().len() as u64
}

/// Whether some key could approve what another identity's key submits. An admin approves in every tenant.
fn four_eyes_possible(keys: &[KeyRow]) -> bool {
    let reaches = |approver: &KeyRow, submitter: &KeyRow| {
        approver.roles.contains(&Role::Admin) || approver.tenant == submitter.tenant
    };
    keys.iter().filter(|key| may_approve(key)).any(|approver| {
        keys.iter()
            .filter(|key| may_submit(key))
            .any(|submitter| approver.identity != submitter.identity && reaches(approver, submitter))
    })
}

//! The admin API: settled usage by cursor, revocations, accounts, recordings. Errors are problem+json.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use df_contract::Problem;
use df_contract::api::Revocation;
use serde::Deserialize;
use serde_json::json;

use super::auth;
use crate::accounts::Backend;
use crate::clock;
use crate::core::Core;
use crate::error::CallError;
use crate::ledger::{MAX_PAGE, NewKey};

fn refuse(error: &CallError) -> Response {
    let problem = Problem::new(error.code(), error.to_string());
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, [(header::CONTENT_TYPE, "application/problem+json")], Json(problem)).into_response()
}

fn answer<T: serde::Serialize>(result: Result<T, CallError>) -> Response {
    match result {
        Ok(value) => Json(value).into_response(),
        Err(error) => refuse(&error),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    #[serde(default)]
    after: u64,
    #[serde(default)]
    limit: Option<u32>,
}

pub(super) async fn usage(
    State(core): State<Arc<Core>>,
    headers: HeaderMap,
    page: Result<Query<Page>, QueryRejection>,
) -> Response {
    let page = async {
        auth::admin(&core, &headers)?;
        let Query(page) = page.map_err(|e| CallError::Invalid(e.body_text()))?;
        Ok(core.ledger.usage(page.after, page.limit.unwrap_or(MAX_PAGE)).await?)
    };
    answer(page.await)
}

/// Every row of the ledger, whoever paid and however it ended.
pub(super) async fn ledger(
    State(core): State<Arc<Core>>,
    headers: HeaderMap,
    page: Result<Query<Page>, QueryRejection>,
) -> Response {
    let page = async {
        auth::admin(&core, &headers)?;
        let Query(page) = page.map_err(|e| CallError::Invalid(e.body_text()))?;
        let rows = core.ledger.rows(page.after, page.limit.unwrap_or(MAX_PAGE)).await?;
        let cursor = rows.last().map_or(page.after, |row| row.seq);
        Ok(json!({"rows": rows, "cursor": cursor}))
    };
    answer(page.await)
}

pub(super) async fn keys(State(core): State<Arc<Core>>, headers: HeaderMap) -> Response {
    answer(auth::admin(&core, &headers).map(|()| json!({"keys": core.ledger.keys()})))
}

/// The text of a new key is in this answer and nowhere else.
pub(super) async fn key_add(
    State(core): State<Arc<Core>>,
    headers: HeaderMap,
    body: Result<Json<NewKey>, JsonRejection>,
) -> Response {
    let added = async {
        auth::admin(&core, &headers)?;
        let Json(new) = body.map_err(|e| CallError::Invalid(e.body_text()))?;
        let tenant = new.tenant.clone();
        let (key, token) = core.ledger.key_add(new).await?;
        tracing::info!(%tenant, "a standing key was made");
        Ok(json!({"key": key, "token": token}))
    };
    answer(added.await)
}

pub(super) async fn key_revoke(
    State(core): State<Arc<Core>>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Response {
    let revoked = async {
        auth::admin(&core, &headers)?;
        core.ledger.key_revoke(&id).await?;
        tracing::info!(key = id, "a standing key was revoked");
        Ok(json!({"revoked": true}))
    };
    answer(revoked.await)
}

pub(super) async fn revoke(
    State(core): State<Arc<Core>>,
    headers: HeaderMap,
    body: Result<Json<Revocation>, JsonRejection>,
) -> Response {
    let revoked = async {
        auth::admin(&core, &headers)?;
        let Json(revocation) = body.map_err(|e| CallError::Invalid(e.body_text()))?;
        tracing::info!(job = %revocation.job, task = %revocation.task, epoch = revocation.epoch, "grants withdrawn");
        core.ledger.revoke(revocation).await?;
        Ok(json!({"revoked": true}))
    };
    answer(revoked.await)
}

pub(super) async fn accounts(State(core): State<Arc<Core>>, headers: HeaderMap) -> Response {
    let view = async {
        auth::admin(&core, &headers)?;
        let now = clock::steady();
        let accounts: Vec<_> = core.pool.accounts().iter().map(|a| a.view(now)).collect();
        let (by_account, by_job) = (core.ledger.account_totals(), core.ledger.job_totals());
        Ok(json!({"accounts": accounts, "usage_by_account": by_account, "usage_by_job": by_job}))
    };
    answer(view.await)
}

pub(super) async fn recordings(State(core): State<Arc<Core>>, headers: HeaderMap) -> Response {
    let view = auth::admin(&core, &headers).map(|()| {
        let recordings = core.pool.accounts().iter().filter_map(|account| match &account.backend {
            Backend::Recorded(recording) => Some(recording.view(&account.id)),
            Backend::OpenAi(_) => None,
        });
        json!({"recordings": recordings.collect::<Vec<_>>()})
    });
    answer(view)
}

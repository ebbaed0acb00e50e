//! The HTTP surface: what clients of OpenAI's API call, and the admin API.

mod admin;
mod auth;
mod chat;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use serde_json::json;

use crate::core::Core;
use crate::error::CallError;

pub(crate) fn router(core: Arc<Core>) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(chat::completions))
        .route("/v1/models", get(chat::models))
        .route("/admin/v1/usage", get(admin::usage))
        .route("/admin/v1/ledger", get(admin::ledger))
        .route("/admin/v1/keys", get(admin::keys).post(admin::key_add))
        .route("/admin/v1/keys/{id}", delete(admin::key_revoke))
        .route("/admin/v1/revocations", post(admin::revoke))
        .route("/admin/v1/accounts", get(admin::accounts))
        .route("/admin/v1/recordings", get(admin::recordings))
        .route("/healthz", get(health))
        .fallback(|| async { refuse(&CallError::NoRoute) })
        .with_state(core)
}

/// That it lives, and whether there is anybody to ask: the number of accounts, without their names.
async fn health(State(core): State<Arc<Core>>) -> axum::Json<serde_json::Value> {
    axum::Json(json!({"status": "ok", "accounts": core.pool.accounts().len()}))
}

/// An error as clients of OpenAI's API read it.
fn refuse(error: &CallError) -> Response {
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, axum::Json(error.to_json())).into_response();
    if let Some(seconds) = error.retry_after_s() {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

//! Keys: create, list, revoke.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use df_contract::api::{KeyCreate, KeyCreated, KeyView};
use df_contract::{ErrorCode, KeyId};

use crate::auth::{Caller, mint_key};
use crate::error::{ApiError, refused};
use crate::extract::{JsonBody, Passed, PathOf};
use crate::gateway::Gateway;
use crate::limits::MAX_SMALL_BYTES;

pub(crate) async fn create(
    State(gateway): State<Gateway>,
    Passed(caller): Passed<Caller>,
    JsonBody(wanted): JsonBody<KeyCreate, MAX_SMALL_BYTES>,
) -> Result<(StatusCode, Json<KeyCreated>), ApiError> {
    let minted = mint_key(gateway.env(), wanted, &caller.tenant)
        .map_err(|e| refused(ErrorCode::InvalidRequest, e.to_string()))?;
    gateway.store().key_insert(minted.row.clone()).await?;
    tracing::info!(key = %minted.row.id, identity = minted.row.identity, by = caller.identity, "key created");
    Ok((StatusCode::CREATED, Json(minted.created())))
}

pub(crate) async fn list(State(gateway): State<Gateway>) -> Result<Json<Vec<KeyView>>, ApiError> {
    Ok(Json(gateway.store().key_list().await?.iter().map(df_store::KeyRow::view).collect()))
}

pub(crate) async fn revoke(
    State(gateway): State<Gateway>,
    Passed(caller): Passed<Caller>,
    path: PathOf,
) -> Result<StatusCode, ApiError> {
    let id: KeyId = path.parse("id")?;
    if !gateway.store().key_revoke(id).await? {
        return Err(refused(ErrorCode::NotFound, format!("there is no key {id}")));
    }
    tracing::info!(key = %id, by = caller.identity, "key revoked");
    Ok(StatusCode::NO_CONTENT)
}

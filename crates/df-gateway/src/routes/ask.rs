//! What people ask of a job: to try again, to hear something, to spend more, to go first, to go back.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use df_contract::api::{BudgetAsk, JobView, Priority, Retry, RollbackTo, Say};
use df_control_machine::JobRecord;

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{JsonBody, Passed};
use crate::gateway::Gateway;
use crate::limits::MAX_SMALL_BYTES;
use crate::routes::jobs::idempotency_key;
use crate::view::job_view;

type Record = Passed<Arc<JobRecord>>;
type Small<T> = JsonBody<T, MAX_SMALL_BYTES>;

pub(crate) async fn retry(
    State(gateway): State<Gateway>,
    Passed(caller): Passed<Caller>,
    Passed(record): Record,
    headers: HeaderMap,
    JsonBody(Retry { from_start }): Small<Retry>,
) -> Result<impl IntoResponse, ApiError> {
    let key = idempotency_key(&headers)?;
    let submitted = gateway.orchestrator().retry(&caller.asks(), record.id, from_start, key).await?;
    let address = [(header::LOCATION, format!("/v1/jobs/{}", submitted.id))];
    Ok((StatusCode::CREATED, address, Json(submitted)))
}

pub(crate) async fn message(
    State(gateway): State<Gateway>,
    Passed(caller): Passed<Caller>,
    Passed(record): Record,
    JsonBody(Say { text }): Small<Say>,
) -> Result<Json<JobView>, ApiError> {
    Ok(Json(job_view(&gateway.orchestrator().message(&caller.asks(), record.id, text).await?)))
}

pub(crate) async fn budget(
    State(gateway): State<Gateway>,
    Passed(caller): Passed<Caller>,
    Passed(record): Record,
    JsonBody(ask): Small<BudgetAsk>,
) -> Result<Json<JobView>, ApiError> {
    Ok(Json(job_view(&gateway.orchestrator().request_budget(&caller.asks(), record.id, ask).await?)))
}

pub(crate) async fn priority(
    State(gateway): State<Gateway>,
    Passed(caller): Passed<Caller>,
    Passed(record): Record,
    JsonBody(Priority { priority }): Small<Priority>,
) -> Result<Json<JobView>, ApiError> {
    Ok(Json(job_view(&gateway.orchestrator().set_priority(&caller.asks(), record.id, priority).await?)))
}

pub(crate) async fn rollback(
    State(gateway): State<Gateway>,
    Passed(caller): Passed<Caller>,
    Passed(record): Record,
    JsonBody(RollbackTo { to }): Small<RollbackTo>,
) -> Result<Json<JobView>, ApiError> {
    Ok(Json(job_view(&gateway.orchestrator().rollback(&caller.asks(), record.id, to).await?)))
}

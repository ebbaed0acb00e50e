//! The registry of agents: register, list, show, switch, pin.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use df_contract::agent::api::{
    AgentPage, AgentPin, AgentRegister, AgentRegistered, AgentSwitch, AgentView, PinView,
};
use df_contract::{AgentName, TenantId};
use df_control_audit::RegistryRecord;
use df_orchestration::agents::AgentScope;
use df_store::AgentRow;
use serde::Deserialize;

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{JsonBody, Params, Passed, PathOf};
use crate::gateway::Gateway;
use crate::guard::ListScope;
use crate::limits::{MAX_AGENT_BYTES, MAX_SMALL_BYTES};

type Registered = Result<(StatusCode, Json<AgentRegistered>), ApiError>;
type Small<T> = JsonBody<T, MAX_SMALL_BYTES>;

pub(crate) async fn register(
    State(gateway): State<Gateway>,
    Passed(caller): Passed<Caller>,
    JsonBody(ask): JsonBody<AgentRegister, MAX_AGENT_BYTES>,
) -> Registered {
    let done = gateway.orchestrator().agent_register(&caller.asks(), AgentScope::Tenant, ask).await?;
    Ok((StatusCode::CREATED, Json(done)))
}

pub(crate) async fn register_global(
    State(gateway): State<Gateway>,
    Passed(caller): Passed<Caller>,
    JsonBody(ask): JsonBody<AgentRegister, MAX_AGENT_BYTES>,
) -> Registered {
    let done = gateway.orchestrator().agent_register(&caller.asks(), AgentScope::Global, ask).await?;
    Ok((StatusCode::CREATED, Json(done)))
}

pub(crate) async fn list(
    State(gateway): State<Gateway>,
    Passed(caller): Passed<Caller>,
    Passed(ListScope(scope)): Passed<ListScope>,
) -> Result<Json<AgentPage>, ApiError> {
    Ok(Json(gateway.orchestrator().agent_page(&caller.asks(), scope).await?))
}

pub(crate) async fn show(
    State(gateway): State<Gateway>,
    Passed(caller): Passed<Caller>,
    Passed(row): Passed<AgentRow>,
) -> Result<Json<AgentView>, ApiError> {
    Ok(Json(gateway.orchestrator().agent_view(&caller.asks(), &row).await?))
}

/// What was done to the agent, oldest first.
pub(crate) async fn log(
    State(gateway): State<Gateway>,
    Passed(row): Passed<AgentRow>,
) -> Result<Json<Vec<RegistryRecord>>, ApiError> {
    Ok(Json(gateway.store().agent_log(row.of()).await?))
}

pub(crate) async fn enable(
    State(gateway): State<Gateway>,
    Passed(caller): Passed<Caller>,
    Passed(row): Passed<AgentRow>,
    JsonBody(AgentSwitch { digest }): Small<AgentSwitch>,
) -> Result<StatusCode, ApiError> {
    gateway.orchestrator().agent_switch(&caller.asks(), &row, digest, true).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(crate) async fn disable(
    State(gateway): State<Gateway>,
    Passed(caller): Passed<Caller>,
    Passed(row): Passed<AgentRow>,
    JsonBody(AgentSwitch { digest }): Small<AgentSwitch>,
) -> Result<StatusCode, ApiError> {
    gateway.orchestrator().agent_switch(&caller.asks(), &row, digest, false).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(crate) async fn pin(
    State(gateway): State<Gateway>,
    Passed(caller): Passed<Caller>,
    path: PathOf,
    JsonBody(AgentPin { digest, replaces }): Small<AgentPin>,
) -> Result<Json<PinView>, ApiError> {
    let name: AgentName = path.parse("name")?;
    Ok(Json(gateway.orchestrator().agent_pin(&caller.asks(), name, digest, replaces).await?))
}

pub(crate) async fn unpin(
    State(gateway): State<Gateway>,
    Passed(caller): Passed<Caller>,
    path: PathOf,
) -> Result<StatusCode, ApiError> {
    gateway.orchestrator().agent_unpin(&caller.asks(), path.parse("name")?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `?tenant=`: the caller's own when it is left out.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OfTenant {
    tenant: Option<TenantId>,
}

pub(crate) async fn reset_key(
    State(gateway): State<Gateway>,
    Passed(caller): Passed<Caller>,
    Params(OfTenant { tenant }): Params<OfTenant>,
    path: PathOf,
) -> Result<StatusCode, ApiError> {
    let tenant = tenant.unwrap_or_else(|| caller.tenant.clone());
    gateway.orchestrator().signer_reset(&caller.asks(), tenant, path.parse("identity")?).await?;
    Ok(StatusCode::NO_CONTENT)
}

//! In front of every handler: who asks, not too often, and may they.

use std::sync::Arc;

use axum::RequestExt as _;
use axum::extract::{RawPathParams, Request, State};
use axum::http::HeaderMap;
use axum::middleware::Next;
use axum::response::Response;
use df_contract::lease::HeldLease;
use df_contract::{Action, AgentName, ErrorCode, JobId, LeaseToken, Role, Scope, TenantId};
use df_control_governance::Access;
use df_control_machine::JobRecord;
use df_store::{AgentRow, RegistryRefusal};

use crate::auth::{self, Bearer, Caller};
use crate::endpoint::{Door, Endpoint, Target};
use crate::error::{ApiError, refused};
use crate::extract::Params;
use crate::gateway::Gateway;

/// How far a list may reach for this caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ListScope(pub(crate) Scope);

/// The lease that is held behind a request.
#[derive(Debug, Clone)]
pub(crate) struct LeasePass {
    pub(crate) held: HeldLease,
    pub(crate) record: Arc<JobRecord>,
}

/// Lets a request through to its handler, with what was found out about it in the request's extensions.
pub(crate) async fn guard(
    State((gateway, endpoint)): State<(Gateway, Endpoint)>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    match endpoint.rule().door {
        Door::Open => {}
        Door::Key { action, target } => admit_key(&gateway, &mut request, action, target).await?,
        Door::Lease { action } => admit_lease(&gateway, &mut request, action, Held::Now).await?,
        Door::AnyLease { action } => admit_lease(&gateway, &mut request, action, Held::Once).await?,
        Door::KeyOrLease { action } => match auth::bearer(request.headers())? {
            Bearer::Key(_) => admit_key(&gateway, &mut request, action, Target::Own).await?,
            Bearer::Lease(_) => admit_lease(&gateway, &mut request, action, Held::Now).await?,
        },
    }
    Ok(next.run(request).await)
}

async fn admit_key(
    gateway: &Gateway,
    request: &mut Request,
    action: Action,
    target: Target,
) -> Result<(), ApiError> {
    let caller = key_of(gateway, request.headers()).await?;
    gateway.rate().take(caller.key, gateway.env().now()).map_err(|wait| {
        refused(ErrorCode::RateLimited, format!("this key asks too often; wait {} ms", wait.0))
    })?;
    match target {
        Target::Own => allow(gateway, &caller, action, Scope::Own)?,
        Target::Installation => allow(gateway, &caller, action, Scope::Installation)?,
        Target::Tenant => allow(gateway, &caller, action, Scope::Tenant)?,
        Target::Agent => {
            let row = agent_of(gateway, &caller, request).await?;
            let scope = scope_of_agent(&caller, &row, action);
            if let Err(denied) = allow(gateway, &caller, action, scope) {
                let told = agent_unknown(&row.name);
                return Err(if row.serves(&caller.tenant) { denied } else { told });
            }
            request.extensions_mut().insert(row);
        }
        Target::List => {
            let scope = list_scope(gateway, &caller, action)?;
            request.extensions_mut().insert(ListScope(scope));
        }
        Target::Job => {
            let record = job_of(gateway, request).await?;
            let scope = scope_of(&caller, &record);
            if let Err(denied) = allow(gateway, &caller, action, scope) {
                return Err(hide_foreign(gateway, &caller, scope, denied));
            }
            request.extensions_mut().insert(Arc::new(record));
        }
    }
    request.extensions_mut().insert(caller);
    Ok(())
}

async fn key_of(gateway: &Gateway, headers: &HeaderMap) -> Result<Caller, ApiError> {
    match auth::bearer(headers)? {
        Bearer::Key(secret) => auth::caller(gateway.store(), gateway.env(), secret).await,
        Bearer::Lease(_) => Err(refused(
            ErrorCode::Forbidden,
            "a lease's token opens that lease's blobs, events and report alone",
        )),
    }
}

/// The job in the path. A text that is no job's id is a job that does not exist.
async fn job_of(gateway: &Gateway, request: &mut Request) -> Result<JobRecord, ApiError> {
    let unknown = || refused(ErrorCode::JobUnknown, "there is no such job");
    let params: RawPathParams = request.extract_parts().await.map_err(|_| unknown())?;
    let id = params.iter().find(|(name, _)| *name == "id").map(|(_, value)| value.parse::<JobId>());
    match id {
        Some(Ok(id)) => Ok(gateway.orchestrator().job(id).await?),
        Some(Err(_)) | None => Err(unknown()),
    }
}

/// `?tenant=`: whose agent, for those who may look beyond their own tenant.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct OfTenant {
    tenant: Option<TenantId>,
}

/// The agent in the path, as the caller's tenant or the one in the query means it. A text that is no agent's name is an
/// agent that does not exist.
async fn agent_of(gateway: &Gateway, caller: &Caller, request: &mut Request) -> Result<AgentRow, ApiError> {
    let unknown = || refused(ErrorCode::AgentUnknown, "there is no such agent");
    let params: RawPathParams = request.extract_parts().await.map_err(|_| unknown())?;
    let name = params.iter().find(|(name, _)| *name == "name").map(|(_, value)| value.parse::<AgentName>());
    match name {
        Some(Ok(name)) => {
            let Params(OfTenant { tenant }) = request.extract_parts().await?;
            let tenant = tenant.unwrap_or_else(|| caller.tenant.clone());
            Ok(gateway.orchestrator().agent_for(&tenant, &name).await?)
        }
        Some(Err(_)) | None => Err(unknown()),
    }
}

fn agent_unknown(name: &AgentName) -> ApiError {
    RegistryRefusal::Unknown(name.clone()).into()
}

/// How far away an agent is from whoever asks.
fn scope_of_agent(caller: &Caller, row: &AgentRow, action: Action) -> Scope {
    match &row.tenant {
        None if action == Action::AgentRead => Scope::Tenant,
        Some(tenant) if *tenant == caller.tenant && row.owner == caller.identity => Scope::Own,
        Some(tenant) if *tenant == caller.tenant => Scope::Tenant,
        None | Some(_) => Scope::Installation,
    }
}

/// How far away a job is from whoever asks. No job is a worker key's own, whatever its identity is called: what is
/// a worker's own are its leases, and they have tokens.
fn scope_of(caller: &Caller, record: &JobRecord) -> Scope {
    if record.tenant != caller.tenant {
        Scope::Installation
    } else if record.submitter == caller.identity && !caller.roles.contains(&Role::Worker) {
        Scope::Own
    } else {
        Scope::Tenant
    }
}

/// Another tenant's job does not exist for those who may not read it.
fn hide_foreign(gateway: &Gateway, caller: &Caller, scope: Scope, denied: ApiError) -> ApiError {
    let may_know = match scope {
        Scope::Own | Scope::Tenant => true,
        Scope::Installation => allow(gateway, caller, Action::JobRead, scope).is_ok(),
    };
    if may_know { denied } else { refused(ErrorCode::JobUnknown, "there is no such job") }
}

fn list_scope(gateway: &Gateway, caller: &Caller, action: Action) -> Result<Scope, ApiError> {
    if allow(gateway, caller, action, Scope::Installation).is_ok() {
        return Ok(Scope::Installation);
    }
    allow(gateway, caller, action, Scope::Tenant).map(|()| Scope::Tenant)
}

/// Any of the caller's roles will do.
fn allow(gateway: &Gateway, caller: &Caller, action: Action, scope: Scope) -> Result<(), ApiError> {
    let mut denials = Vec::new();
    for role in &caller.roles {
        match gateway.orchestrator().policy().authorise(*role, action, scope) {
            Access::Allowed => return Ok(()),
            Access::Denied(denial) => denials.push(denial.to_string()),
        }
    }
    denials.dedup();
    let code = match (action, scope) {
        (Action::JobApprove, Scope::Own) => ErrorCode::FourEyes,
        _ => ErrorCode::Forbidden,
    };
    Err(refused(code, denials.join("; ")))
}

/// Whether the lease must be held at this moment.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Held {
    Now,
    Once,
}

async fn admit_lease(
    gateway: &Gateway,
    request: &mut Request,
    action: Action,
    must: Held,
) -> Result<(), ApiError> {
    let Bearer::Lease(token) = auth::bearer(request.headers())? else {
        return Err(refused(ErrorCode::Forbidden, "only the token of a lease opens this"));
    };
    let token = LeaseToken(token.to_owned());
    let orchestrator = gateway.orchestrator();
    let held = orchestrator.lease_of(&token.0)?;
    if let Access::Denied(denial) = orchestrator.policy().authorise(Role::Worker, action, Scope::Own) {
        return Err(refused(ErrorCode::Forbidden, denial.to_string()));
    }
    let params: Option<RawPathParams> = request.extract_parts().await.ok();
    if params.is_some_and(|params| !names_lease(&params, &held)) {
        return Err(refused(ErrorCode::Forbidden, "the token is another lease's"));
    }
    if must == Held::Now {
        let (held, record) = orchestrator.held(&token.0).await?;
        request.extensions_mut().insert(LeasePass { held, record });
    }
    request.extensions_mut().insert(token);
    Ok(())
}

/// Whether the path, as far as it names a lease, names this one.
fn names_lease(params: &RawPathParams, held: &HeldLease) -> bool {
    params.iter().all(|(name, value)| match name {
        "job" => value == held.job.to_string(),
        "slug" => value == held.slug.as_str(),
        "epoch" => value == held.epoch.to_string(),
        _ => true,
    })
}

//! From the list of endpoints to a router, and the server around it.

use axum::Router;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, delete, get, post, put};
use df_contract::ErrorCode;
use tokio::net::TcpListener;

use crate::endpoint::Endpoint;
use crate::error::{ApiError, refused, unreadable};
use crate::gateway::Gateway;
use crate::guard::guard;
use crate::routes::{agents, artefacts, ask, blobs, events, jobs, keys, system, worker};
use crate::trace::trace;

/// Every endpoint behind its guard.
pub fn router(gateway: Gateway) -> Router {
    let mut router = Router::new();
    for endpoint in Endpoint::ALL {
        let guarded = handler(*endpoint).route_layer(from_fn_with_state((gateway.clone(), *endpoint), guard));
        router = router.route(endpoint.rule().path, guarded);
    }
    router
        .method_not_allowed_fallback(wrong_method)
        .fallback(nothing_here)
        .layer(from_fn_with_state(gateway.clone(), trace))
        .with_state(gateway)
}

/// Serves until the gateway's stop signal; then finishes what is under way.
pub async fn serve(listener: TcpListener, gateway: Gateway) -> std::io::Result<()> {
    let mut stop = gateway.stop();
    let stopped = async move {
        // A sender that is gone means the same as `true`.
        let _ = stop.wait_for(|s| *s).await;
    };
    axum::serve(listener, router(gateway)).with_graceful_shutdown(stopped).await
}

fn handler(endpoint: Endpoint) -> MethodRouter<Gateway> {
    match endpoint {
        Endpoint::Health => get(system::health),
        Endpoint::JobSubmit => post(jobs::submit),
        Endpoint::JobList => get(jobs::list),
        Endpoint::JobShow => get(jobs::show),
        Endpoint::JobEvents => get(events::stream),
        Endpoint::JobApprove => post(jobs::approve),
        Endpoint::JobReject => post(jobs::reject),
        Endpoint::JobCancel => post(jobs::cancel),
        Endpoint::JobPause => post(jobs::pause),
        Endpoint::JobResume => post(jobs::resume),
        Endpoint::JobRetry => post(ask::retry),
        Endpoint::JobMessage => post(ask::message),
        Endpoint::JobBudget => post(ask::budget),
        Endpoint::JobPriority => post(ask::priority),
        Endpoint::JobRollback => post(ask::rollback),
        Endpoint::ArtefactList => get(artefacts::list),
        Endpoint::ArtefactGet => get(artefacts::show),
        Endpoint::JobBlob => get(artefacts::blob),
        Endpoint::JobAudit => get(jobs::audit),
        Endpoint::BlobPut => put(blobs::put),
        Endpoint::BlobGet => get(blobs::show),
        Endpoint::KeyCreate => post(keys::create),
        Endpoint::KeyList => get(keys::list),
        Endpoint::KeyRevoke => delete(keys::revoke),
        Endpoint::AgentRegister => post(agents::register),
        Endpoint::AgentRegisterGlobal => post(agents::register_global),
        Endpoint::AgentList => get(agents::list),
        Endpoint::AgentShow => get(agents::show),
        Endpoint::AgentLog => get(agents::log),
        Endpoint::AgentEnable => post(agents::enable),
        Endpoint::AgentDisable => post(agents::disable),
        Endpoint::AgentPin => post(agents::pin),
        Endpoint::AgentUnpin => post(agents::unpin),
        Endpoint::SignerReset => delete(agents::reset_key),
        Endpoint::System => get(system::show),
        Endpoint::SessionOpen => post(worker::open),
        Endpoint::SessionClaim => post(worker::claim),
        Endpoint::SessionHeartbeat => post(worker::heartbeat),
        Endpoint::SessionWatch => post(worker::watch),
        Endpoint::SessionClose => delete(worker::close),
        Endpoint::LeaseEvents => post(worker::progress),
        Endpoint::LeaseReport => post(worker::report),
    }
}

async fn nothing_here(method: Method, uri: Uri) -> ApiError {
    let path: String = uri.path().chars().take(200).collect();
    refused(ErrorCode::NotFound, format!("there is no {method} {path}"))
}

async fn wrong_method(method: Method) -> ApiError {
    let told = format!("this address does not take {method}; the `allow` header says what it takes");
    unreadable(StatusCode::METHOD_NOT_ALLOWED, told)
}

//! Jobs: submit, list, show, vote, steer.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::IntoResponse;
use df_contract::api::{Cause, JobPage, JobView, Vote};
use df_contract::{Digest, ErrorCode, JobId, JobSpec, JobState, Scope, Source};
use df_control_audit::AuditRecord;
use df_control_machine::{JobRecord, Seen};
use df_store::JobFilter;
use serde::{Deserialize, Serialize};

use crate::auth::Caller;
use crate::error::{ApiError, refused};
use crate::extract::{JsonBody, Params, Passed, at_most};
use crate::gateway::Gateway;
use crate::guard::ListScope;
use crate::limits::{
    DEFAULT_PAGE, MAX_COMMENT_BYTES, MAX_IDEMPOTENCY_KEY_BYTES, MAX_JOB_BYTES, MAX_PAGE, MAX_SMALL_BYTES,
};
use crate::view::job_view;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

type Record = Passed<Arc<JobRecord>>;
type Small<T> = JsonBody<T, MAX_SMALL_BYTES>;

pub(crate) async fn submit(
    State(gateway): State<Gateway>,
    Passed(caller): Passed<Caller>,
    headers: HeaderMap,
    JsonBody(spec): JsonBody<JobSpec, MAX_JOB_BYTES>,
) -> Result<impl IntoResponse, ApiError> {
    let key = idempotency_key(&headers)?;
    for digest in uploaded(&spec) {
        // From here on no sweep removes it before the job names it.
        if !gateway.blobs().keep(&digest, gateway.env().now()).await? {
            let told = format!("the job names the blob {digest}; upload it first (PUT /v1/blobs/{digest})");
            return Err(refused(ErrorCode::BlobMissing, told));
        }
    }
    let submitted = gateway.orchestrator().submit(&caller.asks(), spec, key).await?;
    let address = [(header::LOCATION, format!("/v1/jobs/{}", submitted.id))];
    Ok((StatusCode::CREATED, address, Json(submitted)))
}

pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let fits = |text: &&str| (1..=MAX_IDEMPOTENCY_KEY_BYTES).contains(&text.len());
    value.to_str().ok().filter(fits).map(Some).ok_or_else(|| {
        let told =
            format!("`idempotency-key` must have 1 to {MAX_IDEMPOTENCY_KEY_BYTES} visible ASCII characters");
        refused(ErrorCode::InvalidRequest, told)
    })
}

/// Blobs that a submission refers to.
fn uploaded(spec: &JobSpec) -> Vec<Digest> {
    let source = match &spec.source {
        Source::Bundle { digest } | Source::Tarball { digest } => Some(digest.clone()),
        Source::Empty | Source::Path { .. } | Source::Git { .. } => None,
    };
    source.into_iter().chain(spec.hidden_checks.iter().filter_map(|check| check.blob.clone())).collect()
}

/// `?state=&after=&limit=`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    state: Option<JobState>,
    after: Option<JobId>,
    limit: Option<u32>,
}

pub(crate) async fn list(
    State(gateway): State<Gateway>,
    Passed(caller): Passed<Caller>,
    Passed(ListScope(scope)): Passed<ListScope>,
    Params(query): Params<ListQuery>,
) -> Result<Json<JobPage>, ApiError> {
    let limit = query.limit.unwrap_or(DEFAULT_PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(refused(ErrorCode::InvalidRequest, format!("`limit` goes from 1 to {MAX_PAGE}")));
    }
    let tenant = match scope {
        Scope::Own | Scope::Tenant => Some(caller.tenant),
        Scope::Installation => None,
    };
    // One more than asked for tells whether there is a next page.
    let filter = JobFilter { tenant, state: query.state, after: query.after, limit: limit + 1 };
    let mut jobs = gateway.store().job_list(filter).await?;
    let more = jobs.len() > limit as usize;
    jobs.truncate(limit as usize);
    let next = jobs.last().filter(|_| more).map(|job| job.id.to_string());
    Ok(Json(JobPage { jobs, next }))
}

pub(crate) async fn show(
    State(gateway): State<Gateway>,
    Passed(record): Record,
) -> Result<Json<JobView>, ApiError> {
    let mut waiting = gateway.orchestrator().waiting(&record).await?;
    let mut view = job_view(&record);
    for task in &mut view.tasks {
        task.waiting_for = waiting.remove(&task.slug);
    }
    Ok(Json(view))
}

#[derive(Debug, Serialize)]
pub(crate) struct AuditTrail {
    records: Vec<AuditRecord>,
}

pub(crate) async fn audit(
    State(gateway): State<Gateway>,
    Passed(record): Record,
) -> Result<Json<AuditTrail>, ApiError> {
    Ok(Json(AuditTrail { records: gateway.store().audit(record.id).await? }))
}

pub(crate) async fn approve(
    State(gateway): State<Gateway>,
    Passed(caller): Passed<Caller>,
    Passed(record): Record,
    JsonBody(vote): Small<Vote>,
) -> Result<Json<JobView>, ApiError> {
    cast(&gateway, &caller, record.id, true, vote).await
}

pub(crate) async fn reject(
    State(gateway): State<Gateway>,
    Passed(caller): Passed<Caller>,
    Passed(record): Record,
    JsonBody(vote): Small<Vote>,
) -> Result<Json<JobView>, ApiError> {
    cast(&gateway, &caller, record.id, false, vote).await
}

async fn cast(
    gateway: &Gateway,
    caller: &Caller,
    job: JobId,
    approve: bool,
    vote: Vote,
) -> Result<Json<JobView>, ApiError> {
    let comment = at_most(vote.comment, "comment", MAX_COMMENT_BYTES)?;
    let caller = caller.asks();
    let seen = Seen { job_version: vote.job_version, plan_digest: vote.plan_digest, artefact: vote.artefact };
    let voted = gateway.orchestrator().vote(&caller, job, approve, seen, comment).await?;
    Ok(Json(job_view(&voted)))
}

pub(crate) async fn cancel(
    State(gateway): State<Gateway>,
    Passed(caller): Passed<Caller>,
    Passed(record): Record,
    JsonBody(Cause { cause }): Small<Cause>,
) -> Result<Json<JobView>, ApiError> {
    let cause = at_most(cause, "cause", MAX_COMMENT_BYTES)?;
    Ok(Json(job_view(&gateway.orchestrator().cancel(&caller.asks(), record.id, cause).await?)))
}

pub(crate) async fn pause(
    State(gateway): State<Gateway>,
    Passed(caller): Passed<Caller>,
    Passed(record): Record,
    JsonBody(Cause { cause }): Small<Cause>,
) -> Result<Json<JobView>, ApiError> {
    let cause = at_most(cause, "cause", MAX_COMMENT_BYTES)?;
    Ok(Json(job_view(&gateway.orchestrator().pause(&caller.asks(), record.id, cause).await?)))
}

/// Takes a cause like the others, for the sake of one shape; resuming needs none.
pub(crate) async fn resume(
    State(gateway): State<Gateway>,
    Passed(caller): Passed<Caller>,
    Passed(record): Record,
    JsonBody(Cause { .. }): Small<Cause>,
) -> Result<Json<JobView>, ApiError> {
    Ok(Json(job_view(&gateway.orchestrator().resume(&caller.asks(), record.id).await?)))
}

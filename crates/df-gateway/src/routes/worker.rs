//! The worker protocol: sessions, claims, heartbeats, progress, reports.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use df_contract::lease::{
    Claim, Claimed, Heartbeat, HeartbeatReply, HeldLease, MAX_PROGRESS_BYTES, MAX_PROGRESS_LINES,
    ProgressBatch, Report, SessionOpen, SessionOpened, Watch, Watched,
};
use df_contract::{DurationMs, ErrorCode, LeaseToken};

use crate::auth::Caller;
use crate::error::{ApiError, refused};
use crate::extract::{JsonBody, Passed, PathOf, at_most};
use crate::gateway::Gateway;
use crate::guard::LeasePass;
use crate::limits::{
    CLAIM_SLICE, MAX_CAPACITY, MAX_IDENTITY_BYTES, MAX_PROGRESS_BATCH_BYTES, MAX_PROGRESS_KIND_BYTES,
    MAX_REPORT_BYTES, MAX_SMALL_BYTES,
};

pub(crate) async fn open(
    State(gateway): State<Gateway>,
    Passed(caller): Passed<Caller>,
    JsonBody(open): JsonBody<SessionOpen, MAX_SMALL_BYTES>,
) -> Result<(StatusCode, Json<SessionOpened>), ApiError> {
    let name = at_most(open.name, "name", MAX_IDENTITY_BYTES)?;
    if !(1..=MAX_CAPACITY).contains(&open.capacity) {
        return Err(refused(ErrorCode::InvalidRequest, format!("`capacity` goes from 1 to {MAX_CAPACITY}")));
    }
    let open = SessionOpen { name, ..open };
    if let Some(wrong) = open.wrong_labels() {
        return Err(refused(ErrorCode::InvalidRequest, wrong));
    }
    let opened = gateway.orchestrator().session_open(caller.key, caller.class, open).await?;
    tracing::info!(session = %opened.session, worker = caller.identity, "worker session opened");
    Ok((StatusCode::CREATED, Json(opened)))
}

/// Waits for work in slices, so that a daemon that stops does not wait for the whole time, and a claim under way is
/// never dropped between its commit and its answer.
pub(crate) async fn claim(
    State(gateway): State<Gateway>,
    Passed(caller): Passed<Caller>,
    path: PathOf,
    JsonBody(ask): JsonBody<Claim, MAX_SMALL_BYTES>,
) -> Result<Json<Claimed>, ApiError> {
    let session = path.parse("id")?;
    let slice = DurationMs(CLAIM_SLICE.as_millis() as u64);
    let mut left = ask.wait_ms.min(df_orchestration::workers::MAX_CLAIM_WAIT);
    loop {
        let part = Claim { kinds: ask.kinds.clone(), max: ask.max, wait_ms: left.min(slice) };
        let claimed = gateway.orchestrator().claim(session, caller.key, part).await?;
        left = DurationMs(left.0.saturating_sub(slice.0));
        if !claimed.leases.is_empty() || left == DurationMs::ZERO || *gateway.stop().borrow() {
            return Ok(Json(claimed));
        }
    }
}

pub(crate) async fn heartbeat(
    State(gateway): State<Gateway>,
    Passed(caller): Passed<Caller>,
    path: PathOf,
    JsonBody(beat): JsonBody<Heartbeat, MAX_SMALL_BYTES>,
) -> Result<Json<HeartbeatReply>, ApiError> {
    check_held(&beat.held)?;
    let session = path.parse("id")?;
    Ok(Json(gateway.orchestrator().heartbeat(session, caller.key, beat).await?))
}

/// Reads alone, so it may be dropped at any moment: when the daemon stops, and when the worker has something else to ask.
pub(crate) async fn watch(
    State(gateway): State<Gateway>,
    Passed(caller): Passed<Caller>,
    path: PathOf,
    JsonBody(watch): JsonBody<Watch, MAX_SMALL_BYTES>,
) -> Result<Json<Watched>, ApiError> {
    check_held(&watch.held)?;
    let (session, mut stop) = (path.parse("id")?, gateway.stop());
    tokio::select! {
        answer = gateway.orchestrator().watch(session, caller.key, watch) => Ok(Json(answer?)),
        _ = stop.wait_for(|stop| *stop) => Ok(Json(Watched { lost: Vec::new() })),
    }
}

fn check_held(held: &[HeldLease]) -> Result<(), ApiError> {
    if held.len() <= MAX_CAPACITY as usize {
        return Ok(());
    }
    Err(refused(ErrorCode::InvalidRequest, format!("`held` has more than {MAX_CAPACITY} leases")))
}

pub(crate) async fn close(
    State(gateway): State<Gateway>,
    Passed(caller): Passed<Caller>,
    path: PathOf,
) -> Result<StatusCode, ApiError> {
    gateway.orchestrator().session_close(path.parse("id")?, caller.key).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(crate) async fn progress(
    State(gateway): State<Gateway>,
    Passed(LeasePass { held, .. }): Passed<LeasePass>,
    JsonBody(batch): JsonBody<ProgressBatch, MAX_PROGRESS_BATCH_BYTES>,
) -> Result<StatusCode, ApiError> {
    if batch.lines.len() > MAX_PROGRESS_LINES {
        let told = format!("`lines` has {} lines, the limit is {MAX_PROGRESS_LINES}", batch.lines.len());
        return Err(refused(ErrorCode::InvalidRequest, told));
    }
    if let Some(line) = batch.lines.iter().find(|line| line.text.len() > MAX_PROGRESS_BYTES) {
        let told = format!("a line has {} bytes, the limit is {MAX_PROGRESS_BYTES}", line.text.len());
        return Err(refused(ErrorCode::InvalidRequest, told));
    }
    // It is kept and shown with the text: as long as a batch, it would be 20,000 times that in the store.
    if let Some(line) = batch.lines.iter().find(|line| line.kind.len() > MAX_PROGRESS_KIND_BYTES) {
        let told = format!(
            "the kind of a line has {} bytes, the limit is {MAX_PROGRESS_KIND_BYTES}",
            line.kind.len()
        );
        return Err(refused(ErrorCode::InvalidRequest, told));
    }
    gateway.orchestrator().progress(&held, batch).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The state machine fences the epoch, so the guard lets a report in whose lease has ended: sent again after a lost
/// answer it gets the first outcome, and anything else is refused as stale.
pub(crate) async fn report(
    State(gateway): State<Gateway>,
    Passed(token): Passed<LeaseToken>,
    JsonBody(report): JsonBody<Report, MAX_REPORT_BYTES>,
) -> Result<StatusCode, ApiError> {
    gateway.orchestrator().report(&token.0, gateway.blobs(), report).await?;
    Ok(StatusCode::NO_CONTENT)
}

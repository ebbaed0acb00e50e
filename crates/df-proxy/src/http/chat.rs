//! `POST /v1/chat/completions` and `GET /v1/models`.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream;
use serde_json::json;
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

use super::{auth, refuse};
use crate::call::{self, Call, ChatRequest, Client, Frame};
use crate::core::Core;
use crate::error::CallError;

/// A stream is silent at most this long: then a comment shows the client that the call is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const KEEP_ALIVE_COMMENT: &[u8] = b": waiting\n\n";
const RECORDING_HEADER: &str = "x-devfactory-recording";
/// Calls of one session share a prompt cache where that is possible.
const SESSION_HEADER: &str = "x-devfactory-session";
/// Only this account, for what is kept there.
const ACCOUNT_HEADER: &str = "x-devfactory-account";
/// Longest value of either, in bytes.
const MAX_NAME_BYTES: usize = 256;

pub(super) async fn completions(State(core): State<Arc<Core>>, request: Request) -> Response {
    match let_in(core, request).await {
        Ok((streamed, frames)) if streamed => streamed_answer(frames).await,
        Ok((_, frames)) => whole_answer(frames).await,
        Err(error) => refuse(&error),
    }
}

/// Who asks is settled before the body is read.
async fn let_in(core: Arc<Core>, request: Request) -> Result<(bool, Receiver<Frame>), CallError> {
    let caller = auth::caller(&core, request.headers())?;
    let permit = Arc::clone(&core.permits)
        .try_acquire_owned()
        .map_err(|_| CallError::Busy(core.limits.max_in_flight))?;
    let alive = core.alive.upgrade().ok_or(CallError::Lost)?;
    let session = named(request.headers(), SESSION_HEADER)?;
    let account = named(request.headers(), ACCOUNT_HEADER)?;
    let limit = core.limits.max_request_bytes;
    let read = timeout(core.limits.body_timeout(), to_bytes(request.into_body(), limit)).await;
    let read = read.map_err(|_elapsed| CallError::Invalid("the body did not arrive in time".into()))?;
    let body = read.map_err(|error| {
        // axum names the cause only in its text.
        let too_large = std::error::Error::source(&error).is_some_and(|e| e.to_string().contains("limit"));
        if too_large {
            CallError::BodyTooLarge(limit)
        } else {
            CallError::Invalid("the body broke off".into())
        }
    })?;
    let request = ChatRequest::parse(&body)?;
    if !caller.covers(&request.model) {
        return Err(CallError::ModelForbidden(request.model));
    }
    let fingerprint = if core.needs_fingerprints() { request.fingerprint() } else { None };
    let streamed = request.stream;
    let (client, frames) = Client::new();
    let call = Call { caller, request, fingerprint, session, account };
    tokio::spawn(async move {
        call::answer(core, call, client).await;
        drop((permit, alive));
    });
    Ok((streamed, frames))
}

fn named(headers: &HeaderMap, name: &str) -> Result<Option<String>, CallError> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    match value.to_str() {
        Ok(text) if text.len() <= MAX_NAME_BYTES => Ok(Some(text.to_owned())),
        Ok(_) | Err(_) => Err(CallError::Invalid(format!("`{name}` must be short plain text"))),
    }
}

async fn whole_answer(mut frames: Receiver<Frame>) -> Response {
    let mut recorded = None;
    while let Some(frame) = frames.recv().await {
        match frame {
            Frame::Begin { recording } => recorded = recording,
            Frame::Whole(bytes) => {
                return with_recording(([(header::CONTENT_TYPE, "application/json")], bytes), recorded);
            }
            Frame::Fail(error) => return refuse(&error),
            Frame::Event(_) | Frame::End => break,
        }
    }
    refuse(&CallError::Lost)
}

/// Waits a while for the first token, so that an early failure has its own status; then the stream is opened anyway.
async fn streamed_answer(mut frames: Receiver<Frame>) -> Response {
    let recorded = match timeout(KEEP_ALIVE, frames.recv()).await {
        Ok(Some(Frame::Begin { recording })) => recording,
        Ok(Some(Frame::Fail(error))) => return refuse(&error),
        Ok(Some(Frame::Event(_) | Frame::Whole(_) | Frame::End) | None) => return refuse(&CallError::Lost),
        Err(_elapsed) => None,
    };
    let body = Body::from_stream(stream::unfold(Some(frames), next_bytes));
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    with_recording((headers, body), recorded)
}

type Next = Option<(Result<Bytes, std::convert::Infallible>, Option<Receiver<Frame>>)>;

/// The stream ends with `[DONE]` or with an error event, and with nothing else.
async fn next_bytes(frames: Option<Receiver<Frame>>) -> Next {
    let mut frames = frames?;
    let event = |data: &str| Bytes::from(format!("data: {data}\n\n"));
    loop {
        let failed = match timeout(KEEP_ALIVE, frames.recv()).await {
            Err(_elapsed) => return Some((Ok(Bytes::from_static(KEEP_ALIVE_COMMENT)), Some(frames))),
            Ok(Some(Frame::Begin { .. })) => continue,
            Ok(Some(Frame::Event(data))) => return Some((Ok(event(&data)), Some(frames))),
            Ok(Some(Frame::End)) => return Some((Ok(event("[DONE]")), None)),
            Ok(Some(Frame::Fail(error))) => error,
            Ok(Some(Frame::Whole(_)) | None) => CallError::Lost,
        };
        return Some((Ok(event(&failed.to_json().to_string())), None));
    }
}

fn with_recording(response: impl IntoResponse, recorded: Option<&'static str>) -> Response {
    let mut response = response.into_response();
    if let Some(value) = recorded {
        response.headers_mut().insert(RECORDING_HEADER, HeaderValue::from_static(value));
    }
    response
}

/// The models of the credential that some route serves.
pub(super) async fn models(State(core): State<Arc<Core>>, headers: HeaderMap) -> Response {
    let caller = match auth::caller(&core, &headers) {
        Ok(caller) => caller,
        Err(error) => return refuse(&error),
    };
    let routed = core.pool.routed_models();
    let data: Vec<_> = caller
        .named_models()
        .unwrap_or(&routed)
        .iter()
        .filter(|m| core.pool.serves(m))
        .map(|id| json!({"id": id, "object": "model", "created": 0, "owned_by": "devfactory"}))
        .collect();
    axum::Json(json!({"object": "list", "data": data})).into_response()
}

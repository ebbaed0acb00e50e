//! The daemon's side of the protocol, played from a script, and a model that says what it is told.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use df_contract::lease::{
    Claim, Claimed, Heartbeat, HeartbeatReply, HeldLease, ProgressBatch, ProgressLine, Report, SessionOpen,
    SessionOpened,
};
use df_contract::{Digest, DurationMs, ErrorCode, Lease, Problem, SessionId, WorkerClass};
use serde_json::{Value, json};
use tokio::sync::Notify;

pub(crate) const KEY: &str = "worker-key";

/// What the daemon knows and saw.
#[derive(Debug, Default)]
pub(crate) struct Scene {
    pub blobs: BTreeMap<Digest, Vec<u8>>,
    pub leases: Vec<Lease>,
    pub lines: Vec<ProgressLine>,
    pub reports: Vec<Report>,
    pub sessions: u64,
    /// What the last worker said of itself.
    pub opened: Option<SessionOpen>,
    pub closed: u32,
    pub lost: Vec<HeldLease>,
    /// Sessions that are refused from now on.
    pub forgotten: Vec<String>,
    /// So many further requests are answered with 503.
    pub unavailable: u32,
    /// Answers of the model, in order.
    pub answers: VecDeque<Value>,
    pub model_calls: Vec<Value>,
    pub ttl_ms: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct Stage {
    scene: Arc<Mutex<Scene>>,
    changed: Arc<Notify>,
    pub address: String,
}

impl Stage {
    /// Serves on a port of its own until the test ends.
    pub(crate) async fn open() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let scene = Scene { ttl_ms: 15_000, ..Scene::default() };
        let stage = Self { scene: Arc::new(Mutex::new(scene)), changed: Arc::new(Notify::new()), address };
        let router = Router::new()
            .route("/v1/worker/sessions", post(open_session))
            .route("/v1/worker/sessions/{session}", delete(close_session))
            .route("/v1/worker/sessions/{session}/claim", post(claim))
            .route("/v1/worker/sessions/{session}/heartbeat", post(heartbeat))
            .route("/v1/worker/leases/{job}/{slug}/{epoch}/events", post(events))
            .route("/v1/worker/leases/{job}/{slug}/{epoch}/report", post(report))
            .route("/v1/blobs/{digest}", get(blob_get).put(blob_put))
            .route("/v1/chat/completions", post(model))
            .layer(DefaultBodyLimit::disable())
            .with_state(stage.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        stage
    }

    pub(crate) fn scene(&self) -> MutexGuard<'_, Scene> {
        self.scene.lock().unwrap()
    }

    pub(crate) fn blob(&self, bytes: Vec<u8>) -> Digest {
        let digest = Digest::of(&bytes);
        self.scene().blobs.insert(digest.clone(), bytes);
        digest
    }

    /// Waits until `seen` gives something.
    pub(crate) async fn until<T>(&self, mut seen: impl FnMut(&mut Scene) -> Option<T>) -> T {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(found) = seen(&mut self.scene()) {
                return found;
            }
            changed.await;
        }
    }

    /// Whoever waits looks again.
    pub(crate) fn poke(&self) {
        self.changed.notify_waiters();
    }

    fn change<T>(&self, act: impl FnOnce(&mut Scene) -> T) -> T {
        let result = act(&mut self.scene());
        self.changed.notify_waiters();
        result
    }

    /// Refuses when the scene says so, or when the bearer is not `expected`.
    fn enter(&self, headers: &HeaderMap, expected: &str) -> Result<(), Refusal> {
        let mut scene = self.scene();
        if scene.unavailable > 0 {
            scene.unavailable -= 1;
            return Err(Refusal(ErrorCode::StoreUnavailable));
        }
        let bearer = headers.get("authorization").and_then(|v| v.to_str().ok()).unwrap_or_default();
        if bearer == format!("Bearer {expected}") { Ok(()) } else { Err(Refusal(ErrorCode::Unauthenticated)) }
    }

    fn enter_session(&self, headers: &HeaderMap, session: &str) -> Result<(), Refusal> {
        self.enter(headers, KEY)?;
        if self.scene().forgotten.iter().any(|s| s == session) {
            Err(Refusal(ErrorCode::NotFound))
        } else {
            Ok(())
        }
    }
}

/// Refuses a request with a code.
#[derive(Debug)]
struct Refusal(ErrorCode);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.http_status()).unwrap();
        (status, Json(Problem::new(self.0, "as the script says"))).into_response()
    }
}

type Answer = Result<Response, Refusal>;

async fn open_session(
    State(stage): State<Stage>,
    headers: HeaderMap,
    Json(open): Json<SessionOpen>,
) -> Answer {
    stage.enter(&headers, KEY)?;
    let (number, ttl) = stage.change(|s| {
        s.opened = Some(open);
        s.sessions += 1;
        (s.sessions, s.ttl_ms)
    });
    let session = SessionId::mint(df_contract::Timestamp::from_millis(number), [7; 10]);
    let (ttl_ms, heartbeat_every_ms) = (DurationMs(ttl), DurationMs(100));
    Ok(Json(SessionOpened { session, class: WorkerClass::Trusted, ttl_ms, heartbeat_every_ms })
        .into_response())
}

async fn close_session(
    State(stage): State<Stage>,
    Path(session): Path<String>,
    headers: HeaderMap,
) -> Answer {
    stage.enter_session(&headers, &session)?;
    stage.change(|s| s.closed += 1);
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn claim(
    State(stage): State<Stage>,
    Path(session): Path<String>,
    headers: HeaderMap,
    Json(claim): Json<Claim>,
) -> Answer {
    stage.enter_session(&headers, &session)?;
    let take = |s: &mut Scene| {
        let fits = |l: &Lease| claim.kinds.contains(&l.kind());
        let at = s.leases.iter().position(fits)?;
        Some(vec![s.leases.remove(at)])
    };
    let leases = tokio::time::timeout(claim.wait_ms.to_std(), stage.until(take)).await.unwrap_or_default();
    Ok(Json(Claimed { leases }).into_response())
}

async fn heartbeat(
    State(stage): State<Stage>,
    Path(session): Path<String>,
    headers: HeaderMap,
    Json(_): Json<Heartbeat>,
) -> Answer {
    stage.enter_session(&headers, &session)?;
    let lost = stage.change(|s| s.lost.clone());
    Ok(Json(HeartbeatReply { lost, grants: BTreeMap::new() }).into_response())
}

async fn events(State(stage): State<Stage>, headers: HeaderMap, Json(batch): Json<ProgressBatch>) -> Answer {
    stage.enter(&headers, "lease-token")?;
    stage.change(|s| {
        assert_eq!(batch.first, s.lines.len() as u64, "batches are numbered without gaps");
        s.lines.extend(batch.lines);
    });
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn report(State(stage): State<Stage>, headers: HeaderMap, Json(report): Json<Report>) -> Answer {
    stage.enter(&headers, "lease-token")?;
    let missing: Vec<Digest> = df_contract::lease::blobs_of(&report.outcome)
        .into_iter()
        .filter(|d| !stage.scene().blobs.contains_key(d))
        .collect();
    if !missing.is_empty() {
        return Err(Refusal(ErrorCode::BlobMissing));
    }
    stage.change(|s| s.reports.push(report));
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn blob_get(State(stage): State<Stage>, Path(digest): Path<Digest>, headers: HeaderMap) -> Answer {
    stage.enter(&headers, "lease-token")?;
    let found = stage.scene().blobs.get(&digest).cloned();
    found.map(IntoResponse::into_response).ok_or(Refusal(ErrorCode::BlobMissing))
}

async fn blob_put(
    State(stage): State<Stage>,
    Path(digest): Path<Digest>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    stage.enter(&headers, "lease-token")?;
    if Digest::of(&body) != digest {
        return Err(Refusal(ErrorCode::BlobDigest));
    }
    stage.change(|s| s.blobs.insert(digest, body.to_vec()));
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn model(State(stage): State<Stage>, headers: HeaderMap, Json(request): Json<Value>) -> Answer {
    stage.enter(&headers, "grant")?;
    let next = stage.change(|s| {
        s.model_calls.push(request);
        s.answers.pop_front()
    });
    let message = next.ok_or(Refusal(ErrorCode::RecordingMismatch))?;
    let usage = json!({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15});
    let choice = json!({"index": 0, "finish_reason": "tool_calls", "message": message});
    Ok(Json(json!({"id": "x", "object": "chat.completion", "choices": [choice], "usage": usage}))
        .into_response())
}

/// A model's message that calls one tool.
pub(crate) fn call(tool: &str, arguments: Value) -> Value {
    let function = json!({"name": tool, "arguments": arguments.to_string()});
    json!({"role": "assistant", "content": null, "tool_calls": [{"id": "c", "type": "function", "function": function}]})
}

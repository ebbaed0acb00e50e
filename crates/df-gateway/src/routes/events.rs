//! A job's events as they happen: server-sent events, or JSON lines.
//!
//! A stream is a position in the store and nothing else. Hints only wake it up, so a lost hint delays an event and
//! never loses one, and a client that comes back with `Last-Event-ID` sees each event once.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use df_contract::{Digest, ErrorCode, JobEventView, JobId};
use df_control_machine::JobRecord;
use futures::{Stream, StreamExt as _, stream};
use serde::Deserialize;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::{OwnedSemaphorePermit, watch};

use crate::auth::{Caller, live};
use crate::error::{ApiError, refused};
use crate::extract::{Params, Passed};
use crate::gateway::Gateway;
use crate::limits::{EVENT_PAGE, MAX_STREAMS, STREAM_HEARTBEAT, STREAM_RECHECK};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// `?after=&format=&follow=`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventQuery {
    /// Start after this event; `Last-Event-ID` goes before it.
    after: Option<u64>,
    #[serde(default)]
    format: Format,
    #[serde(default)]
    follow: Follow,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[default]
    Sse,
    Jsonl,
}

/// `false` ends the stream after what there is now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Follow {
    #[default]
    True,
    False,
}

pub(crate) async fn stream(
    State(gateway): State<Gateway>,
    Passed(caller): Passed<Caller>,
    Passed(record): Passed<Arc<JobRecord>>,
    headers: HeaderMap,
    Params(query): Params<EventQuery>,
) -> Result<Response, ApiError> {
    let after = last_event_id(&headers)?.or(query.after).unwrap_or(0);
    let permit = Arc::clone(gateway.streams()).try_acquire_owned().map_err(|_| {
        refused(ErrorCode::RateLimited, format!("{MAX_STREAMS} event streams are open, which is the limit"))
    })?;
    let tail = Tail {
        hints: gateway.store().subscribe(),
        stop: gateway.stop(),
        gateway,
        job: record.id,
        key: caller.hash,
        after,
        follow: query.follow,
        waiting: VecDeque::new(),
        _permit: permit,
    };
    Ok(match query.format {
        Format::Sse => sse(tail.events()).into_response(),
        Format::Jsonl => jsonl(tail.events()),
    })
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, ApiError> {
    let Some(value) = headers.get(LAST_EVENT_ID) else { return Ok(None) };
    let parsed = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    parsed
        .map(Some)
        .ok_or_else(|| refused(ErrorCode::InvalidRequest, "`last-event-id` must be an event's number"))
}

fn sse(events: impl Stream<Item = JobEventView> + Send + 'static) -> impl IntoResponse {
    let named = events.filter_map(async |event| {
        let data = serde_json::to_string(&event).ok()?;
        Some(Ok::<_, Infallible>(Event::default().id(event.seq.to_string()).data(data)))
    });
    Sse::new(named).keep_alive(KeepAlive::new().interval(STREAM_HEARTBEAT).text("keep-alive"))
}

fn jsonl(events: impl Stream<Item = JobEventView> + Send + 'static) -> Response {
    let lines = events.filter_map(async |event| {
        let line = serde_json::to_string(&event).ok()?;
        Some(Ok::<_, Infallible>(format!("{line}\n")))
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}

/// Resolves when the process is told to stop, or nobody is left to tell it.
async fn told(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|s| *s).await;
}

/// One reader of one job's events.
struct Tail {
    gateway: Gateway,
    job: JobId,
    key: Digest,
    after: u64,
    follow: Follow,
    waiting: VecDeque<JobEventView>,
    hints: broadcast::Receiver<JobId>,
    stop: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
}

impl Tail {
    fn events(self) -> impl Stream<Item = JobEventView> + Send + 'static {
        stream::unfold(self, async |mut tail| tail.next().await.map(|event| (event, tail)))
    }

    async fn next(&mut self) -> Option<JobEventView> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                self.after = event.seq;
                return Some(event);
            }
            let last = self.fill().await.inspect_err(|error| {
                tracing::warn!(job = %self.job, error = %error, "an event stream broke off");
            });
            if self.waiting.is_empty() && (last.ok()? || self.follow == Follow::False || !self.wait().await) {
                return None;
            }
        }
    }

    /// Reads the next page; true when nothing can come after it. The state is read first: what was written before
    /// the job ended is then in the page.
    async fn fill(&mut self) -> Result<bool, ApiError> {
        let record = self.gateway.orchestrator().job(self.job).await?;
        let ended = df_control_machine::job::is_terminal(record.state);
        self.waiting = self.gateway.store().events(self.job, self.after, EVENT_PAGE).await?.into();
        Ok(ended)
    }

    /// Waits for a reason to look again; false when the stream must end.
    async fn wait(&mut self) -> bool {
        let recheck = tokio::time::sleep(STREAM_RECHECK);
        tokio::pin!(recheck);
        loop {
            tokio::select! {
                () = told(&mut self.stop) => return false,
                () = &mut recheck => return self.key_lives().await,
                hint = self.hints.recv() => match hint {
                    Ok(job) if job != self.job => {}
                    Ok(_) | Err(RecvError::Lagged(_)) => return true,
                    Err(RecvError::Closed) => return false,
                },
            }
        }
    }

    /// A revoked key loses the streams it has open, too.
    async fn key_lives(&self) -> bool {
        matches!(live(self.gateway.store(), self.gateway.env(), self.key.clone()).await, Ok(Some(_)))
    }
}

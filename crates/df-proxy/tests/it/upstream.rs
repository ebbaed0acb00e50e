//! A provider that says what a test told it to say.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

/// One answer.
#[derive(Debug, Clone)]
pub(crate) enum Say {
    Status(u16, &'static [(&'static str, &'static str)], Value),
    Whole(Value),
    /// With these headers.
    Headed(&'static [(&'static str, &'static str)], Box<Say>),
    /// Status, content type and body as they are.
    Raw(u16, &'static str, &'static str),
    /// Events, then what comes after them.
    Stream(Vec<Value>, After),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// `[DONE]`
    Done,
    /// The connection breaks.
    Cut,
    /// Waits for [`Upstream::release`], then says the rest of a good answer.
    HoldThenDone,
}

/// What was asked.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) authorization: Option<String>,
    pub(crate) body: Value,
}

#[derive(Debug, Clone)]
struct Shared {
    script: Arc<Mutex<VecDeque<Say>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
    released: Arc<Semaphore>,
}

#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    shared: Shared,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Upstream {
    /// Says each answer once, the last for ever.
    pub(crate) async fn new(script: impl IntoIterator<Item = Say>) -> Self {
        let shared = Shared {
            script: Arc::new(Mutex::new(script.into_iter().collect())),
            asked: Arc::default(),
            released: Arc::new(Semaphore::new(0)),
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(say).with_state(shared.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, shared, serving }
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().unwrap().clone()
    }

    pub(crate) fn release(&self) {
        self.shared.released.add_permits(1);
    }
}

async fn say(State(shared): State<Shared>, headers: HeaderMap, body: Bytes) -> Response {
    let authorization = headers.get(header::AUTHORIZATION).map(|v| v.to_str().unwrap().to_owned());
    let body = serde_json::from_slice(&body).unwrap_or_default();
    shared.asked.lock().unwrap().push(Asked { authorization, body });
    let next = {
        let mut script = shared.script.lock().unwrap();
        if script.len() > 1 { script.pop_front().unwrap() } else { script.front().unwrap().clone() }
    };
    said(next, &shared)
}

fn said(next: Say, shared: &Shared) -> Response {
    match next {
        Say::Status(status, headers, body) => {
            headed(headers, (StatusCode::from_u16(status).unwrap(), axum::Json(body)).into_response())
        }
        Say::Headed(headers, then) => headed(headers, said(*then, shared)),
        Say::Whole(body) => axum::Json(body).into_response(),
        Say::Raw(status, kind, body) => {
            (StatusCode::from_u16(status).unwrap(), [(header::CONTENT_TYPE, kind)], body).into_response()
        }
        Say::Stream(events, after) => stream(events, after, Arc::clone(&shared.released)),
    }
}

fn headed(headers: &[(&'static str, &'static str)], mut response: Response) -> Response {
    for (name, value) in headers {
        response.headers_mut().insert(*name, value.parse().unwrap());
    }
    response
}

fn stream(events: Vec<Value>, after: After, released: Arc<Semaphore>) -> Response {
    let event = |v: &Value| Ok(Bytes::from(format!("data: {v}\n\n")));
    let mut first: Vec<Result<Bytes, std::io::Error>> = events.iter().map(event).collect();
    let rest: Vec<Result<Bytes, std::io::Error>> = match after {
        After::Done => {
            first.push(Ok("data: [DONE]\n\n".into()));
            Vec::new()
        }
        After::Cut => vec![Err(std::io::Error::other("cut"))],
        After::HoldThenDone => {
            let mut rest: Vec<_> = tail(10, 5).iter().map(event).collect();
            rest.push(Ok("data: [DONE]\n\n".into()));
            rest
        }
    };
    let held = futures::stream::once(async move {
        if after == After::HoldThenDone {
            released.acquire().await.unwrap().forget();
        } else {
            // Lets what was said so far reach the reader before the connection breaks.
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        futures::stream::iter(rest)
    });
    let body = Body::from_stream(futures::stream::iter(first).chain(held.flatten()));
    ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response()
}

pub(crate) fn chunk(delta: Value, finish: Value) -> Value {
    json!({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m",
           "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
}

/// The end of a streamed answer: finish reason, then usage.
pub(crate) fn tail(input: u64, output: u64) -> Vec<Value> {
    let usage = json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output});
    vec![
        chunk(json!({}), "stop".into()),
        json!({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [], "usage": usage}),
    ]
}

/// A good streamed answer.
pub(crate) fn streamed(text: &str) -> Say {
    let mut events = vec![chunk(json!({"role": "assistant", "content": ""}), Value::Null)];
    events.push(chunk(json!({"content": text}), Value::Null));
    events.extend(tail(10, 5));
    Say::Stream(events, After::Done)
}

/// A good whole answer.
pub(crate) fn whole(text: &str) -> Say {
    Say::Whole(json!({
        "id": "c1", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }))
}

//! The request's id, its log line, and the headers every answer carries.

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument as _;

use crate::error::AnsweredCode;
use crate::gateway::Gateway;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// A client's own id is taken over up to this length.
const MAX_REQUEST_ID: usize = 64;

/// Gives the request an id and logs how it ended. Paths are logged as patterns, never with what was put in.
pub(crate) async fn trace(State(gateway): State<Gateway>, request: Request, next: Next) -> Response {
    let id = request_id(&request).unwrap_or_else(|| gateway.env().secret().chars().take(32).collect());
    let method = request.method().clone();
    let path = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str).to_owned();
    let span = tracing::info_span!("request", request_id = id, method = method.as_str(), path);
    let began = gateway.env().now();
    let mut response = next.run(request).instrument(span.clone()).await;
    let duration_ms = gateway.env().now().since(began).0;
    let status = response.status().as_u16();
    let code = response.extensions().get::<AnsweredCode>().map_or("", |c| c.0.code());
    span.in_scope(|| tracing::debug!(status, code, duration_ms, "request answered"));
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, value);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

fn request_id(request: &Request) -> Option<String> {
    let text = request.headers().get(REQUEST_ID)?.to_str().ok()?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    ((1..=MAX_REQUEST_ID).contains(&text.len()) && text.bytes().all(plain)).then(|| text.to_owned())
}

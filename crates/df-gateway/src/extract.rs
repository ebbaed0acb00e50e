//! Reading requests: every refusal is a problem document that names what is wrong.

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Query, RawPathParams, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use df_contract::ErrorCode;
use futures::StreamExt as _;
use serde::de::DeserializeOwned;

use crate::error::{ApiError, refused, unreadable};
use crate::limits::{BODY_TIMEOUT, MAX_DISCARDED};

/// A JSON body of at most `LIMIT` bytes. No body at all reads as `{}`.
#[derive(Debug)]
pub(crate) struct JsonBody<T, const LIMIT: usize>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned, const LIMIT: usize> FromRequest<S> for JsonBody<T, LIMIT> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        let too_large =
            || refused(ErrorCode::BodyTooLarge, format!("this endpoint takes at most {LIMIT} bytes"));
        if content_length(request.headers()).is_some_and(|n| n > (LIMIT + MAX_DISCARDED) as u64) {
            return Err(too_large());
        }
        let is_json = is_json(request.headers());
        let read = tokio::time::timeout(BODY_TIMEOUT, collect(request.into_body(), LIMIT)).await;
        let slow = |_| unreadable(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time");
        let bytes = read.map_err(slow)??.ok_or_else(too_large)?;
        if bytes.is_empty() {
            return parse(b"{}").map(Self);
        }
        if !is_json {
            let told = "the body must be JSON; send `content-type: application/json`";
            return Err(unreadable(StatusCode::UNSUPPORTED_MEDIA_TYPE, told));
        }
        parse(&bytes).map(Self)
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(bytes)
        .map_err(|e| refused(ErrorCode::InvalidRequest, format!("the JSON body does not fit: {e}")))
}

/// The whole body, or nothing when it is larger than `limit`: then the rest is read and forgotten, up to a bound. A
/// connection that is closed while its client still sends loses the answer.
async fn collect(body: Body, limit: usize) -> Result<Option<Vec<u8>>, ApiError> {
    let mut pieces = body.into_data_stream();
    let (mut bytes, mut arrived) = (Vec::new(), 0);
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| refused(ErrorCode::InvalidRequest, "the body broke off"))?;
        arrived += piece.len();
        if arrived <= limit {
            bytes.extend_from_slice(&piece);
        } else if arrived > limit + MAX_DISCARDED {
            break;
        }
    }
    Ok((arrived <= limit).then_some(bytes))
}

pub(crate) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn is_json(headers: &HeaderMap) -> bool {
    let text = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// The query string. Unknown names are refused by the types themselves.
#[derive(Debug)]
pub(crate) struct Params<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let Query(value) = Query::try_from_uri(&parts.uri).map_err(|e| {
            refused(ErrorCode::InvalidRequest, format!("the query does not fit: {}", e.body_text()))
        })?;
        Ok(Self(value))
    }
}

/// Parameters of the path, by name.
#[derive(Debug)]
pub(crate) struct PathOf(RawPathParams);

impl<S: Send + Sync> FromRequestParts<S> for PathOf {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let params = RawPathParams::from_request_parts(parts, state).await;
        params.map(Self).map_err(|_| refused(ErrorCode::NotFound, "the address cannot be read"))
    }
}

impl PathOf {
    /// The parameter `name`, parsed; an unreadable one is an address where nothing is.
    pub(crate) fn parse<T: std::str::FromStr>(&self, name: &'static str) -> Result<T, ApiError>
    where
        T::Err: std::fmt::Display,
    {
        let text = self.0.iter().find(|(n, _)| *n == name).map_or("", |(_, value)| value);
        text.parse().map_err(|e| refused(ErrorCode::NotFound, format!("{name}: {e}")))
    }
}

/// What the guard left for the handler.
#[derive(Debug)]
pub(crate) struct Passed<T>(pub(crate) T);

impl<S: Send + Sync, T: Clone + Send + Sync + 'static> FromRequestParts<S> for Passed<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let found = parts.extensions.get::<T>().cloned();
        found.map(Self).ok_or_else(|| refused(ErrorCode::Internal, "the guard left nothing for the handler"))
    }
}

/// A text of a request within its limit.
pub(crate) fn at_most(text: String, field: &'static str, limit: usize) -> Result<String, ApiError> {
    if text.len() <= limit {
        return Ok(text);
    }
    let told = format!("`{field}` has {} bytes, the limit is {limit}", text.len());
    Err(refused(ErrorCode::InvalidRequest, told))
}

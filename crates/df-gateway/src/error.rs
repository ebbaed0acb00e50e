//! Refusals and failures on their way out: always problem+json, never a cause from inside.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use df_contract::{ErrorCode, Problem};
use df_orchestration::OrchestrationError;
use df_store::{BlobError, StoreError};

/// Anything an endpoint can answer instead of what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    #[error("the request was refused: {0}")]
    Refused(Box<Problem>),
    #[error("orchestration did not do it")]
    Orchestration(#[from] OrchestrationError),
    #[error("the store did not answer")]
    Store(#[from] StoreError),
    #[error("the blob store did not answer")]
    Blob(#[from] BlobError),
}

/// The code of an answer, for the request's log line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AnsweredCode(pub(crate) ErrorCode);

/// A refusal worded here.
pub(crate) fn refused(code: ErrorCode, detail: impl Into<String>) -> ApiError {
    ApiError::Refused(Box::new(Problem::new(code, detail)))
}

/// A request that cannot be read, with a status more exact than its code's own.
pub(crate) fn unreadable(status: StatusCode, detail: impl Into<String>) -> ApiError {
    let mut problem = Problem::new(ErrorCode::InvalidRequest, detail);
    problem.status = status.as_u16();
    ApiError::Refused(Box::new(problem))
}

impl ApiError {
    /// What the client is told.
    pub fn problem(&self) -> Problem {
        let problem = match self {
            ApiError::Refused(problem) => (**problem).clone(),
            ApiError::Orchestration(e) => e.problem(),
            ApiError::Store(e) => Problem::new(e.code(), e.to_string()),
            ApiError::Blob(e) => Problem::new(blob_code(e), e.to_string()),
        };
        match public_detail(problem.code) {
            None => problem,
            Some(detail) => Problem::new(problem.code, detail),
        }
    }
}

fn blob_code(error: &BlobError) -> ErrorCode {
    match error {
        BlobError::Digest { .. } => ErrorCode::BlobDigest,
        BlobError::TooLarge { .. } => ErrorCode::BodyTooLarge,
        BlobError::Store(e) => e.code(),
    }
}

/// What is said instead of an inner cause. Causes hold paths and SQL; they are in the log.
fn public_detail(code: ErrorCode) -> Option<&'static str> {
    match code {
        ErrorCode::Internal | ErrorCode::AuditBroken => {
            Some("the daemon's log has the cause under this answer's x-request-id")
        }
        ErrorCode::StoreUnavailable | ErrorCode::StoreLocked => {
            Some("nothing was written; send the request again later")
        }
        _ => None,
    }
}

impl From<df_store::Refused> for ApiError {
    fn from(refusal: df_store::Refused) -> Self {
        refused(refusal.code(), refusal.to_string())
    }
}

impl From<df_store::RegistryRefusal> for ApiError {
    fn from(refusal: df_store::RegistryRefusal) -> Self {
        refused(refusal.code(), refusal.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let problem = self.problem();
        if problem.status >= 500 {
            tracing::error!(code = problem.code.code(), error = chain(&self), "request failed");
        }
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = (status, body).into_response();
        response.extensions_mut().insert(AnsweredCode(problem.code));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match problem.status {
            401 => drop(headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))),
            429 | 503 => {
                drop(headers.insert(header::RETRY_AFTER, HeaderValue::from_static(retry_after(problem.code))))
            }
            _ => {}
        }
        response
    }
}

/// Seconds after which it makes sense to ask again: a queue empties as jobs end.
fn retry_after(code: ErrorCode) -> &'static str {
    if code == ErrorCode::QueueFull { "30" } else { "1" }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_says_when_to_come_back() {
        let wait = |error: OrchestrationError| {
            let answer = ApiError::Orchestration(error).into_response();
            (answer.status().as_u16(), answer.headers()[header::RETRY_AFTER].to_str().unwrap().to_owned())
        };
        assert_eq!(wait(OrchestrationError::QueueFull(1)), (503, "30".to_owned()));
        assert_eq!(wait(OrchestrationError::TenantQueueFull(1)), (503, "30".to_owned()));
    }
}

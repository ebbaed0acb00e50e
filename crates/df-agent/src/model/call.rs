//! One HTTP call and what its failures mean.

use std::time::Duration;

use df_contract::{ErrorCode, FailureKind};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use serde_json::Value;

use super::stream::DataLines;
use super::wire::{Answer, Assembly, Chunk};
use super::{ModelClient, ModelError};
use crate::attempt::ModelToken;

/// Largest answer, and largest error body, in bytes.
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;
const ERROR_BYTES_MAX: usize = 64 * 1024;
/// Bytes of an error's text that are kept.
const DETAIL_BYTES_MAX: usize = 2 * 1024;

/// How one call failed.
#[derive(Debug)]
pub(super) enum CallError {
    /// May pass by itself.
    Transient {
        detail: String,
        after: Option<Duration>,
    },
    /// The grant was refused; the error says so if no fresh one comes.
    Grant(ModelError),
    Final(ModelError),
}

fn transient(detail: impl Into<String>) -> CallError {
    CallError::Transient { detail: detail.into(), after: None }
}

fn is_final(kind: FailureKind, detail: impl Into<String>) -> CallError {
    CallError::Final(ModelError { kind, detail: detail.into() })
}

impl ModelClient<'_> {
    pub(super) async fn call(&self, request: &Value, token: &ModelToken) -> Result<Answer, CallError> {
        let url = format!("{}/v1/chat/completions", self.endpoint.trim_end_matches('/'));
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", token.expose()))
            .map_err(|_| is_final(FailureKind::Infrastructure, "the grant is no header value"))?;
        bearer.set_sensitive(true);
        let call = self.http.post(url).header(AUTHORIZATION, bearer).json(request).send();
        let response = self.in_time(call).await?;
        let status = response.status().as_u16();
        if status != 200 {
            let after = retry_after(response.headers());
            let body = self.error_body(response).await;
            return Err(refusal(status, after, &body));
        }
        self.answer(response).await
    }

    async fn in_time<T>(
        &self,
        future: impl Future<Output = Result<T, reqwest::Error>>,
    ) -> Result<T, CallError> {
        match tokio::time::timeout(self.patience.idle, future).await {
            Ok(Ok(value)) => Ok(value),
            // The URL is the operator's own endpoint; what reqwest says of it is of no use to the reader.
            Ok(Err(error)) => Err(transient(format!("the connection failed: {}", error.without_url()))),
            Err(_) => Err(transient(format!("silent for {} s", self.patience.idle.as_secs()))),
        }
    }

    async fn answer(&self, mut response: reqwest::Response) -> Result<Answer, CallError> {
        let streamed = response
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|v| v.to_str().ok())
            .is_some_and(|v| v.starts_with("text/event-stream"));
        let too_large = || is_final(FailureKind::ModelRefused, "the answer is too large");
        let mut assembly = Assembly::default();
        let mut lines = DataLines::default();
        let mut whole = Vec::new();
        let mut bytes = 0;
        while let Some(piece) = self.in_time(response.chunk()).await? {
            bytes += piece.len();
            if bytes > ANSWER_BYTES_MAX {
                return Err(too_large());
            }
            if !streamed {
                whole.extend_from_slice(&piece);
                continue;
            }
            for data in lines.push(&piece).map_err(|_| too_large())? {
                if data != "[DONE]" {
                    add(&mut assembly, data.as_bytes())?;
                }
            }
        }
        if !streamed {
            add(&mut assembly, &whole)?;
        }
        assembly.finish().ok_or_else(|| transient("the answer broke off"))
    }

    async fn error_body(&self, mut response: reqwest::Response) -> Value {
        let mut body = Vec::new();
        while let Ok(Some(piece)) = self.in_time(response.chunk()).await {
            body.extend_from_slice(&piece);
            if body.len() > ERROR_BYTES_MAX {
                break;
            }
        }
        serde_json::from_slice(&body)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&body).into_owned()))
    }
}

fn add(assembly: &mut Assembly, data: &[u8]) -> Result<(), CallError> {
    let chunk: Chunk =
        serde_json::from_slice(data).map_err(|e| transient(format!("the answer is not readable: {e}")))?;
    if let Some(error) = &chunk.error {
        let status = error.get("status").or(error.get("code")).and_then(Value::as_u64).unwrap_or(503);
        let status = u16::try_from(status).unwrap_or(503);
        return Err(refusal(status, None, &serde_json::json!({"error": error})));
    }
    if assembly.push(chunk) {
        Ok(())
    } else {
        Err(is_final(FailureKind::ModelRefused, "the answer has too many tool calls"))
    }
}

/// Reads problem+json as the proxy writes it, and the `{"error": {...}}` of other servers.
fn refusal(status: u16, after: Option<Duration>, body: &Value) -> CallError {
    let inner = body.get("error").filter(|e| e.is_object()).unwrap_or(body);
    let text = |key: &str| inner.get(key).and_then(Value::as_str);
    let code = text("code").or(text("type")).and_then(ErrorCode::parse);
    let mut message = text("detail").or(text("message")).or(body.as_str()).unwrap_or_default().to_owned();
    if let Some(errors) = inner.get("errors").and_then(Value::as_array) {
        errors.iter().filter_map(Value::as_str).for_each(|e| message.push_str(&format!("\n{e}")));
    }
    message.truncate(message.floor_char_boundary(DETAIL_BYTES_MAX));
    let name = code.map_or_else(|| status.to_string(), |c| format!("{status}, {}", c.code()));
    let detail = format!("the model endpoint answered {name}: {message}");
    let last = |kind| CallError::Final(ModelError { kind, detail: detail.clone() });
    let grant = |kind| CallError::Grant(ModelError { kind, detail: detail.clone() });
    match (status, code) {
        (402, _) | (_, Some(ErrorCode::BudgetExhausted)) => last(FailureKind::BudgetExhausted),
        (_, Some(ErrorCode::RecordingMismatch)) => last(FailureKind::RecordingMismatch),
        (_, Some(ErrorCode::UpstreamRefused | ErrorCode::ModelForbidden | ErrorCode::ModelUnpriced)) => {
            last(FailureKind::ModelRefused)
        }
        (401, _) => grant(FailureKind::ModelUnavailable),
        (403, _) => grant(FailureKind::ModelRefused),
        (408 | 425 | 429 | 500 | 502 | 503 | 504 | 529, _) => CallError::Transient { detail, after },
        _ => last(FailureKind::ModelRefused),
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

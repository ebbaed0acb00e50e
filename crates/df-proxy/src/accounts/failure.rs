//! What an upstream's refusal means, and whom it concerns: the key, the money, the rate, the provider, or the request.
//! Facts about providers' errors: a 429 may mean money, and an error may come inside a 200 stream.

use df_contract::DurationMs;
use serde_json::Value;

use crate::config::{Limits, Secret};
use crate::select::{Axis, Verdict};
use crate::upstream::duration;

/// How long an account is not asked for a model that it does not have.
const NO_MODEL_MS: u64 = 10 * 1000;
/// A provider that says "again at once" to a call it refused means at least this.
const MIN_RATE_WAIT_MS: u64 = 20;
/// A provider that is overloaded for longer than this is not asked again at once.
const MAX_SAME_WAIT: DurationMs = DurationMs(5 * 1000);
/// Longest text of a provider that is passed on, in characters.
const MAX_MESSAGE_CHARS: usize = 600;
/// Codes and types that say the account has no money or quota left, whatever the status.
const OUT_OF_MONEY: &[&str] = &[
    "insufficient_quota",
    "credit_balance_exhausted",
    "spend_limit",
    "organization_usage_limit_exceeded",
    "billing",
    "quota_exceeded",
    "usage_limit_reached",
];

/// Why one upstream attempt failed, before anything of its answer was passed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The key is not accepted.
    Credential,
    /// The account has no money or quota left.
    Billing,
    /// A limit; the provider may say which, and for how long.
    Rate { axis: Option<Axis>, retry_after: Option<DurationMs> },
    /// The provider wants fewer calls to this model.
    SlowDown { retry_after: Option<DurationMs> },
    /// The provider has too much to do: no fault of the account.
    Overloaded { retry_after: Option<DurationMs> },
    /// The provider is broken or silent. `maybe_billed`: it may have worked on the request all the same.
    Provider { what: String, maybe_billed: bool },
    /// This account does not have the model.
    NoModel,
    /// The request itself is refused; another account would refuse it too.
    Request { status: u16, code: Option<String>, message: String },
}

/// What to do after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retry {
    Same,
    Next,
    Never,
}

impl Failure {
    pub(crate) fn retry(&self) -> Retry {
        match self {
            Failure::Overloaded { retry_after: Some(wait) } if *wait > MAX_SAME_WAIT => Retry::Next,
            Failure::Provider { .. } | Failure::Overloaded { .. } => Retry::Same,
            Failure::Credential
            | Failure::Billing
            | Failure::Rate { .. }
            | Failure::SlowDown { .. }
            | Failure::NoModel => Retry::Next,
            Failure::Request { .. } => Retry::Never,
        }
    }

    /// Name for logs and for the summary of an unanswered call.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Failure::Credential => "credential refused",
            Failure::Billing => "out of money or quota",
            Failure::Rate { .. } | Failure::SlowDown { .. } => "rate limited",
            Failure::Overloaded { .. } => "provider overloaded",
            Failure::Provider { .. } => "provider unavailable",
            Failure::NoModel => "model missing",
            Failure::Request { .. } => "request refused",
        }
    }

    /// Without the account's key, which some providers quote.
    pub(crate) fn redacted(mut self, key: Option<&Secret>) -> Self {
        if let (Failure::Request { code, message, .. }, Some(key)) = (&mut self, key) {
            *message = key.redact(message);
            *code = code.take().map(|code| key.redact(&code));
        }
        self
    }

    /// Whom it concerns, and for how long.
    pub(crate) fn verdict(&self, limits: &Limits) -> Verdict {
        let wait =
            |said: Option<DurationMs>| said.map_or(limits.rate_cooling_ms, |w| w.0.max(MIN_RATE_WAIT_MS));
        match self {
            Failure::Credential => Verdict::Credential { wait_ms: limits.credential_cooling_ms },
            Failure::Billing => Verdict::Billing { wait_ms: limits.billing_cooling_ms },
            Failure::Rate { axis, retry_after } => Verdict::Rate { axis: *axis, wait_ms: wait(*retry_after) },
            Failure::SlowDown { retry_after } => Verdict::SlowDown { wait_ms: wait(*retry_after) },
            Failure::Overloaded { retry_after } => Verdict::Overloaded { wait_ms: retry_after.map(|w| w.0) },
            Failure::Provider { .. } => Verdict::Broken,
            Failure::NoModel => Verdict::NoModel { wait_ms: NO_MODEL_MS },
            Failure::Request { .. } => Verdict::Nothing,
        }
    }

    /// The provider may bill it although no answer came.
    pub(crate) fn maybe_billed(&self) -> bool {
        matches!(self, Failure::Provider { maybe_billed: true, .. })
    }
}

/// A refusal as it came: the status, what the headers say of a wait, the body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Refusal<'a> {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<DurationMs>,
    pub(crate) body: &'a Value,
}

/// The error object of a body: `{"error": {...}}` or the object itself.
struct Said {
    code: String,
    kind: String,
    message: String,
}

impl Said {
    fn in_body(body: &Value) -> Self {
        let error = error_of(body);
        let text = |v: &Value| {
            v.as_str().map_or_else(|| if v.is_null() { String::new() } else { v.to_string() }, str::to_owned)
        };
        let message = if error.is_string() { text(error) } else { text(&error["message"]) };
        Self {
            code: text(&error["code"]),
            kind: text(&error["type"]),
            message: message.chars().take(MAX_MESSAGE_CHARS).collect(),
        }
    }

    fn any(&self, parts: &[&str]) -> bool {
        parts.iter().any(|p| self.code.contains(p) || self.kind.contains(p))
    }

    fn into_refusal(self, status: u16) -> Failure {
        Failure::Request { status, code: (!self.code.is_empty()).then_some(self.code), message: self.message }
    }
}

/// Gemini puts it into a list.
fn error_of(body: &Value) -> &Value {
    let body = body.get(0).unwrap_or(body);
    if body["error"].is_null() { body } else { &body["error"] }
}

/// A wait that the body names: Google's `RetryInfo`, `resets_in_seconds`, or OpenAI's "try again in 6m0s".
fn wait_in(body: &Value, said: &Said) -> Option<DurationMs> {
    let error = error_of(body);
    let info = error["details"].as_array().into_iter().flatten().find_map(|d| d["retryDelay"].as_str());
    let seconds = || Some(error["resets_in_seconds"].as_u64()?.saturating_mul(1_000));
    let in_text = || {
        let (_, rest) = said.message.split_once("try again in ")?;
        duration(rest.split_whitespace().next()?.trim_end_matches(['.', ',']))
    };
    info.and_then(duration).or_else(seconds).or_else(in_text).map(DurationMs)
}

/// The limit that a 429 names: by type (OpenAI), by quota (Google), or in words.
fn axis_in(body: &Value, said: &Said) -> Option<Axis> {
    let violations = error_of(body)["details"].as_array().into_iter().flatten();
    let quota = violations.filter_map(|d| d["violations"][0]["quotaId"].as_str()).next().unwrap_or_default();
    let text = format!("{} {quota}", said.message).to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if has(&["input tokens per min", "inputtokensper", "input_token"]) {
        Some(Axis::InputTokensPerMinute)
    } else if has(&["output tokens per min", "outputtokensper"]) {
        Some(Axis::OutputTokensPerMinute)
    } else if has(&["requests per day", "(rpd)", "requestsperday"]) {
        Some(Axis::RequestsPerDay)
    } else if said.kind == "tokens" || has(&["tokens per min", "(tpm)", "tokensperminute"]) {
        Some(Axis::TokensPerMinute)
    } else if said.kind == "requests" || has(&["requests per min", "(rpm)", "requestsperminute"]) {
        Some(Axis::RequestsPerMinute)
    } else if has(&["concurrent", "concurrency"]) {
        Some(Axis::Concurrency)
    } else {
        None
    }
}

/// A status other than 200.
pub(crate) fn classify(refusal: Refusal<'_>) -> Failure {
    let Refusal { status, retry_after, body } = refusal;
    let said = Said::in_body(body);
    let retry_after = retry_after.or_else(|| wait_in(body, &said));
    match status {
        402 => Failure::Billing,
        403 | 429 if said.any(OUT_OF_MONEY) => Failure::Billing,
        429 | 503 if said.any(&["slow_down"]) => Failure::SlowDown { retry_after },
        401 | 403 => Failure::Credential,
        429 => Failure::Rate { axis: axis_in(body, &said), retry_after },
        404 => Failure::NoModel,
        503 | 529 => Failure::Overloaded { retry_after },
        408 | 409 | 425 | 500.. => {
            Failure::Provider { what: format!("status {status}"), maybe_billed: false }
        }
        400..500 => said.into_refusal(status),
        _ => Failure::Provider { what: format!("unexpected status {status}"), maybe_billed: false },
    }
}

/// An error object inside a stream that began with status 200.
pub(crate) fn classify_in_stream(body: &Value) -> Failure {
    let said = Said::in_body(body);
    if let Ok(status @ 400..600) = said.code.parse::<u16>() {
        return classify(Refusal { status, retry_after: None, body });
    }
    let retry_after = wait_in(body, &said);
    if said.any(OUT_OF_MONEY) {
        Failure::Billing
    } else if said.any(&["slow_down"]) {
        Failure::SlowDown { retry_after }
    } else if said.any(&["rate_limit"]) {
        Failure::Rate { axis: axis_in(body, &said), retry_after }
    } else if said.any(&["overloaded"]) {
        Failure::Overloaded { retry_after }
    } else if said.any(&["invalid_api_key", "authentication", "permission"]) {
        Failure::Credential
    } else if said.any(&["invalid_request", "context_length"]) {
        said.into_refusal(400)
    } else {
        Failure::Provider { what: "error inside the stream".into(), maybe_billed: false }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_cause_has_its_scope() {
        let quota =
            json!({"error": {"type": "insufficient_quota", "code": "insufficient_quota", "message": "pay"}});
        let none = Value::Null;
        let provider = |what: &str| Failure::Provider { what: what.into(), maybe_billed: false };
        for (status, body, expect) in [
            (401, &none, Failure::Credential),
            (403, &none, Failure::Credential),
            (403, &quota, Failure::Billing),
            (402, &none, Failure::Billing),
            (429, &quota, Failure::Billing),
            (429, &none, Failure::Rate { axis: None, retry_after: Some(DurationMs(5)) }),
            (404, &none, Failure::NoModel),
            (500, &none, provider("status 500")),
            (503, &none, Failure::Overloaded { retry_after: Some(DurationMs(5)) }),
            (529, &none, Failure::Overloaded { retry_after: Some(DurationMs(5)) }),
            (301, &none, provider("unexpected status 301")),
        ] {
            let refusal = Refusal { status, retry_after: Some(DurationMs(5)), body };
            assert_eq!(classify(refusal), expect, "{status}");
        }
        let body = json!({"error": {"code": "context_length_exceeded", "message": "too long"}});
        let refused = classify(Refusal { status: 400, retry_after: None, body: &body });
        assert_eq!(refused.retry(), Retry::Never);
        assert_eq!(
            refused,
            Failure::Request {
                status: 400,
                code: Some("context_length_exceeded".into()),
                message: "too long".into()
            }
        );
    }

    #[test]
    fn errors_inside_a_stream_are_read_too() {
        assert_eq!(
            classify_in_stream(&json!({"error": {"code": 429}})),
            Failure::Rate { axis: None, retry_after: None }
        );
        assert_eq!(classify_in_stream(&json!({"error": {"type": "insufficient_quota"}})), Failure::Billing);
        assert_eq!(classify_in_stream(&json!({"error": {"type": "overloaded_error"}})).retry(), Retry::Same);
        assert_eq!(classify_in_stream(&json!({"error": "boom"})).retry(), Retry::Same);
    }

    #[test]
    fn a_429_names_its_limit_and_its_wait_in_each_provider_s_words() {
        for (body, axis, wait_ms) in [
            (
                json!({"error": {"type": "tokens", "code": "rate_limit_exceeded",
                    "message": "Rate limit reached for m on tokens per min (TPM): Limit 1. Please try again in 6.5s. Visit"}}),
                Some(Axis::TokensPerMinute),
                Some(6_500),
            ),
            (
                json!({"error": {"type": "requests", "message": "requests per day (RPD): Please try again in 8m38.4s."}}),
                Some(Axis::RequestsPerDay),
                Some(518_400),
            ),
            (
                json!({"type": "error", "error": {"type": "rate_limit_error",
                    "message": "would exceed your organization's rate limit of 40,000 input tokens per minute"}}),
                Some(Axis::InputTokensPerMinute),
                None,
            ),
            (
                json!([{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "quota", "details": [
                    {"@type": "type.googleapis.com/google.rpc.QuotaFailure",
                     "violations": [{"quotaId": "GenerateRequestsPerMinutePerProjectPerModel"}]},
                    {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34s"}]}}]),
                Some(Axis::RequestsPerMinute),
                Some(34_000),
            ),
            (json!({"error": {"message": "busy", "resets_in_seconds": 9}}), None, Some(9_000)),
        ] {
            let expect = Failure::Rate { axis, retry_after: wait_ms.map(DurationMs) };
            assert_eq!(classify(Refusal { status: 429, retry_after: None, body: &body }), expect);
        }
        let slow = json!({"error": {"code": "slow_down", "message": "ramp up"}});
        for status in [429, 503] {
            let refusal = Refusal { status, retry_after: None, body: &slow };
            assert_eq!(classify(refusal), Failure::SlowDown { retry_after: None });
        }
    }
}

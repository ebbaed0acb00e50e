//! What an upstream's refusal means, and whom it concerns: the key, the money, the rate, the provider, or the request.
//! Facts about providers' errors: a 429 may mean money, and an error may come inside a 200 stream.

use df_contract::{DurationMs, Timestamp};
use serde_json::Value;

use super::{Account, Cause};
use crate::config::{Limits, Secret};

/// The longest that a provider's own `retry-after` keeps an account out.
const MAX_RETRY_AFTER: DurationMs = DurationMs(10 * 60 * 1000);
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
    /// Too many requests; the provider may say for how long.
    Rate { retry_after: Option<DurationMs> },
    /// The provider is overloaded, broken or silent. `maybe_billed`: it may have worked on the request all the same.
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
            Failure::Provider { .. } => Retry::Same,
            Failure::Credential | Failure::Billing | Failure::Rate { .. } | Failure::NoModel => Retry::Next,
            Failure::Request { .. } => Retry::Never,
        }
    }

    /// Name for logs and for the summary of an unanswered call.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Failure::Credential => "credential refused",
            Failure::Billing => "out of money or quota",
            Failure::Rate { .. } => "rate limited",
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

    /// Takes the account out if the failure concerns it.
    pub(crate) fn apply(&self, account: &Account, limits: &Limits, now: Timestamp) {
        let (cause, cooling) = match self {
            Failure::Credential => (Cause::Credential, DurationMs(limits.credential_cooling_ms)),
            Failure::Billing => (Cause::Billing, DurationMs(limits.billing_cooling_ms)),
            Failure::Rate { retry_after } => {
                (Cause::Rate, retry_after.unwrap_or(DurationMs(limits.rate_cooling_ms)).min(MAX_RETRY_AFTER))
            }
            Failure::Provider { .. } | Failure::NoModel | Failure::Request { .. } => return,
        };
        account.cool(now.plus(cooling), cause);
    }
}

/// The error object of a body: `{"error": {...}}` or the object itself.
struct Said {
    code: String,
    kind: String,
    message: String,
}

impl Said {
    fn in_body(body: &Value) -> Self {
        let error = if body["error"].is_null() { body } else { &body["error"] };
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

/// A status other than 200.
pub(crate) fn classify(status: u16, retry_after: Option<DurationMs>, body: &Value) -> Failure {
    let said = Said::in_body(body);
    match status {
        402 => Failure::Billing,
        403 | 429 if said.any(OUT_OF_MONEY) => Failure::Billing,
        401 | 403 => Failure::Credential,
        429 => Failure::Rate { retry_after },
        404 => Failure::NoModel,
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
        return classify(status, None, body);
    }
    if said.any(OUT_OF_MONEY) {
        Failure::Billing
    } else if said.any(&["rate_limit"]) {
        Failure::Rate { retry_after: None }
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
            (429, &none, Failure::Rate { retry_after: Some(DurationMs(5)) }),
            (404, &none, Failure::NoModel),
            (500, &none, provider("status 500")),
            (529, &none, provider("status 529")),
            (301, &none, provider("unexpected status 301")),
        ] {
            assert_eq!(classify(status, Some(DurationMs(5)), body), expect, "{status}");
        }
        let refused = classify(
            400,
            None,
            &json!({"error": {"code": "context_length_exceeded", "message": "too long"}}),
        );
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
        assert_eq!(classify_in_stream(&json!({"error": {"code": 429}})), Failure::Rate { retry_after: None });
        assert_eq!(classify_in_stream(&json!({"error": {"type": "insufficient_quota"}})), Failure::Billing);
        assert_eq!(classify_in_stream(&json!({"error": {"type": "overloaded_error"}})).retry(), Retry::Same);
        assert_eq!(classify_in_stream(&json!({"error": "boom"})).retry(), Retry::Same);
    }
}

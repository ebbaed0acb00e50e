//! What goes wrong with one call, and how it is told: the error object that clients of OpenAI's API know, with a
//! stable code of [`ErrorCode`] in `code`.

use df_contract::{ErrorCode, GrantError};
use serde_json::{Value, json};

use crate::ledger::{Exhausted, KeyError, LedgerError};

/// Why a call was refused or could not be answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error("send `Authorization: Bearer` with a grant (dfg1...) or a standing key (dfk1...)")]
    NoCredential,
    #[error("send `Authorization: Bearer` with the proxy's admin token")]
    NotAdmin,
    #[error(transparent)]
    Grant(GrantError),
    #[error(transparent)]
    Key(KeyError),
    #[error("{0}")]
    Invalid(String),
    #[error("the body has more than {0} bytes")]
    BodyTooLarge(usize),
    #[error("nothing is served at this address")]
    NoRoute,
    #[error("there is no key `{0}`")]
    KeyUnknown(String),
    #[error("no route serves the model `{0}`")]
    ModelUnknown(String),
    #[error("the grant does not cover the model `{0}`")]
    ModelForbidden(String),
    #[error(
        "the model `{0}` has no price, so it cannot serve a budget in money; set its price, or budget in tokens"
    )]
    ModelUnpriced(String),
    #[error(transparent)]
    Exhausted(Exhausted),
    #[error("the grant of task {task} up to epoch {epoch} was withdrawn")]
    Revoked { task: String, epoch: u64 },
    #[error("the job's plan {newest} is in force, and the grant is of an earlier one")]
    Superseded { newest: u64 },
    #[error("{0}")]
    RecordingMismatch(String),
    #[error("{tried} accounts are at their rate limit; the first is free again in {retry_after_s} s")]
    RateLimited { tried: usize, retry_after_s: u64 },
    #[error("the proxy serves as many calls at once as it may ({0})")]
    Busy(usize),
    #[error("no account could answer: {0}")]
    Unavailable(String),
    #[error("the provider refused the request: {message}")]
    Refused { status: u16, code: Option<String>, message: String },
    #[error("the upstream broke off in the middle of its answer")]
    BrokenOff,
    #[error("the ledger cannot be written")]
    Ledger,
    #[error("the call ended without an answer")]
    Lost,
}

impl From<LedgerError> for CallError {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::Exhausted(e) => CallError::Exhausted(e),
            LedgerError::Key(e) => CallError::Key(e),
            LedgerError::KeyInvalid(why) => CallError::Invalid(why),
            LedgerError::KeyUnknown(id) => CallError::KeyUnknown(id),
            LedgerError::Revoked { task, epoch } => CallError::Revoked { task: task.to_string(), epoch },
            LedgerError::Superseded { newest } => CallError::Superseded { newest },
            LedgerError::Closed
            | LedgerError::Io { .. }
            | LedgerError::Damaged { .. }
            | LedgerError::Missing { .. }
            | LedgerError::Newer(_)
            | LedgerError::Unwritable(_)
            | LedgerError::Import { .. }
            | LedgerError::Row(_) => {
                tracing::error!(error = %error, "the ledger refused a call");
                CallError::Ledger
            }
        }
    }
}

impl CallError {
    pub(crate) fn code(&self) -> ErrorCode {
        match self {
            CallError::NoCredential | CallError::NotAdmin | CallError::Key(_) => ErrorCode::Unauthenticated,
            CallError::Grant(GrantError::Expired(_)) => ErrorCode::GrantExpired,
            CallError::Grant(
                GrantError::Malformed | GrantError::Signature | GrantError::TooLong | GrantError::Claims,
            ) => ErrorCode::GrantInvalid,
            CallError::Invalid(_) => ErrorCode::InvalidRequest,
            CallError::BodyTooLarge(_) => ErrorCode::BodyTooLarge,
            CallError::NoRoute | CallError::KeyUnknown(_) => ErrorCode::NotFound,
            CallError::ModelUnknown(_) => ErrorCode::ModelUnknown,
            CallError::ModelForbidden(_) => ErrorCode::ModelForbidden,
            CallError::ModelUnpriced(_) => ErrorCode::ModelUnpriced,
            CallError::Exhausted(_) => ErrorCode::BudgetExhausted,
            CallError::Revoked { .. } | CallError::Superseded { .. } => ErrorCode::GrantRevoked,
            CallError::RecordingMismatch(_) => ErrorCode::RecordingMismatch,
            CallError::RateLimited { .. } | CallError::Busy(_) => ErrorCode::RateLimited,
            CallError::Unavailable(_) | CallError::BrokenOff => ErrorCode::UpstreamUnavailable,
            CallError::Refused { .. } => ErrorCode::UpstreamRefused,
            CallError::Ledger => ErrorCode::StoreUnavailable,
            CallError::Lost => ErrorCode::Internal,
        }
    }

    /// A provider's 4xx keeps its status: clients send a 5xx again, and the same request would be refused again.
    pub(crate) fn status(&self) -> u16 {
        if let CallError::Refused { status, .. } = self { *status } else { self.code().http_status() }
    }

    pub(crate) fn retry_after_s(&self) -> Option<u64> {
        if let CallError::RateLimited { retry_after_s, .. } = self {
            return Some(*retry_after_s);
        }
        matches!(self, CallError::Busy(_)).then_some(1)
    }

    /// `{"error": {"message", "type", "code"}}`. `upstream_code` is what the provider said, for instance
    /// `context_length_exceeded`.
    pub(crate) fn to_json(&self) -> Value {
        let kind = match self.status() {
            401 => "authentication_error",
            402 => "insufficient_quota",
            403 => "permission_error",
            429 => "rate_limit_error",
            400..500 => "invalid_request_error",
            _ => "server_error",
        };
        let mut error =
            json!({"message": self.to_string(), "type": kind, "code": self.code().code(), "param": null});
        if let CallError::Refused { code: Some(code), .. } = self {
            error["upstream_code"] = code.as_str().into();
        }
        json!({ "error": error })
    }
}

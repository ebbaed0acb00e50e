//! Stable error codes and the problem+json body (RFC 9457). Each code has a page in `docs/errors/`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! codes {
    ($($(#[$vdoc:meta])* $variant:ident = $wire:literal, $status:literal, $title:literal;)+) => {
        /// Every error that crosses a process boundary or ends a command.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        pub enum ErrorCode {
            $($(#[$vdoc])* #[serde(rename = $wire)] $variant),+
        }
        impl ErrorCode {
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$variant),+];
            /// The stable code.
            pub const fn code(self) -> &'static str {
                match self { $(ErrorCode::$variant => $wire),+ }
            }
            /// The HTTP status it travels with.
            pub const fn http_status(self) -> u16 {
                match self { $(ErrorCode::$variant => $status),+ }
            }
            /// A title that never varies.
            pub const fn title(self) -> &'static str {
                match self { $(ErrorCode::$variant => $title),+ }
            }
            pub fn parse(s: &str) -> Option<Self> {
                match s { $($wire => Some(ErrorCode::$variant),)+ _ => None }
            }
        }
    };
}

/// `sysexits.h`: EX_UNAVAILABLE, EX_TEMPFAIL, EX_CONFIG.
const EXIT_UNAVAILABLE: u8 = 69;
const EXIT_TRY_AGAIN: u8 = 75;
const EXIT_CONFIG: u8 = 78;

impl ErrorCode {
    /// The exit status of a daemon that ends with this, so that whoever supervises it need not start in vain what only a
    /// person can mend.
    pub const fn exit_status(self) -> u8 {
        if matches!(self, ErrorCode::ConfigInvalid) {
            EXIT_CONFIG
        } else if matches!(self, ErrorCode::PortInUse | ErrorCode::SandboxUnavailable) {
            EXIT_UNAVAILABLE
        } else if matches!(self, ErrorCode::StoreLocked) {
            EXIT_TRY_AGAIN
        } else {
            1
        }
    }
}

codes! {
    Unauthenticated = "unauthenticated", 401, "No valid key was given";
    Forbidden = "forbidden", 403, "This identity may not do that";
    FourEyes = "four_eyes", 403, "The submitter may not approve their own job";
    PolicyRefused = "policy_refused", 403, "Policy does not allow that";
    NotFound = "not_found", 404, "There is nothing at this address";
    JobUnknown = "job_unknown", 404, "There is no such job";
    InvalidRequest = "invalid_request", 400, "The request cannot be read";
    InvalidJob = "invalid_job", 422, "The job is not valid";
    InvalidPlan = "invalid_plan", 422, "The plan is not valid";
    InvalidAgent = "invalid_agent", 422, "The manifest of the agent is not valid";
    AgentUnknown = "agent_unknown", 404, "There is no such agent";
    AgentTaken = "agent_taken", 409, "The name of the agent is somebody else's";
    SignatureInvalid = "signature_invalid", 403, "The signature is not this identity's";
    BodyTooLarge = "body_too_large", 413, "The body is too large";
    IllegalTransition = "illegal_transition", 409, "The job or task cannot do that in its present state";
    ApprovalStale = "approval_stale", 409, "What was to be approved has changed";
    IdempotencyConflict = "idempotency_conflict", 409, "The same idempotency key came with another request";
    StaleLease = "stale_lease", 409, "The lease is no longer held";
    BlobMissing = "blob_missing", 404, "There is no such blob";
    BlobDigest = "blob_digest", 422, "The content does not have the digest in the address";
    QueueFull = "queue_full", 503, "The factory takes no more jobs now";
    StoreUnavailable = "store_unavailable", 503, "The store cannot be reached";
    StoreLocked = "store_locked", 503, "Another process uses this data directory";
    PortInUse = "port_in_use", 503, "The address to listen on is taken";
    ConfigInvalid = "config_invalid", 500, "The configuration is not valid";
    SandboxUnavailable = "sandbox_unavailable", 503, "The sandbox cannot be enforced on this machine";
    GrantInvalid = "grant_invalid", 401, "The grant is not valid";
    GrantExpired = "grant_expired", 401, "The grant has expired";
    GrantRevoked = "grant_revoked", 403, "The grant was withdrawn";
    ModelUnknown = "model_unknown", 404, "No route serves this model";
    ModelForbidden = "model_forbidden", 403, "The grant does not cover this model";
    ModelUnpriced = "model_unpriced", 400, "A model without a price cannot serve a budget in money";
    BudgetExhausted = "budget_exhausted", 402, "The budget is used up";
    RecordingMismatch = "recording_mismatch", 422, "The recorded conversation does not fit the request";
    RateLimited = "rate_limited", 429, "A rate limit is reached";
    UpstreamUnavailable = "upstream_unavailable", 503, "No account can answer now";
    UpstreamRefused = "upstream_refused", 502, "The provider refused the request";
    AuditBroken = "audit_broken", 500, "The audit chain does not verify";
    DaemonUnreachable = "daemon_unreachable", 503, "The daemon does not answer";
    Internal = "internal", 500, "Something failed inside";
}

/// The body of every error answer: `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// `docs/errors/<code>.md`
    pub r#type: String,
    pub title: String,
    pub status: u16,
    pub code: ErrorCode,
    /// What happened here and what to do about it.
    pub detail: String,
    /// Single findings, when there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
}

impl Problem {
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self {
            r#type: format!("docs/errors/{}.md", code.code()),
            title: code.title().to_owned(),
            status: code.http_status(),
            code,
            detail: detail.into(),
            errors: Vec::new(),
        }
    }
    pub fn with_errors(mut self, errors: Vec<String>) -> Self {
        self.errors = errors;
        self
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({}): {}", self.title, self.code.code(), self.detail)?;
        self.errors.iter().try_for_each(|e| write!(f, "\n  - {e}"))
    }
}

impl std::error::Error for Problem {}

//! What can go wrong when something is asked of orchestration.

use df_contract::{ErrorCode, Problem};
use df_control_machine::Rejection;
use df_store::Refused;

#[derive(Debug, thiserror::Error)]
pub enum OrchestrationError {
    #[error("the command was not accepted: {0}")]
    Rejected(#[from] Refused),
    #[error("the store did not answer")]
    Store(#[from] df_store::StoreError),
    #[error("the lease token is not valid")]
    LeaseToken,
    #[error("there is no such worker session; open a new one")]
    SessionGone,
    #[error("the job is not valid")]
    InvalidJob(Vec<String>),
    #[error("the manifest is not valid")]
    InvalidAgent(Vec<String>),
    #[error(transparent)]
    Seal(df_contract::agent::SealError),
    #[error(transparent)]
    Registry(#[from] df_store::RegistryRefusal),
    #[error("{0} jobs are open, which is the limit; wait for some to end")]
    QueueFull(u64),
    #[error("{0} jobs of this tenant are open, which is its limit; wait for some to end")]
    TenantQueueFull(u64),
    #[error("policy does not allow {what}")]
    PolicyRefused { what: &'static str, reasons: Vec<String> },
    #[error("a blob the report names was never uploaded: {0}")]
    BlobMissing(df_contract::Digest),
    #[error("the lease may not read this blob")]
    BlobForbidden,
    #[error(transparent)]
    ProxyAway(crate::proxy::ProxyError),
    #[error("a grant could not be made: {0}")]
    Grant(#[from] df_contract::GrantError),
    #[error("the job's record lacks what its state promises: {0}")]
    Incomplete(&'static str),
    #[error("a decision could not be made")]
    Decision(#[from] df_contract::canonical::CanonicalError),
}

impl From<Rejection> for OrchestrationError {
    fn from(rejection: Rejection) -> Self {
        OrchestrationError::Rejected(Refused::Rejected(rejection))
    }
}

impl OrchestrationError {
    pub fn code(&self) -> ErrorCode {
        match self {
            OrchestrationError::Rejected(r) => r.code(),
            OrchestrationError::Store(e) => e.code(),
            OrchestrationError::LeaseToken => ErrorCode::Unauthenticated,
            OrchestrationError::SessionGone => ErrorCode::StaleLease,
            OrchestrationError::InvalidJob(_) => ErrorCode::InvalidJob,
            OrchestrationError::QueueFull(_) | OrchestrationError::TenantQueueFull(_) => ErrorCode::QueueFull,
            OrchestrationError::PolicyRefused { .. } => ErrorCode::PolicyRefused,
            OrchestrationError::InvalidAgent(_) => ErrorCode::InvalidAgent,
            OrchestrationError::Seal(_) => ErrorCode::SignatureInvalid,
            OrchestrationError::Registry(refusal) => refusal.code(),
            OrchestrationError::BlobMissing(_) => ErrorCode::BlobMissing,
            OrchestrationError::BlobForbidden => ErrorCode::Forbidden,
            OrchestrationError::ProxyAway(_) => ErrorCode::UpstreamUnavailable,
            OrchestrationError::Grant(_)
            | OrchestrationError::Incomplete(_)
            | OrchestrationError::Decision(_) => ErrorCode::Internal,
        }
    }

    /// The body of the HTTP answer.
    pub fn problem(&self) -> Problem {
        let errors = match self {
            OrchestrationError::InvalidJob(found) | OrchestrationError::InvalidAgent(found) => found.clone(),
            OrchestrationError::PolicyRefused { reasons, .. } => reasons.clone(),
            OrchestrationError::Rejected(_)
            | OrchestrationError::Store(_)
            | OrchestrationError::LeaseToken
            | OrchestrationError::SessionGone
            | OrchestrationError::Seal(_)
            | OrchestrationError::Registry(_)
            | OrchestrationError::QueueFull(_)
            | OrchestrationError::TenantQueueFull(_)
            | OrchestrationError::BlobMissing(_)
            | OrchestrationError::BlobForbidden
            | OrchestrationError::ProxyAway(_)
            | OrchestrationError::Grant(_)
            | OrchestrationError::Incomplete(_)
            | OrchestrationError::Decision(_) => Vec::new(),
        };
        let detail = match self {
            OrchestrationError::Rejected(r) => r.to_string(),
            other => other.to_string(),
        };
        Problem::new(self.code(), detail).with_errors(errors)
    }
}

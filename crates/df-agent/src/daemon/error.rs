//! What can go wrong between a worker and the daemon.

use std::path::PathBuf;

use df_contract::{Digest, ErrorCode, Problem};

/// Errors of the daemon's client.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    #[error("the daemon at {address} does not answer")]
    Unreachable { address: String, source: reqwest::Error },
    #[error("the daemon refused: {0}")]
    Refused(Box<Problem>),
    #[error("the daemon answered with status {0} and no reason")]
    Status(u16),
    #[error("the daemon's answer to the wish to {what} cannot be read")]
    Answer { what: &'static str, source: serde_json::Error },
    #[error("blob {digest} has more than {limit} bytes")]
    BlobTooLarge { digest: Digest, limit: u64 },
    #[error("blob {0} arrived with other content than its address says")]
    BlobDigest(Digest),
    #[error("could not {attempted} {}", path.display())]
    Io { attempted: &'static str, path: PathBuf, source: std::io::Error },
    #[error("the lease was given up meanwhile")]
    Cancelled,
}

impl DaemonError {
    /// Whether the same request may succeed later: nobody answered, or the daemon said that it cannot now.
    pub fn is_passing(&self) -> bool {
        match self {
            DaemonError::Unreachable { .. } => true,
            DaemonError::Refused(problem) => is_passing_status(problem.status),
            DaemonError::Status(status) => is_passing_status(*status),
            DaemonError::Answer { .. }
            | DaemonError::BlobTooLarge { .. }
            | DaemonError::BlobDigest(_)
            | DaemonError::Io { .. }
            | DaemonError::Cancelled => false,
        }
    }

    /// The daemon's code, where it gave one.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            DaemonError::Refused(problem) => Some(problem.code),
            DaemonError::Unreachable { .. } => Some(ErrorCode::DaemonUnreachable),
            DaemonError::Status(_)
            | DaemonError::Answer { .. }
            | DaemonError::BlobTooLarge { .. }
            | DaemonError::BlobDigest(_)
            | DaemonError::Io { .. }
            | DaemonError::Cancelled => None,
        }
    }
}

fn is_passing_status(status: u16) -> bool {
    matches!(status, 408 | 429 | 502 | 503 | 504)
}

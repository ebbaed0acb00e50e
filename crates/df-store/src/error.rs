//! What can go wrong with the store, and why a command was not taken.

use std::path::PathBuf;

use df_contract::{CommandId, ErrorCode, SessionId};
use df_control_audit::AuditError;
use df_control_machine::Rejection;

/// The store could not do its work. Nothing of the operation was kept, unless said otherwise.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the data directory {} is used by the process {pid}; stop it first, or use another directory", dir.display())]
    Locked { dir: PathBuf, pid: String },
    #[error("{what} {} failed", path.display())]
    File {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the database has schema {found}, this program knows up to {known}: use the newer program")]
    Newer { found: u32, known: u32 },
    #[error("there is no database at {}", .0.display())]
    Missing(PathBuf),
    #[error("{what} failed in the database")]
    Sqlite {
        what: &'static str,
        #[source]
        source: rusqlite::Error,
    },
    #[error("a row of {table} cannot be read: {why}")]
    Row { table: &'static str, why: String },
    /// The group of writes this one was in could not be committed. Send it again under the same command id.
    #[error("the write was not committed: {0}")]
    NotCommitted(String),
    #[error("the store is closed")]
    Closed,
    /// A defect: the tables and the decision disagree. The write was refused.
    #[error("an invariant does not hold: {0}")]
    Invariant(String),
    /// A defect: the operation panicked. It was undone; the store goes on.
    #[error("the operation broke off and was undone")]
    Panicked,
    #[error("the audit record cannot be made")]
    Audit(#[from] AuditError),
    #[error("{0} is not open any more; open a new session")]
    SessionGone(SessionId),
}

impl StoreError {
    /// Whether it says that what one row holds cannot be understood, and nothing of the store as a whole.
    pub(crate) fn is_of_one_row(&self) -> bool {
        match self {
            StoreError::Row { .. } => true,
            StoreError::Sqlite { source, .. } => matches!(
                source,
                rusqlite::Error::FromSqlConversionFailure(..)
                    | rusqlite::Error::IntegralValueOutOfRange(..)
                    | rusqlite::Error::InvalidColumnType(..)
            ),
            StoreError::Locked { .. }
            | StoreError::File { .. }
            | StoreError::Newer { .. }
            | StoreError::Missing(_)
            | StoreError::NotCommitted(_)
            | StoreError::Closed
            | StoreError::Invariant(_)
            | StoreError::Audit(_)
            | StoreError::SessionGone(_)
            | StoreError::Panicked => false,
        }
    }

    /// The stable code this travels under.
    pub const fn code(&self) -> ErrorCode {
        match self {
            StoreError::Locked { .. } => ErrorCode::StoreLocked,
            StoreError::File { .. }
            | StoreError::Newer { .. }
            | StoreError::Missing(_)
            | StoreError::Sqlite { .. }
            | StoreError::NotCommitted(_)
            | StoreError::Closed => ErrorCode::StoreUnavailable,
            StoreError::Row { .. } | StoreError::Invariant(_) | StoreError::Panicked => ErrorCode::Internal,
            StoreError::Audit(_) => ErrorCode::AuditBroken,
            StoreError::SessionGone(_) => ErrorCode::StaleLease,
        }
    }
}

/// Why a command was not taken. Nothing was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The same id came before with another body, actor or job.
    #[error("the command id {0} was used before for something else")]
    CommandReused(CommandId),
}

impl Refused {
    /// The stable code this travels under.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Refused::Rejected(rejection) => rejection.code(),
            Refused::CommandReused(_) => ErrorCode::IdempotencyConflict,
        }
    }
}

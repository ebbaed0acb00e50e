//! What did happen: canonical records in one hash chain per job, and the states that follow from them.
//!
//! What this crate deliberately does not know: where records are kept, who may act, and which transitions
//! are legal. The life cycles arrive as functions ([`Lifecycle`]), so that an auditor folds the log with the
//! same code that decided, and this crate stays below it.
//!
//! ```
//! use df_contract::{CommandId, JobId, Role, Timestamp};
//! use df_control_audit::{Entry, Tip, append, verify_chain};
//! let at = Timestamp(1_700_000_000_000);
//! let entry = Entry {
//!     job: JobId::mint(at, [1; 10]), at, actor: "alice".into(), role: Role::Submitter,
//!     command_id: CommandId::mint(at, [2; 10]), command: "submit".into(), version: 1, slug: None, epoch: None,
//!     body: serde_json::json!({"kind": "submitted"}),
//! };
//! let mut record = append(&Tip::empty(), entry).unwrap();
//! assert!(verify_chain([&record]).is_ok());
//! record.actor = "mallory".into();
//! assert!(verify_chain([&record]).is_err());
//! ```

mod chain;
mod export;
mod fold;
mod record;
mod registry;

pub use chain::{Tip, append};
pub use export::{Current, ExportLine, Finding, Verified, verify_export};
pub use fold::{JobFold, JobStep, Lifecycle, TaskFold, TaskStep, verify_chain, verify_job};
pub use record::{AuditRecord, Entry, MAX_EXACT_INTEGER};
pub use registry::{
    AgentState, RegistryError, RegistryEvent, RegistryRecord, RegistryState, VersionState, Whose,
    registry_append, verify_registry,
};

use df_contract::{ErrorCode, JobId, TaskSlug};

/// Why a log does not verify. Each names the first record that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuditError {
    #[error("record {seq} cannot be put into canonical JSON: {why}")]
    Canonical { seq: u64, why: String },
    #[error("{job} record {seq} carries a number that canonical JSON cannot hold exactly")]
    Inexact { job: JobId, seq: u64 },
    #[error("record {seq} of {job} stands in the chain of another job")]
    OtherJob { job: JobId, seq: u64 },
    #[error("{job}: record {expected} is missing, {found} comes in its place")]
    Gap { job: JobId, expected: u64, found: u64 },
    #[error("{job} record {seq} does not link to the record before it")]
    Unlinked { job: JobId, seq: u64 },
    #[error("{job} record {seq} does not have the hash it states: it was changed")]
    Hash { job: JobId, seq: u64 },
    #[error("{job} record {seq} has version {found} where {expected} is due")]
    Version { job: JobId, seq: u64, expected: u64, found: u64 },
    #[error("{job} record {seq}: {why}")]
    Step { job: JobId, seq: u64, why: String },
    #[error("{job} record {seq}: task {slug}: {why}")]
    TaskStep { job: JobId, seq: u64, slug: TaskSlug, why: String },
}

impl AuditError {
    /// The stable code this travels under.
    pub const fn code(&self) -> ErrorCode {
        ErrorCode::AuditBroken
    }
}

#[cfg(test)]
mod tests;

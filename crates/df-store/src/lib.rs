//! Persistence of the control plane: one store of batched verbs over memory or SQLite.
//!
//! Every change of a job is a command. The store loads the record, lets `df_control_machine::decide` judge, and
//! writes the new state, its audit records, the events for watchers and the effects still to be done in one
//! transaction. A command id makes a retry return the first outcome; an epoch fences every write of a task.
//!
//! What this crate deliberately does not know: what is legal (decide() does), what time it is, how ids are made,
//! HTTP, accounts and budgets of the proxy. Nothing here notifies: [`Store::subscribe`] is a hint.

mod agents;
mod blob;
mod cache;
mod claim;
mod error;
mod event;
mod export;
mod lease;
mod memory;
mod owner;
mod queue;
mod row;
mod rows;
mod sqlite;
mod store;
mod transition;
mod upkeep;

pub use agents::{AgentRow, MAX_AGENTS, MAX_VERSIONS, PinRow, RegistryActor, RegistryRefusal};
pub use blob::{BlobError, BlobStore, BlobWriter};
pub use error::{Refused, StoreError};
pub use export::{AuditExport, audit_export};
pub use lease::MAX_PROGRESS_PER_JOB;
pub use row::{
    ClaimRequest, JobFilter, KeyRow, MAX_PAGE, OutboxRow, Outcome, ReapRequest, Reaped, SessionRow, Wall,
};
pub use store::Store;
pub use upkeep::{DueJob, OpenJob, Pressure};

#[cfg(test)]
mod tests;

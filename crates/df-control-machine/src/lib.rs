//! What can happen: the life cycles of jobs and tasks as total functions, and the decision that turns a
//! command into a new record, audit drafts and effects.
//!
//! What this crate deliberately does not know: clocks, randomness, storage, sockets, and whether something
//! *may* happen (that is df-control-governance). Time and ids arrive inside the command.
//!
//! ```
//! use df_control_machine::job::{self, JobEvent, JobStatus};
//! use df_contract::JobState;
//! let draft = JobStatus { state: JobState::Draft, resume_to: None };
//! let next = job::next(draft, JobEvent::AnalysisStarted).unwrap();
//! assert_eq!(next.state, JobState::GovernanceAnalysis);
//! assert!(job::next(draft, JobEvent::Delivered).is_err());
//! ```

pub mod breaker;
pub mod command;
pub mod decide;
pub mod due;
pub mod invariants;
pub mod job;
pub mod place;
pub mod record;
pub mod replay;
pub mod retry;
pub mod schedule;
pub mod step;
pub mod table;
pub mod task;
pub mod tasks;
pub mod waiting;

pub use breaker::{Breaker, BreakerEvent, BreakerKey};
pub use command::{Actor, Command, CommandBody, Rejection, ReturnCause, Seen};
pub use decide::{AuditBody, AuditDraft, Decided, Effect, decide};
pub use record::{
    Approval, ApprovalSubject, BudgetRequest, COORDINATOR_SLUG, Caps, FailureNote, Integration, JobRecord,
    Message, TaskOutput, TaskRecord,
};
pub use step::{Step, next_step};
pub use tasks::Tasks;

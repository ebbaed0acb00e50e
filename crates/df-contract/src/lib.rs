//! The shared language of the planes: ids, units, jobs, plans, the agent contract v1, leases, grants,
//! verdicts, facts, events and error codes.
//!
//! What this crate deliberately does not know: clocks, randomness, files and sockets. Times, seeds and ids
//! are arguments; every type here is plain data with its own validation at the edge.
//!
//! ```
//! use df_contract::{JobSpec, PlanLimits};
//! let spec: JobSpec = serde_json::from_value(serde_json::json!({
//!     "title": "Add a health route", "description": "GET /health answers 200."
//! })).unwrap();
//! assert!(spec.validate(&PlanLimits::SUPPLIED).is_ok());
//! ```

pub mod access;
pub mod agent;
pub mod api;
pub mod canonical;
pub mod decision;
pub mod error;
pub mod events;
pub mod facts;
pub mod grant;
pub mod ids;
pub mod job;
pub mod lease;
pub mod plan;
pub mod schema;
pub mod states;
pub mod task;
pub mod units;
mod wire;

pub use access::{Action, Role, Scope};
pub use agent::{AgentManifest, AssignedAgent, RegisteredAgent};
pub use canonical::{canonical_json, digest_json};
pub use decision::{
    ApprovalRule, Decision, NetworkMode, Obligations, Reason, SandboxTier, Severity, Verdict,
};
pub use error::{ErrorCode, Problem};
pub use events::{EventKind, JobEventView};
pub use facts::{GateFacts, SourceFacts};
pub use grant::{Grant, GrantClaims, GrantError};
pub use ids::{
    AgentName, AttemptId, CommandId, Digest, IdError, JobId, KeyId, Revision, SessionId, TaskSlug, TenantId,
};
pub use job::{AcceptanceCheck, Budget, Capabilities, HiddenCheck, JobSpec, Source};
pub use lease::{Lease, LeaseKind, LeaseToken, WorkerClass};
pub use plan::{OnFailure, Plan, PlanError, PlanLimits, PlanTask};
pub use states::{JobState, TaskState};
pub use task::{AgentResult, AgentTask, AttemptOutcome, CheckResult, FailureKind, Usage};
pub use units::{DurationMs, NanoUsd, Timestamp, Tokens};

//! Wire names of the job and task states. What may follow what is df-control-machine's business.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! states {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $wire:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        pub enum $name {
            $($(#[$vdoc])* #[serde(rename = $wire)] $variant),+
        }
        impl $name {
            /// Every state, in the order of the life cycle.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];
            /// The wire name.
            pub const fn as_str(self) -> &'static str {
                match self { $($name::$variant => $wire),+ }
            }
            /// Parses a wire name.
            pub fn parse(s: &str) -> Option<Self> {
                match s { $($wire => Some($name::$variant),)+ _ => None }
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

states!(
    /// The states of a job.
    JobState {
        Draft = "DRAFT",
        GovernanceAnalysis = "GOVERNANCE_ANALYSIS",
        AwaitingApproval = "AWAITING_APPROVAL",
        Approved = "APPROVED",
        Rejected = "REJECTED",
        TaskPlanning = "TASK_PLANNING",
        InProgress = "IN_PROGRESS",
        Validating = "VALIDATING",
        Deployable = "DEPLOYABLE",
        Completed = "COMPLETED",
        Failed = "FAILED",
        Paused = "PAUSED",
        Cancelled = "CANCELLED",
    }
);

states!(
    /// The states of a task: any unit of work that is leased to a worker.
    TaskState {
        /// Waits for other tasks.
        Pending = "PENDING",
        /// May be claimed.
        Ready = "READY",
        /// Held by a worker session under an epoch.
        Leased = "LEASED",
        Succeeded = "SUCCEEDED",
        Failed = "FAILED",
        Cancelled = "CANCELLED",
        /// Never ran, because something it depends on did not succeed.
        Skipped = "SKIPPED",
    }
);

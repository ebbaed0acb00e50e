//! Wire names of the job and task states. What may follow what is df-control-machine's business.

use crate::wire::wire_names;

wire_names!(
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

wire_names!(
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

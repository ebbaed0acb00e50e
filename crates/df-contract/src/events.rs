//! What happens to a job, as its watchers see it. Numbered per job from 1; the number is the SSE event id.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Decision, Digest, JobId, JobState, NanoUsd, TaskSlug, TaskState, Timestamp, Tokens};

/// One event of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JobEventView {
    pub job: JobId,
    /// Per job, from 1, without gaps.
    pub seq: u64,
    pub at: Timestamp,
    pub event: EventKind,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum EventKind {
    JobState {
        from: Option<JobState>,
        to: JobState,
        actor: String,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        cause: String,
    },
    TaskState {
        slug: TaskSlug,
        from: Option<TaskState>,
        to: TaskState,
        epoch: u64,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        cause: String,
    },
    Decision {
        decision: Box<Decision>,
    },
    ApprovalRequested {
        subject: String,
        needed: u32,
    },
    ApprovalVote {
        by: String,
        approved: bool,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        comment: String,
    },
    /// Somebody has said something to the running job.
    Message {
        by: String,
    },
    /// More budget is asked for.
    BudgetRequested {
        by: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tokens: Option<Tokens>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        nano_usd: Option<NanoUsd>,
    },
    /// The rest of the work is planned anew.
    Replanned {
        kept: Vec<TaskSlug>,
        dropped: Vec<TaskSlug>,
    },
    /// The job branch is back at an earlier integrated point.
    RolledBack {
        to: Option<TaskSlug>,
        undone: Vec<TaskSlug>,
    },
    /// A result came after its lease had ended; it was refused.
    StaleResult {
        slug: TaskSlug,
        held: u64,
        current: u64,
        /// The late attempt's trace, where it had been uploaded.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        trace: Option<Digest>,
    },
    Progress {
        slug: TaskSlug,
        epoch: u64,
        line: String,
    },
}

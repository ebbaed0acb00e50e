//! Random command sequences keep every invariant and leave a way to the end; the straight way completes; stale and
//! illegal commands write nothing; failures, re-planning, conflicts and rollback do what docs/workflow.md says.
#![expect(clippy::unwrap_used, reason = "helpers of a test: a failed unwrap is a failed test")]

mod driver;
mod failures;
mod handback;
mod random;
mod rollback;
mod steering;
mod ways;

//! The execution plane: the built-in agent and what a worker does with a lease.
//!
//! [`run_attempt`] drives one agent attempt in a prepared workspace: it speaks to a model through the proxy,
//! gives it the tools its role has, and ends with an [`AttemptReport`]. Rights are enforced here, never by a prompt.
//!
//! Deliberately unknown to the agent modules (`attempt`, `manifest`, `runner` and below): git, the daemon, leases and
//! the sandbox. They see a directory, a [`CommandRunner`] and a token.

pub mod attempt;
mod context;
pub mod daemon;
mod edit;
pub mod executors;
pub mod git;
pub mod manifest;
mod model;
pub mod progress;
mod rights;
pub mod runner;
pub mod runtime;
mod session;
pub mod tools;
mod trace;
mod workspace;

pub use attempt::{Attempt, AttemptReport, ModelToken, NoteKind, ProgressNote, run_attempt};
pub use manifest::{Manifest, ManifestError};
pub use runner::{CommandOutcome, CommandRunner, RunnerError};

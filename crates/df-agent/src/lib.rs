//! The execution plane: the built-in agent and what a worker does with a lease.
//!
//! The module [`attempt`] drives one agent attempt in a prepared workspace: it speaks to a model through the proxy,
//! gives it the tools its role has, and ends with an [`AttemptReport`]. Rights are enforced here, never by a prompt.
//!
//! Deliberately unknown to the agent modules (`attempt`, `manifest`, `runner` and below): git, the daemon, leases and
//! the sandbox. They see a directory, a [`CommandRunner`] and a token.

pub mod attempt;
pub mod git;
pub mod runner;

pub use attempt::{Attempt, AttemptReport, ModelToken, NoteKind, ProgressNote};
pub use runner::{CommandOutcome, CommandRunner, RunnerError};

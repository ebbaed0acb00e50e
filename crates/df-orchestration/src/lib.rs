//! Orchestration: load, decide, commit, dispatch.
//!
//! [`Orchestrator`] is what the gateway calls; [`reconcile`] is what brings every job forward by itself, from the
//! store alone, so that a restart resumes everything. Decisions about a job are made in df-control-machine and
//! df-control-governance; here they are asked for, committed, and acted on.
//!
//! What this crate deliberately does not know: HTTP serving, how code is run, and any provider's secret.

pub mod advance;
pub mod agents;
mod cause;
pub mod config;
pub mod env;
pub mod error;
pub mod grants;
pub mod lease_token;
pub mod proxy;
pub mod reconcile;
pub mod report;
pub mod users;
mod waiting;
pub mod work;
pub mod workers;

mod orchestrator;
#[cfg(test)]
mod tests;

pub use config::{OrchestrationConfig, TenantCaps};
pub use env::Env;
pub use error::OrchestrationError;
pub use orchestrator::{Orchestrator, Parts};

// Part of an orchestrator's make-up: whoever wires one needs their names.
pub use df_control_governance::{BundleError, OperatorLimits, PolicyBundle, default_bundle};

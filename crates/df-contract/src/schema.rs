//! JSON Schemas of the published contracts, generated from the types.

use schemars::{Schema, schema_for};

/// Name (file stem under `schema/`) and schema of every published type.
pub fn all() -> Vec<(&'static str, Schema)> {
    vec![
        ("job-spec", schema_for!(crate::JobSpec)),
        ("plan", schema_for!(crate::Plan)),
        ("agent-task.v1", schema_for!(crate::AgentTask)),
        ("agent-result.v1", schema_for!(crate::AgentResult)),
        ("lease", schema_for!(crate::Lease)),
        ("attempt-outcome", schema_for!(crate::AttemptOutcome)),
        ("grant-claims", schema_for!(crate::GrantClaims)),
        ("job-event", schema_for!(crate::JobEventView)),
        ("job-view", schema_for!(crate::api::JobView)),
        ("decision", schema_for!(crate::Decision)),
        ("agent-manifest", schema_for!(crate::AgentManifest)),
        ("problem", schema_for!(crate::Problem)),
    ]
}

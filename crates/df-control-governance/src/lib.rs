//! CONTROL plane: what may happen. Facts in, verdict out; authorisation, obligations, gates, explanations.
//!
//! Decision = f(canonical job facts, policy bundle digest, operator limits). The verdict is the maximum over hard
//! floors (Rust) and policy packs (Rego), so a rule that is added can only make things stricter.
//!
//! What this crate deliberately does not know: clocks, randomness, files, sockets, models, and how to read a source
//! tree: the facts about it come typed from the execution plane.
//!
//! ```
//! use df_contract::{JobSpec, SourceFacts, Verdict};
//! use df_control_governance::{OperatorLimits, decide, default_bundle, job_facts};
//!
//! let spec: JobSpec = serde_json::from_value(serde_json::json!({
//!     "title": "Shorten links", "description": "A small HTTP service that shortens links."
//! })).unwrap();
//! let facts = job_facts(&spec, &SourceFacts::default(), &"acme".parse().unwrap(), "alice").unwrap();
//! let decision = decide(&facts, &default_bundle().unwrap(), &OperatorLimits::default()).unwrap();
//! assert_eq!(decision.verdict, Verdict::Approved);
//! ```

pub mod authorise;
pub mod bundle;
pub mod decide;
pub mod explain;
pub mod facts;
mod floors;
pub mod gates;
pub mod obligations;
mod shape;
pub mod text;

pub use authorise::{Access, Denial, authorise};
pub use bundle::{BundleError, PolicyBundle, default_bundle, default_files};
pub use decide::decide;
pub use explain::{explain, explain_reasons};
pub use facts::{CapabilityFacts, JobFacts, OperatorLimits, job_facts};
pub use gates::{OutputCase, OutputGate, PlanCase, PlanGate, gate_output, gate_plan};
pub use obligations::{Conflict, Tightening, tighten};

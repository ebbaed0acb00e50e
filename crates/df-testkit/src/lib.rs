//! Test support for process-level tests: a whole factory of the real binaries in a temporary directory.
//!
//! Knows how an installation is laid out and how its processes are started, killed and asked; knows nothing of what is
//! inside them. The model is the one thing that is not real: a recorded conversation, or a [`ScriptedModel`], an
//! OpenAI-compatible server within the test. A failure in here is a failed test, so everything panics with a sentence.
//!
//! ```no_run
//! # async fn example() {
//! use df_testkit::{Limit, Reply, ScriptedModel, TestFactory};
//! let model = ScriptedModel::start(|_| Reply::finish("done")).await;
//! let factory = TestFactory::start(model.setup()).await;
//! let job = factory.admin().submit(&serde_json::json!({"title": "t", "description": "d"})).await.unwrap();
//! factory.completed(job.id, Limit::JOB).await;
//! # }
//! ```
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "test support: a failure here is a failed test")]
#![expect(clippy::print_stderr, reason = "what a failed test left in its logs is shown")]

mod api;
mod binaries;
mod cli;
mod clock;
mod factory;
mod faulty;
mod grants;
mod jobs;
mod limit;
mod model;
mod port;
mod process;
mod sandboxed;
mod secrets;
mod torture;
mod up;

pub use api::{Api, ApiError};
pub use cli::{CliOutput, run_cli, run_script};
pub use clock::clocks_can_be_set;
pub use factory::{Member, Model, Setup, TestFactory};
pub use faulty::{Fault, FaultyWorker};
pub use grants::{revoked, task_grant};
pub use jobs::{file_task, planned_job, write_file_task};
pub use limit::{Limit, full_run, poll};
pub use model::{Ask, PROVIDER_KEY, Reply, ScriptedModel, Tally};
pub use sandboxed::{marker, processes_with};
pub use secrets::files_with;
pub use torture::Torture;
pub use up::Up;

/// The root of the source tree.
pub fn repository() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the source tree")
}

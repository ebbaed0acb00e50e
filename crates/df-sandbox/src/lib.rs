//! Runs programs that must be assumed hostile, and takes what they leave behind without trusting it.
//!
//! One isolation tier: [bubblewrap](https://github.com/containers/bubblewrap), started by an unprivileged uid even
//! when the caller is root, with every namespace, a system call filter, resource limits, a minimal read-only root and
//! no network. [`Sandbox::open`] refuses when the machine cannot enforce that; there is no weaker mode to fall into.
//!
//! Deliberately unknown here: jobs, tasks, agents, git, models, policy. The caller says which directory, which command
//! and which limits; this crate reports what happened and which layers were in force.
//!
//! A program that opens a [`Sandbox`] must call [`dispatch`] first thing in `main`: its own binary is re-executed to
//! set up each run (`sandbox-launch`, outside) and as the first process inside (`sandbox-init`).
//!
//! ```no_run
//! # async fn example() -> Result<(), df_sandbox::SandboxError> {
//! use df_sandbox::{Sandbox, SandboxConfig, SandboxSpec};
//! let sandbox = Sandbox::open(SandboxConfig::default())?;
//! let (_cancel, cancelled) = tokio::sync::watch::channel(false);
//! let spec = SandboxSpec::new("/srv/checkout", ["python3", "-m", "unittest"]);
//! let outcome = sandbox.run(spec, cancelled).await?;
//! assert!(outcome.exit.success());
//! # Ok(())
//! # }
//! ```

mod argv;
mod cgroup;
pub mod collect;
mod config;
mod error;
mod init;
mod launch;
mod outcome;
mod output;
mod owner;
mod plan;
mod probe;
mod sandbox;
mod seccomp;
mod spec;
mod supervise;
mod tree;
mod uid;

pub use config::{CgroupUse, SandboxConfig, UidPool};
pub use error::{SandboxError, SpecError};
pub use init::sandbox_init_main;
pub use launch::sandbox_launch_main;
pub use outcome::{Exit, Layer, Outcome, Spooled};
pub use probe::{Capabilities, Check, Requirement, Status};
pub use sandbox::Sandbox;
pub use spec::{Limits, ReadOnlyMount, SandboxSpec, Spool, WorkspaceAccess};
pub use tree::WalkError;

/// Where the workspace appears inside the sandbox.
pub const WORKSPACE: &str = "/workspace";
/// The private, size-limited home directory inside the sandbox.
pub const HOME: &str = "/home/sandbox";

/// Runs the sandbox stage named by the first argument, if any, and never returns from it.
///
/// Call this first thing in `main`, before any thread or runtime exists: both stages rely on being single-threaded.
pub fn dispatch() {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some(plan::LAUNCH_STAGE) => sandbox_launch_main(),
        Some(plan::INIT_STAGE) => sandbox_init_main(arguments),
        _ => {}
    }
}

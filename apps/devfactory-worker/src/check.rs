//! `--check`: what this machine has of what a worker needs, as JSON for `devfactory doctor`.

use df_agent::git::Git;
use df_sandbox::{Capabilities, Sandbox, SandboxConfig, Status};
use serde::Serialize;

/// The whole answer.
#[derive(Debug, Serialize)]
pub(crate) struct MachineCheck {
    /// Whether a worker would start.
    pub(crate) usable: bool,
    pub(crate) git: GitCheck,
    #[serde(flatten)]
    pub(crate) sandbox: Capabilities,
}

#[derive(Debug, Serialize)]
pub(crate) struct GitCheck {
    pub(crate) status: Status,
    pub(crate) detail: String,
    pub(crate) fix: String,
}

impl MachineCheck {
    /// Runs a trial sandbox; blocks for as long.
    pub(crate) async fn run(config: &SandboxConfig, scratch: &std::path::Path) -> Self {
        let sandbox = Sandbox::probe(config);
        let git = GitCheck::run(scratch).await;
        Self { usable: sandbox.usable() && git.status == Status::Present, git, sandbox }
    }
}

impl GitCheck {
    pub(crate) async fn run(scratch: &std::path::Path) -> Self {
        let missing = |detail: String| Self {
            status: Status::Missing,
            detail,
            fix: "install git 2.38 or later (apt-get install git)".to_owned(),
        };
        let version = match Git::new(scratch) {
            Ok(git) => git.version().await,
            Err(error) => Err(error),
        };
        match version {
            Ok((version, true)) => Self { status: Status::Present, detail: version, fix: String::new() },
            Ok((version, false)) => missing(format!("{version} is too old")),
            Err(error) => missing(error.to_string()),
        }
    }
}

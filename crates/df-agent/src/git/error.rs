//! Why something with git or a tree of files did not work.

use std::io;
use std::path::{Path, PathBuf};

use df_contract::Revision;

/// Errors of this module. Texts go into reports: they name paths inside the tree, never file contents.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    #[error("git could not be started; install it (`apt-get install git`)")]
    Spawn(#[source] io::Error),
    #[error("`git {command}` took longer than {limit_ms} ms and was killed")]
    TimedOut { command: String, limit_ms: u64 },
    #[error("`git {command}` wrote more than {limit} bytes and was killed")]
    OutputTooLarge { command: String, limit: u64 },
    #[error("`git {command}` failed ({code}): {stderr}")]
    Failed { command: String, code: i32, stderr: String },
    #[error("`git {command}` answered what it never should")]
    Unexpected { command: String },
    #[error("could not {attempted} {}", path.display())]
    Io { attempted: &'static str, path: PathBuf, source: io::Error },
    #[error("the bundle cannot be read: {0}")]
    Bundle(String),
    #[error("the bundle has no revision {0}")]
    RevisionMissing(Revision),
    #[error("the bundle has no HEAD and not exactly one branch (it has {}); bundle HEAD or one branch", list(.0))]
    NoSingleHead(Vec<String>),
    #[error("`{0}` is a submodule; submodules are never fetched, put its files into the tree")]
    Submodule(String),
    #[error("the path {0:?} is not allowed in a tree")]
    UnsafePath(String),
    #[error("the tree has {got} {what}, the limit is {limit}")]
    TooLarge { what: &'static str, got: u64, limit: u64 },
    #[error("the tar archive cannot be read: {0}")]
    Tar(String),
    #[error("the tar entry {path:?} is {kind}; only plain files and directories are accepted")]
    TarEntry { path: String, kind: String },
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

impl GitError {
    pub(crate) fn io(attempted: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { attempted, path, source }
    }
}

/// Runs file work away from the threads that serve heartbeats.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, GitError> + Send + 'static,
) -> Result<T, GitError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(e) => Err(GitError::Io {
            attempted: "finish file work in",
            path: PathBuf::from("the attempt directory"),
            source: io::Error::other(e.to_string()),
        }),
    }
}

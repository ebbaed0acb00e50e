//! Why a sandbox could not be opened or a run could not be started.

use std::io;
use std::path::PathBuf;

use crate::tree::WalkError;

/// What is wrong with a [`crate::SandboxSpec`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    #[error("workspace must be an absolute directory other than the root: {}", .0.display())]
    Workspace(PathBuf),
    #[error("command is empty")]
    EmptyCommand,
    #[error("more than {limit} arguments or environment entries")]
    TooManyArguments { limit: usize },
    #[error("argument {index} holds a NUL byte or is longer than {limit} bytes")]
    Argument { index: usize, limit: usize },
    #[error("environment entry {name:?} has an illegal name or value")]
    EnvEntry { name: String },
    #[error("working directory must stay within the workspace: {}", .0.display())]
    Cwd(PathBuf),
    #[error("more than {limit} read-only mounts")]
    TooManyMounts { limit: usize },
    #[error("read-only mount not allowed at {}", inside.display())]
    Mount { inside: PathBuf },
    #[error("limit {name} is {value}, the least that works is {floor}")]
    LimitTooLow { name: &'static str, value: u64, floor: u64 },
    #[error("path is not UTF-8: {}", .0.display())]
    PathNotUtf8(PathBuf),
}

/// Why the sandbox refused. The first group is one variant per layer that the machine cannot enforce, each naming the
/// remedy; nothing runs in a sandbox with a layer missing.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    #[error("bubblewrap is not installed: {fix}")]
    BwrapMissing { fix: String },
    #[error("bubblewrap {found} is too old: {fix}")]
    BwrapTooOld { found: String, fix: String },
    #[error("user namespaces cannot be used ({detail}): {fix}")]
    UserNamespaces { detail: String, fix: String },
    #[error("system call filters are not available: {fix}")]
    Seccomp { fix: String },
    #[error("cannot drop to an unprivileged uid ({detail}): {fix}")]
    UnprivilegedUid { detail: String, fix: String },
    #[error("sandbox helper binary cannot be used ({detail}): {fix}")]
    InitBinary { detail: String, fix: String },

    #[error("sandbox specification refused")]
    Spec(#[from] SpecError),
    #[error("workspace {} is not a directory that can be opened", path.display())]
    WorkspaceOpen { path: PathBuf, source: io::Error },
    #[error("workspace {} is in use by another run", path.display())]
    WorkspaceBusy { path: PathBuf },
    #[error("workspace {} could not be handed over to the run", path.display())]
    WorkspaceHandOver { path: PathBuf, source: WalkError },
    #[error("workspace {} could not be taken back from the run: discard it", path.display())]
    WorkspaceTakeBack { path: PathBuf, source: WalkError },
    #[error("all {slots} sandbox uids stayed in use")]
    NoFreeUid { slots: u32 },
    #[error("sandbox state directory {} is not usable: {detail}", path.display())]
    StateDir { path: PathBuf, detail: String },
    #[error("output file {} could not be created", path.display())]
    SpoolCreate { path: PathBuf, source: io::Error },
    /// The run ended before the command was started; nothing untrusted ran.
    #[error("sandbox could not be set up: {detail}")]
    SetUp { detail: String },
    #[error("{attempted} failed")]
    Os { attempted: &'static str, source: io::Error },
}

impl SandboxError {
    pub(crate) fn os(attempted: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Os { attempted, source }
    }

    pub(crate) fn errno(attempted: &'static str) -> impl FnOnce(rustix::io::Errno) -> Self {
        move |errno| Self::Os { attempted, source: errno.into() }
    }
}

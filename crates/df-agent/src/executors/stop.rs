//! Why an attempt ended without a product.

use df_contract::{Digest, FailureKind};

use crate::daemon::DaemonError;
use crate::git::GitError;
use crate::runner::RunnerError;

/// Longest reason in a report, in bytes.
const MAX_DETAIL_BYTES: usize = 8 * 1024;

#[derive(Debug)]
pub(crate) enum Stop {
    /// The lease is gone: nobody wants the outcome.
    Cancelled,
    Failed {
        kind: FailureKind,
        detail: String,
        trace: Option<Digest>,
    },
}

impl Stop {
    pub(crate) fn failed(kind: FailureKind, detail: impl Into<String>) -> Self {
        let mut detail = detail.into();
        detail.truncate(detail.floor_char_boundary(MAX_DETAIL_BYTES));
        Stop::Failed { kind, detail, trace: None }
    }

    /// A failure that concerns the submitted source: git's complaint is about what it holds, unless git itself or the
    /// disk failed.
    pub(crate) fn source(error: GitError) -> Self {
        match error {
            GitError::Spawn(_) | GitError::TimedOut { .. } | GitError::Io { .. } => Stop::from(error),
            GitError::OutputTooLarge { .. }
            | GitError::Failed { .. }
            | GitError::Unexpected { .. }
            | GitError::Bundle(_)
            | GitError::RevisionMissing(_)
            | GitError::NoSingleHead(_)
            | GitError::Submodule(_)
            | GitError::UnsafePath(_)
            | GitError::TooLarge { .. }
            | GitError::Tar(_)
            | GitError::TarEntry { .. } => Stop::failed(FailureKind::SourceUnreadable, error.to_string()),
        }
    }
}

/// The error and what caused it, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}

impl From<GitError> for Stop {
    /// A tree beyond the limits is what the work made of it: the same again would come to the same, and it says nothing
    /// about the machine.
    fn from(error: GitError) -> Self {
        let kind = match &error {
            GitError::TooLarge { .. } | GitError::UnsafePath(_) | GitError::Submodule(_) => {
                FailureKind::ContractBreach
            }
            GitError::Spawn(_)
            | GitError::TimedOut { .. }
            | GitError::Io { .. }
            | GitError::OutputTooLarge { .. }
            | GitError::Failed { .. }
            | GitError::Unexpected { .. }
            | GitError::Bundle(_)
            | GitError::RevisionMissing(_)
            | GitError::NoSingleHead(_)
            | GitError::Tar(_)
            | GitError::TarEntry { .. } => FailureKind::Infrastructure,
        };
        Stop::failed(kind, chain(&error))
    }
}

impl From<DaemonError> for Stop {
    fn from(error: DaemonError) -> Self {
        match error {
            DaemonError::Cancelled => Stop::Cancelled,
            other => Stop::failed(FailureKind::Infrastructure, chain(&other)),
        }
    }
}

impl From<RunnerError> for Stop {
    fn from(error: RunnerError) -> Self {
        match error {
            RunnerError::Cancelled => Stop::Cancelled,
            RunnerError::Start(_) => Stop::failed(FailureKind::Infrastructure, error.to_string()),
        }
    }
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        Stop::failed(
            FailureKind::Infrastructure,
            format!("file work in the attempt's directory failed: {error}"),
        )
    }
}

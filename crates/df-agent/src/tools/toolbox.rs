//! What an attempt's tools share: the workspace, the rights, what the model has seen, and kept logs.

use std::collections::BTreeMap;

use df_contract::Digest;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::guard::Guard;
use crate::edit::apply::PatchError;
use crate::edit::replace::ReplaceError;
use crate::rights::{Denied, Rights};
use crate::workspace::{FileError, Workspace};

/// Bytes of full command output kept per attempt; later logs are dropped, and say so.
const LOGS_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Why a tool did not do what was asked. The texts go to the model.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ToolError {
    #[error("the arguments do not fit the tool: {0}")]
    Arguments(serde_json::Error),
    #[error("{0}")]
    File(#[from] FileError),
    #[error("{0}")]
    Denied(#[from] Denied),
    #[error("{0}")]
    Replace(#[from] ReplaceError),
    #[error("{0} No file was changed.")]
    Patch(#[from] PatchError),
    #[error("`{0}` exists and has not been read; read it before changing it")]
    Unread(String),
    #[error("`{0}` has changed since it was read (by a command, perhaps); read it again")]
    Stale(String),
    #[error("`{0}` is not a valid pattern: {1}")]
    Pattern(String, String),
    #[error("there is no log `{0}`")]
    NoLog(String),
    #[error("line {offset} is past the end; the file has {lines} lines")]
    PastEnd { offset: usize, lines: usize },
    #[error("`{path}` holds a line of more than {limit} bytes; look at it with exec")]
    LongLine { path: String, limit: usize },
}

/// What a tool answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ToolAnswer {
    pub(crate) text: String,
    pub(crate) failed: bool,
}

impl ToolAnswer {
    pub(crate) fn ok(text: impl Into<String>) -> Self {
        Self { text: text.into(), failed: false }
    }
    pub(crate) fn failed(text: impl Into<String>) -> Self {
        Self { text: text.into(), failed: true }
    }
}

/// State of the tools of one attempt.
#[derive(Debug)]
pub(crate) struct ToolBox {
    pub(crate) workspace: Workspace,
    pub(crate) rights: Rights,
    /// Digest of each file as the model last saw or wrote it.
    pub(super) seen: BTreeMap<String, Digest>,
    pub(super) guard: Option<Guard>,
    logs: Vec<Vec<u8>>,
    logs_bytes: usize,
    pub(crate) denied_writes: u32,
}

impl ToolBox {
    pub(crate) fn new(workspace: Workspace, rights: Rights) -> Self {
        Self {
            workspace,
            rights,
            guard: None,
            seen: BTreeMap::new(),
            logs: Vec::new(),
            logs_bytes: 0,
            denied_writes: 0,
        }
    }

    /// Remembers what may not be written, to put it back after commands.
    pub(crate) fn guard(mut self) -> Self {
        self.guard = Guard::of(&self.workspace, |path| self.rights.check(path).is_ok());
        self
    }

    /// Turns what a tool did into its answer, counting refused writes.
    pub(super) fn answer(&mut self, result: Result<String, ToolError>) -> ToolAnswer {
        match result {
            Ok(text) => ToolAnswer::ok(text),
            Err(error) => {
                if matches!(error, ToolError::Denied(_) | ToolError::Patch(PatchError::Denied(_))) {
                    self.denied_writes += 1;
                }
                ToolAnswer::failed(format!("error: {error}"))
            }
        }
    }

    /// Keeps a full output; the number under which `log:N` reads it, from 1, unless the attempt has kept too much.
    pub(super) fn keep_log(&mut self, bytes: Vec<u8>) -> Option<usize> {
        if self.logs_bytes + bytes.len() > LOGS_BYTES_MAX {
            return None;
        }
        self.logs_bytes += bytes.len();
        self.logs.push(bytes);
        Some(self.logs.len())
    }

    pub(super) fn log(&self, number: &str) -> Result<String, ToolError> {
        let index = number.parse::<usize>().ok().and_then(|n| n.checked_sub(1));
        let log =
            index.and_then(|i| self.logs.get(i)).ok_or_else(|| ToolError::NoLog(format!("log:{number}")))?;
        Ok(String::from_utf8_lossy(log).into_owned())
    }

    /// The kept logs, in order.
    pub(crate) fn into_logs(self) -> Vec<Vec<u8>> {
        self.logs
    }
}

pub(super) fn arguments<T: DeserializeOwned>(arguments: Value) -> Result<T, ToolError> {
    serde_json::from_value(arguments).map_err(ToolError::Arguments)
}

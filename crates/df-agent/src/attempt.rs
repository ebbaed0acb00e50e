//! One attempt of the built-in agent: what it is given and what it gives back.

use std::fmt;
use std::path::Path;

use df_contract::{AgentResult, AgentTask};
use tokio::sync::{mpsc, watch};

use crate::runner::CommandRunner;

/// The grant, as a bearer token. `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct ModelToken(String);

impl ModelToken {
    pub fn new(token: impl Into<String>) -> Self {
        Self(token.into())
    }
    /// The bearer token itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ModelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ModelToken(..)")
    }
}

/// What a line of progress is about; the wire names are those of [`df_contract::lease::ProgressLine`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoteKind {
    Model,
    Tool,
    Check,
    Note,
}

impl NoteKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            NoteKind::Model => "model",
            NoteKind::Tool => "tool",
            NoteKind::Check => "check",
            NoteKind::Note => "note",
        }
    }
}

/// One line of progress for people who watch. The receiver adds the time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgressNote {
    pub kind: NoteKind,
    pub text: String,
}

/// One attempt, ready to run.
#[derive(Debug)]
pub struct Attempt<'a, R: CommandRunner> {
    pub task: &'a AgentTask,
    /// The checkout of the base revision, without `.git`.
    pub workspace: &'a Path,
    pub runner: &'a R,
    /// For calls to `task.model_endpoint`.
    pub http: &'a reqwest::Client,
    /// Lines for watchers; must be drained, a full channel holds the attempt up.
    pub progress: mpsc::Sender<ProgressNote>,
    /// The current grant: first `task.model_token`, then what heartbeats bring.
    pub token: watch::Receiver<ModelToken>,
    /// Becomes true when the lease is lost: the attempt stops at once.
    pub cancel: watch::Receiver<bool>,
}

/// How an attempt ended.
#[derive(Debug)]
pub struct AttemptReport {
    /// Without `tree`, which the worker adds. `artefacts` and `checks` name blobs of `blobs` by digest.
    pub result: AgentResult,
    /// To be uploaded before the result is reported; the address of each is the SHA-256 of its bytes.
    pub blobs: Vec<Vec<u8>>,
    /// How often the agent tried to write where it may not.
    pub denied_writes: u32,
}

//! How an attempt runs commands, without knowing what isolates them.

use df_contract::DurationMs;
use tokio::sync::watch;

/// Longest `output` a runner gives back, in bytes; what is longer keeps head and tail around a line saying how much
/// was left out.
pub const OUTPUT_BYTES_MAX: usize = 32 * 1024;
/// Longest `full_output` a runner keeps, in bytes.
pub const FULL_OUTPUT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What a command did. That it failed is an outcome; that it could not be started is a [`RunnerError`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandOutcome {
    /// Exit code; absent when the command was killed.
    pub exit: Option<i32>,
    pub timed_out: bool,
    /// Standard output and error in the order written, at most about [`OUTPUT_BYTES_MAX`].
    pub output: String,
    /// The same without cuts, up to [`FULL_OUTPUT_BYTES_MAX`].
    pub full_output: Vec<u8>,
    pub wall_ms: DurationMs,
}

impl CommandOutcome {
    pub fn passed(&self) -> bool {
        self.exit == Some(0) && !self.timed_out
    }
}

/// Why a command could not be run at all.
#[derive(Debug, thiserror::Error)]
pub enum RunnerError {
    #[error("the command could not be started in the sandbox: {0}")]
    Start(String),
    #[error("the command was stopped because the attempt was cancelled")]
    Cancelled,
}

/// Runs commands in the attempt's workspace by `sh -c` at its root: the sandbox in a worker, a plain process in tests.
pub trait CommandRunner: Sync {
    /// Runs `command` until it ends, `timeout` is over or `cancel` becomes true. Nothing it started may live on.
    fn run(
        &self,
        command: &str,
        timeout: DurationMs,
        cancel: watch::Receiver<bool>,
    ) -> impl Future<Output = Result<CommandOutcome, RunnerError>> + Send;
}

//! The sandbox as a [`CommandRunner`].

use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

use df_contract::DurationMs;
use df_sandbox::{Exit, Limits, Sandbox, SandboxSpec, Spool};
use tokio::sync::watch;

use super::bench::Layers;
use super::stop::chain;
use crate::runner::{CommandOutcome, CommandRunner, FULL_OUTPUT_BYTES_MAX, OUTPUT_BYTES_MAX, RunnerError};

/// So that the same command on the same tree prints the same, and leaves no by-products: no byte code beside sources, no
/// random order of Python's sets, no colours, one time zone.
const ENVIRONMENT: &[(&str, &str)] =
    &[("NO_COLOR", "1"), ("PYTHONDONTWRITEBYTECODE", "1"), ("PYTHONHASHSEED", "0"), ("TZ", "UTC")];

/// Runs commands with `sh -c` at the top of one workspace.
#[derive(Debug)]
pub(super) struct SandboxRunner {
    sandbox: Sandbox,
    limits: Limits,
    workspace: PathBuf,
    spools: PathBuf,
    next_spool: AtomicU64,
    layers: Layers,
}

impl SandboxRunner {
    /// Full outputs pass through files in `spools`.
    pub(super) fn new(
        sandbox: Sandbox,
        limits: Limits,
        workspace: &Path,
        spools: &Path,
        layers: Layers,
    ) -> Self {
        let next_spool = AtomicU64::new(0);
        Self {
            sandbox,
            limits,
            workspace: workspace.to_owned(),
            spools: spools.to_owned(),
            next_spool,
            layers,
        }
    }

    fn spec(&self, command: &str, timeout: DurationMs, spool: &Path) -> SandboxSpec {
        let limits =
            Limits { wall_ms: timeout.0.max(1), output_bytes: OUTPUT_BYTES_MAX, ..self.limits.clone() };
        let spool = Spool { path: spool.to_owned(), max_bytes: FULL_OUTPUT_BYTES_MAX as u64 };
        let spec = SandboxSpec::new(&self.workspace, ["sh", "-c", command]);
        let env = ENVIRONMENT.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        SandboxSpec { limits, spool: Some(spool), env, ..spec }
    }
}

impl CommandRunner for SandboxRunner {
    async fn run(
        &self,
        command: &str,
        timeout: DurationMs,
        cancel: watch::Receiver<bool>,
    ) -> Result<CommandOutcome, RunnerError> {
        let number = self.next_spool.fetch_add(1, Ordering::Relaxed);
        let name = self.workspace.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let spool = self.spools.join(format!("output-{name}-{number}"));
        let ran = self.sandbox.run(self.spec(command, timeout, &spool), cancel).await;
        let full_output = std::fs::read(&spool).unwrap_or_default();
        // Best effort: the attempt's directory goes as a whole.
        let _ = std::fs::remove_file(&spool);
        let outcome = ran.map_err(|e| RunnerError::Start(chain(&e)))?;
        let names = outcome.layers.iter().map(|layer| layer.name().to_owned());
        self.layers.lock().unwrap_or_else(PoisonError::into_inner).extend(names);
        let (exit, timed_out) = match outcome.exit {
            Exit::Code(code) => (Some(code), false),
            Exit::Signal(_) => (None, false),
            Exit::Timeout => (None, true),
            Exit::Cancelled => return Err(RunnerError::Cancelled),
        };
        let mut output = String::from_utf8_lossy(&outcome.output).into_owned();
        if outcome.oom {
            output.push_str("\n[killed: the memory limit was reached]\n");
        }
        Ok(CommandOutcome { exit, timed_out, output, full_output, wall_ms: DurationMs(outcome.wall_ms) })
    }
}

//! Chat completions through the proxy: streamed, retried within bounds, with errors in the terms of an attempt.

mod call;
mod stream;
mod wire;

use std::time::Duration;

use df_contract::FailureKind;
use serde_json::Value;
use tokio::sync::watch;

use crate::attempt::ModelToken;
use call::CallError;

pub(crate) use wire::{Answer, Message, Stop, ToolCall};

/// A model call that failed for good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub(crate) struct ModelError {
    pub(crate) kind: FailureKind,
    pub(crate) detail: String,
}

/// Patience with the endpoint.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// Calls in all before a transient failure is final.
    pub(crate) tries: u32,
    /// Pause after the first failure; doubled after each further one, up to `pause_max`.
    pub(crate) pause: Duration,
    /// Also the most a `retry-after` is honoured.
    pub(crate) pause_max: Duration,
    /// How long to wait for a fresh grant after one was refused: somewhat more than a heartbeat.
    pub(crate) token_wait: Duration,
    /// Longest silence within a call. Servers send comments while a model thinks.
    pub(crate) idle: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            tries: 7,
            pause: Duration::from_millis(500),
            pause_max: Duration::from_secs(30),
            token_wait: Duration::from_secs(15),
            idle: Duration::from_secs(300),
        }
    }
}

/// A client for one attempt's endpoint.
#[derive(Debug)]
pub(crate) struct ModelClient<'a> {
    pub(crate) http: &'a reqwest::Client,
    /// Base URL without `/v1`.
    pub(crate) endpoint: &'a str,
    pub(crate) token: watch::Receiver<ModelToken>,
    pub(crate) patience: Patience,
}

impl ModelClient<'_> {
    /// Asks for one completion. Retries what may pass; a refused grant is replaced by a renewed one once.
    pub(crate) async fn complete(&mut self, request: &Value) -> Result<Answer, ModelError> {
        let mut renewed = false;
        let mut failures = 0;
        loop {
            let token = self.token.borrow_and_update().clone();
            let (detail, after) = match self.call(request, &token).await {
                Ok(answer) => return Ok(answer),
                Err(CallError::Final(error)) => return Err(error),
                Err(CallError::Grant(error)) => {
                    if renewed || !self.renewal(&token).await {
                        return Err(error);
                    }
                    renewed = true;
                    continue;
                }
                Err(CallError::Transient { detail, after }) => (detail, after),
            };
            failures += 1;
            if failures >= self.patience.tries {
                let detail = format!("no answer after {failures} tries; the last failure: {detail}");
                return Err(ModelError { kind: FailureKind::ModelUnavailable, detail });
            }
            let pause = self.pause(failures, after);
            tracing::warn!(failures, pause_ms = pause.as_millis(), reason = %detail, "model call failed, will retry");
            tokio::time::sleep(pause).await;
        }
    }

    fn pause(&self, failures: u32, after: Option<Duration>) -> Duration {
        let doubled = self.patience.pause.saturating_mul(1 << failures.saturating_sub(1).min(16));
        after.unwrap_or_default().max(doubled).min(self.patience.pause_max)
    }

    /// Waits for a token other than `used`; whether there is one.
    async fn renewal(&mut self, used: &ModelToken) -> bool {
        let other = self.token.wait_for(|token| token != used);
        matches!(tokio::time::timeout(self.patience.token_wait, other).await, Ok(Ok(_)))
    }
}

//! Brings open jobs forward: those that changed at once, and every one of them now and then.

use std::collections::BTreeSet;

use df_contract::JobId;
use tokio::sync::broadcast::error::RecvError;

use crate::{OrchestrationError, Orchestrator};

/// Jobs read at once.
const PAGE: u32 = 256;
/// Hints taken together.
const MAX_HINTS: usize = 256;

impl Orchestrator {
    /// A job that changed is looked at at once. What waits for the proxy has a loop of its own, so that a proxy that
    /// hangs holds up no job.
    pub(super) async fn hints_loop(&self) {
        let mut changes = self.inner.store.subscribe();
        loop {
            match changes.recv().await {
                Ok(job) => {
                    let more = std::iter::from_fn(|| changes.try_recv().ok()).take(MAX_HINTS);
                    let changed: BTreeSet<JobId> = more.chain([job]).collect();
                    for job in changed {
                        self.go_on(job).await;
                    }
                }
                // What was missed may be any job.
                Err(RecvError::Lagged(_)) => {
                    super::drain(&mut changes);
                    self.sweep().await;
                }
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// Looks at every open job now.
    pub async fn sweep(&self) {
        self.told(super::Reconciler::Jobs).await;
    }

    /// Looks at every open job, page by page; returns how many had a step to take that nobody had taken. After a
    /// restart this alone brings every job forward.
    pub(super) async fn stuck_jobs(&self) -> Result<u64, OrchestrationError> {
        let (mut after, mut did) = (None, 0);
        loop {
            let page = self.inner.store.jobs_open(after, PAGE).await?;
            for (_, job) in &page {
                did += u64::from(self.go_on(*job).await);
            }
            if page.len() < PAGE as usize {
                return Ok(did);
            }
            after = page.into_iter().next_back();
        }
    }

    /// Advances a job where nobody waits to hear of a failure: after a command that is committed, failing would tell
    /// its sender that it was not. The next round tries again. Answers whether the job was moved.
    pub(crate) async fn go_on(&self, id: JobId) -> bool {
        match self.advance(id).await {
            Ok(steps) => steps > 0,
            Err(error) => {
                tracing::warn!(job = %id, error = %error, "job could not be advanced");
                self.inner.again.add(id);
                false
            }
        }
    }
}

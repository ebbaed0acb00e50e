//! Moves jobs whose time has come.

use crate::{OrchestrationError, Orchestrator};

/// Jobs read at once.
const PAGE: u32 = 256;

impl Orchestrator {
    /// What could not be advanced a moment ago, then every job that is due, the longest overdue first. A job that is moved has another moment then, or none; one that
    /// could not be moved is due again in the next round, and holds up no other.
    pub async fn timers(&self) -> Result<u64, OrchestrationError> {
        let (now, mut after, mut did) = (self.inner.env.now(), None, 0);
        for job in self.inner.again.take() {
            did += u64::from(self.go_on(job).await);
        }
        loop {
            let page = self.inner.store.jobs_due(now, after, PAGE).await?;
            for (_, job) in &page {
                did += u64::from(self.go_on(*job).await);
            }
            after = page.last().copied();
            if page.len() < PAGE as usize {
                return Ok(did);
            }
        }
    }
}

//! Takes back leases that ended without a report.

use df_store::ReapRequest;

use crate::{OrchestrationError, Orchestrator};

/// Most leases taken back in one transaction.
const BATCH: usize = 256;
/// Most transactions of one round.
const MAX_BATCHES: usize = 16;

impl Orchestrator {
    /// Takes back the leases of dead sessions and of attempts that ran past their limits.
    pub async fn reap(&self) -> Result<(), OrchestrationError> {
        self.leases().await.map(|_| ())
    }

    pub(super) async fn leases(&self) -> Result<u64, OrchestrationError> {
        let mut did = 0;
        for _ in 0..MAX_BATCHES {
            let returned = self.reap_batch().await?;
            did += returned as u64;
            if returned < BATCH {
                break;
            }
        }
        Ok(did)
    }

    async fn reap_batch(&self) -> Result<usize, OrchestrationError> {
        let env = &self.inner.env;
        let mints = (0..BATCH).map(|_| env.command_id()).collect();
        let progress_timeout = self.inner.config.progress_timeout_ms;
        let reaped = self.inner.store.reap(ReapRequest { now: env.now(), progress_timeout, mints }).await?;
        let returned = reaped.returned.len();
        for (job, task, epoch, cause) in reaped.returned {
            tracing::info!(%job, %task, epoch, cause, "lease taken back");
        }
        Ok(returned)
    }
}

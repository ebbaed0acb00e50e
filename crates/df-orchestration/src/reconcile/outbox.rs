//! Carries out what transitions asked for outside the store, and forgets what was done long ago.

use df_contract::api::Revocation;
use df_contract::{DurationMs, Timestamp};
use df_control_machine::Effect;
use df_store::OutboxRow;

use crate::proxy::ProxyError;
use crate::{OrchestrationError, Orchestrator};

/// Effects read at once (tests see the next page without 256 of them), and pages of one round.
const BATCH: u32 = if cfg!(test) { 1 } else { 256 };
const MAX_PAGES: usize = 64;
/// Effects that were done are kept this long, for whoever looks into what happened.
const KEEP_DONE: DurationMs = DurationMs::from_secs(7 * 24 * 3_600);
/// Breakers of a worker that has not been there for so long are forgotten.
const KEEP_UNSEEN: DurationMs = DurationMs::from_secs(24 * 3_600);
/// Rows forgotten in one transaction, and transactions of one round.
const FORGET: u32 = 1_000;
const MAX_FORGETS: usize = 64;

impl Orchestrator {
    /// Carries out what is due. What fails stays and is tried again in the next round. The same effect twice does no
    /// harm.
    pub async fn dispatch_outbox(&self) {
        self.told(super::Reconciler::Outbox).await;
    }

    pub(super) async fn outbox(&self) -> Result<u64, OrchestrationError> {
        let (mut did, mut after) = (0, 0);
        for _ in 0..MAX_PAGES {
            let page = self.inner.store.outbox_due(after, BATCH).await?;
            let Some(last) = page.last() else { break };
            after = last.id;
            did += self.carry_out(page).await?;
        }
        Ok(did)
    }

    async fn carry_out(&self, page: Vec<OutboxRow>) -> Result<u64, OrchestrationError> {
        let mut did = 0;
        for row in page {
            let Effect::RevokeGrants { slug, epoch } = row.effect;
            let done = self.inner.proxy.revoke(&Revocation { job: row.job, task: slug, epoch }).await;
            match done {
                Ok(()) => {
                    self.inner.store.outbox_done(row.id, self.inner.env.now()).await?;
                    did += 1;
                }
                // One that is refused must not hold up the others.
                Err(error @ ProxyError::Refused { .. }) => {
                    tracing::warn!(job = %row.job, error = %error, "an effect was refused by the proxy");
                }
                Err(error @ ProxyError::Unreachable { .. }) => {
                    return Err(OrchestrationError::ProxyAway(error));
                }
            }
        }
        Ok(did)
    }

    /// Forgets effects that were done long ago, and breakers of workers that are no more. Commands, events and audit records stay as long as their jobs: ids are
    /// answered again, streams have no gaps, chains verify.
    pub(super) async fn cleanup(&self) -> Result<u64, OrchestrationError> {
        let (store, now) = (&self.inner.store, self.inner.env.now());
        let ago = |keep: DurationMs| Timestamp(now.0.saturating_sub(keep.0));
        let mut did = 0;
        for _ in 0..MAX_FORGETS {
            let gone = store.outbox_forget(ago(KEEP_DONE), FORGET).await?;
            did += gone;
            if gone < u64::from(FORGET) {
                break;
            }
        }
        for _ in 0..MAX_FORGETS {
            let gone = store.breakers_forget(now, ago(KEEP_UNSEEN), FORGET).await?;
            did += gone;
            if gone < u64::from(FORGET) {
                break;
            }
        }
        Ok(did)
    }
}

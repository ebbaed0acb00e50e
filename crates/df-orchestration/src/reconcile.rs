//! The loops that need no input: they look at the store and bring every job forward. Each is safe to run at any time,
//! any number of times, and after any crash, and each tells how it goes ([`status`]).
//!
//! Hints make things quick and are never needed: [`Reconciler::Jobs`] alone brings every open job forward.

mod blobs;
mod jobs;
mod leases;
mod outbox;
pub mod status;
mod timers;
mod usage;

use std::time::Duration;

use df_contract::lease::REAP_EVERY;
use df_store::BlobStore;
use tokio::sync::{broadcast, watch};
use tokio::time::MissedTickBehavior;

use crate::{OrchestrationError, Orchestrator};
pub use blobs::BLOB_GRACE;
pub use status::Reconciler;

impl Orchestrator {
    /// Runs every loop until `stop` turns true.
    pub async fn run(&self, blobs: BlobStore, mut stop: watch::Receiver<bool>) {
        tokio::select! {
            () = self.hints_loop() => {}
            () = self.keep(Reconciler::Leases) => {}
            () = self.keep(Reconciler::Timers) => {}
            () = self.keep(Reconciler::Jobs) => {}
            () = self.outbox_loop() => {}
            () = self.keep(Reconciler::Usage) => {}
            () = self.keep(Reconciler::Cleanup) => {}
            () = self.blobs_loop(&blobs) => {}
            _ = stop.wait_for(|s| *s) => {}
        }
    }

    /// Runs one reconciler at its interval, for ever, beginning at once.
    async fn keep(&self, which: Reconciler) {
        let mut round = tokio::time::interval(which.every());
        round.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            round.tick().await;
            self.told(which).await;
        }
    }

    /// [`Self::keep`] of the one that needs the blobs.
    async fn blobs_loop(&self, blobs: &BlobStore) {
        let mut round = tokio::time::interval(Reconciler::Blobs.every());
        round.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            round.tick().await;
            self.inner.reconcilers.started(Reconciler::Blobs, self.inner.env.now());
            let ended = self.orphan_blobs(blobs).await;
            self.ended(Reconciler::Blobs, ended);
        }
    }

    /// Runs a reconciler once and keeps what is known of it.
    pub(crate) async fn told(&self, which: Reconciler) {
        self.inner.reconcilers.started(which, self.inner.env.now());
        let ended = self.round(which).await;
        self.ended(which, ended);
    }

    fn ended(&self, which: Reconciler, ended: Result<u64, OrchestrationError>) {
        let ended = ended.map_err(|error| error.to_string());
        // A proxy that is away for an hour is one line, not one a second.
        if let Some(error) = self.inner.reconcilers.ended(which, self.inner.env.now(), ended) {
            tracing::warn!(reconciler = which.as_str(), error, "a reconciler fails; it goes on trying");
        }
    }

    /// One round; answers how many things it did.
    async fn round(&self, which: Reconciler) -> Result<u64, OrchestrationError> {
        match which {
            Reconciler::Leases => self.leases().await,
            Reconciler::Timers => self.timers().await,
            Reconciler::Jobs => self.stuck_jobs().await,
            Reconciler::Outbox => self.outbox().await,
            Reconciler::Usage => self.usage().await,
            Reconciler::Cleanup => self.cleanup().await,
            // It has a loop of its own.
            Reconciler::Blobs => Ok(0),
        }
    }

    /// Runs the outbox at its interval, and at once when something has changed.
    async fn outbox_loop(&self) {
        let mut changes = self.inner.store.subscribe();
        loop {
            self.told(Reconciler::Outbox).await;
            let _ = tokio::time::timeout(Reconciler::Outbox.every(), changes.recv()).await;
            drain(&mut changes);
        }
    }
}

/// One round serves every hint that has come by now.
fn drain(changes: &mut broadcast::Receiver<df_contract::JobId>) {
    while changes.try_recv().is_ok() {}
}

impl Reconciler {
    /// How long it rests between two rounds.
    pub const fn every(self) -> Duration {
        match self {
            Reconciler::Leases => Duration::from_millis(REAP_EVERY.0),
            Reconciler::Timers | Reconciler::Outbox | Reconciler::Usage => Duration::from_secs(1),
            Reconciler::Jobs => Duration::from_secs(60),
            Reconciler::Cleanup => Duration::from_secs(3_600),
            Reconciler::Blobs => Duration::from_secs(6 * 3_600),
        }
    }
}

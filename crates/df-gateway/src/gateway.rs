//! What the handlers share.

use std::sync::Arc;

use df_orchestration::{Env, Orchestrator};
use df_store::{BlobStore, Store};
use tokio::sync::{Semaphore, watch};

use crate::limits::MAX_STREAMS;
use crate::rate::RateLimit;

/// The state behind the API. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Gateway {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    orchestrator: Orchestrator,
    blobs: BlobStore,
    rate: RateLimit,
    streams: Arc<Semaphore>,
    stop: watch::Receiver<bool>,
}

impl Gateway {
    /// `stop` turns true when the process ends: streams and waiting claims then end too.
    pub fn new(orchestrator: Orchestrator, blobs: BlobStore, stop: watch::Receiver<bool>) -> Self {
        let streams = Arc::new(Semaphore::new(MAX_STREAMS));
        Self { inner: Arc::new(Inner { orchestrator, blobs, rate: RateLimit::new(), streams, stop }) }
    }

    pub(crate) fn orchestrator(&self) -> &Orchestrator {
        &self.inner.orchestrator
    }
    pub(crate) fn store(&self) -> &Store {
        self.inner.orchestrator.store()
    }
    pub(crate) fn env(&self) -> &Env {
        self.inner.orchestrator.env()
    }
    pub(crate) fn blobs(&self) -> &BlobStore {
        &self.inner.blobs
    }
    pub(crate) fn rate(&self) -> &RateLimit {
        &self.inner.rate
    }
    pub(crate) fn streams(&self) -> &Arc<Semaphore> {
        &self.inner.streams
    }
    pub(crate) fn stop(&self) -> watch::Receiver<bool> {
        self.inner.stop.clone()
    }
}

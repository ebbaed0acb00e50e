//! What all calls share. Everything in it is fixed after the start or has an owner of its own.

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};

use crate::accounts::Pool;
use crate::config::Limits;
use crate::grants::Grants;
use crate::ledger::Ledger;
use crate::prices::Prices;
use crate::recording::Recorder;
use crate::upstream::Clients;

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) limits: Limits,
    pub(crate) prices: Prices,
    pub(crate) grants: Grants,
    /// SHA-256 of the admin token; the token itself is not kept.
    pub(crate) admin_digest: [u8; 32],
    pub(crate) pool: Pool,
    pub(crate) ledger: Ledger,
    pub(crate) recorder: Option<Recorder>,
    pub(crate) clients: Clients,
    /// One permit per call in flight.
    pub(crate) permits: Arc<Semaphore>,
    /// Each call holds a copy; a stop waits until none is left.
    pub(crate) alive: mpsc::WeakSender<()>,
}

impl Core {
    pub(crate) fn needs_fingerprints(&self) -> bool {
        self.recorder.is_some() || self.pool.replays()
    }
}

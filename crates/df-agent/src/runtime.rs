//! The life of a worker: a session with the daemon, leases claimed and worked on, heartbeats, and fencing itself off.
//!
//! A worker that cannot prove that its session lives stops its own work before the daemon could give the same work to
//! another: its deadline counts from the moment *before* the last answered heartbeat was sent, on the monotonic clock.

mod attempt;
mod heart;
mod session;

use std::collections::BTreeSet;
use std::sync::Arc;

use df_contract::agent::Runtime;
use df_contract::lease::SessionOpen;
use df_contract::{LeaseKind, SandboxTier};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::daemon::{Daemon, DaemonError, until_answered};
use crate::executors::{Clock, Executors};
use session::{Ended, Session};

/// What a worker offers.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// A name for people.
    pub name: String,
    /// Leases held at the same time.
    pub capacity: u32,
    pub kinds: Vec<LeaseKind>,
    /// What the operator says of this worker; jobs and agents may ask for labels.
    pub labels: BTreeSet<String>,
    /// Sandbox tiers it enforces.
    pub tiers: BTreeSet<SandboxTier>,
    /// Runtimes of agents it can run.
    pub runtimes: BTreeSet<Runtime>,
}

impl WorkerConfig {
    fn open(&self) -> SessionOpen {
        SessionOpen {
            name: self.name.clone(),
            capacity: self.capacity,
            labels: self.labels.clone(),
            tiers: self.tiers.clone(),
            runtimes: self.runtimes.clone(),
        }
    }
}

/// Why a worker ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    #[error("the daemon does not accept this worker")]
    NotAccepted(#[source] DaemonError),
}

/// A worker of one daemon.
#[derive(Debug)]
pub struct Worker {
    daemon: Daemon,
    executors: Arc<Executors>,
    config: WorkerConfig,
    clock: Clock,
}

impl Worker {
    pub fn new(daemon: Daemon, executors: Arc<Executors>, config: WorkerConfig, clock: Clock) -> Self {
        Self { daemon, executors, config, clock }
    }

    /// Works until `stop` is true: then gives everything back and returns. A session that is lost is followed by a new one.
    ///
    /// # Errors
    /// The daemon refuses to open a session at all: a wrong key, or one that is no worker's.
    pub async fn run(&self, stop: watch::Receiver<bool>) -> Result<(), RuntimeError> {
        let open = self.config.open();
        while !*stop.borrow() {
            let mut sent = Instant::now();
            let opened = until_answered(stop.clone(), || {
                sent = Instant::now();
                self.daemon.open_session(&open)
            })
            .await;
            let opened = match opened {
                Ok(opened) => opened,
                Err(DaemonError::Cancelled) => break,
                Err(error) => return Err(RuntimeError::NotAccepted(error)),
            };
            tracing::info!(session = %opened.session, class = ?opened.class, "session opened");
            match Session::new(self, opened, sent).serve(stop.clone()).await {
                Ended::Stopped => break,
                Ended::Lost => tracing::warn!("session lost, all its work was stopped; opening a new one"),
            }
        }
        Ok(())
    }
}

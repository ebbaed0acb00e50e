//! Heartbeats, on a task of their own so that no work delays them.

use std::time::Duration;

use df_contract::SessionId;
use df_contract::lease::{Heartbeat, HeartbeatReply, HeldLease};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::daemon::{Daemon, DaemonError};

/// One heartbeat's end.
pub(super) struct Beat {
    /// Taken before the request left: the session lives at least from here.
    pub(super) sent: Instant,
    pub(super) reply: Result<HeartbeatReply, DaemonError>,
}

/// Sends a heartbeat every `every` until the receiver of `beats` is gone.
pub(super) async fn beat(
    daemon: Daemon,
    session: SessionId,
    every: Duration,
    held: watch::Receiver<Vec<HeldLease>>,
    beats: mpsc::Sender<Beat>,
) {
    let mut next = Instant::now() + every;
    loop {
        tokio::time::sleep_until(next).await;
        let sent = Instant::now();
        next = sent + every;
        let held = held.borrow().clone();
        let reply = daemon.heartbeat(session, &Heartbeat { held }).await;
        if reply.as_ref().is_err_and(DaemonError::is_passing) {
            // An unanswered heartbeat is repeated sooner: the fence comes nearer.
            next = next.min(Instant::now() + every / 5);
        }
        if beats.send(Beat { sent, reply }).await.is_err() {
            return;
        }
    }
}

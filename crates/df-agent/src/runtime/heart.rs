//! Heartbeats, on a task of their own so that no work delays them, and the watch for leases that are lost in between.

use std::collections::BTreeSet;
use std::time::Duration;

use df_contract::lease::{Heartbeat, HeartbeatReply, HeldLease, Watch};
use df_contract::{DurationMs, SessionId};
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

/// One watch waits this long.
const WATCH_WAIT: DurationMs = DurationMs::from_secs(15);
/// After a watch that was not answered. Nothing hangs on it: the heartbeat tells the same, only later.
const WATCH_PAUSE: Duration = Duration::from_secs(2);

/// Hears at once of leases that are lost, until the receiver of `lost` is gone.
pub(super) async fn watch(
    daemon: Daemon,
    session: SessionId,
    mut held: watch::Receiver<Vec<HeldLease>>,
    lost: mpsc::Sender<Vec<HeldLease>>,
) {
    // A lease that was lost is held until its work has ended.
    let mut told: BTreeSet<HeldLease> = BTreeSet::new();
    loop {
        let names = held.borrow_and_update().clone();
        told.retain(|name| names.contains(name));
        let names: Vec<_> = names.into_iter().filter(|name| !told.contains(name)).collect();
        let answer = async {
            match names.is_empty() {
                true => std::future::pending().await,
                false => daemon.watch(session, &Watch { held: names, wait_ms: WATCH_WAIT }).await,
            }
        };
        let answer = tokio::select! {
            changed = held.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
            answer = answer => answer,
        };
        match answer {
            Ok(answer) if answer.lost.is_empty() => {}
            Ok(answer) => {
                told.extend(answer.lost.iter().cloned());
                if lost.send(answer.lost).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::debug!(%error, "watch not answered");
                tokio::time::sleep(WATCH_PAUSE).await;
            }
        }
    }
}

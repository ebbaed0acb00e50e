//! One session: the task that owns the leases held under it.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use df_contract::lease::{Claim, Claimed, HeartbeatReply, HeldLease, SELF_FENCE_MARGIN, SessionOpened, Work};
use df_contract::{DurationMs, Lease, SessionId};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Worker;
use super::attempt;
use super::heart::{self, Beat};
use crate::attempt::ModelToken;
use crate::daemon::{Daemon, DaemonError, LeaseClient, wanted};
use crate::executors::Means;
use crate::progress::Progress;

/// One claim waits this long for work.
const CLAIM_WAIT: DurationMs = DurationMs::from_secs(10);
/// After a claim that was not answered.
const CLAIM_PAUSE: Duration = Duration::from_secs(1);
/// Cancelled work gets this long to end before it is dropped.
const END_WITHIN: Duration = Duration::from_secs(8);
/// Answered heartbeats that wait for the owner.
const BEATS_AHEAD: usize = 4;

type Claiming = Pin<Box<dyn Future<Output = Result<Claimed, DaemonError>> + Send>>;

/// Why a session ended.
pub(super) enum Ended {
    /// As asked; its leases were handed back.
    Stopped,
    /// The daemon does not know it any more, or did not answer for too long.
    Lost,
}

/// How to reach the attempt on a lease.
struct Held {
    cancel: watch::Sender<bool>,
    token: watch::Sender<ModelToken>,
}

pub(super) struct Session<'a> {
    worker: &'a Worker,
    opened: SessionOpened,
    held: BTreeMap<HeldLease, Held>,
    attempts: JoinSet<HeldLease>,
    /// All work stops here unless a heartbeat is answered before.
    fence: Instant,
}

impl<'a> Session<'a> {
    /// `sent`: just before the request that opened it.
    pub(super) fn new(worker: &'a Worker, opened: SessionOpened, sent: Instant) -> Self {
        let fence = sent + lease_of_life(&opened);
        Self { worker, opened, held: BTreeMap::new(), attempts: JoinSet::new(), fence }
    }

    pub(super) async fn serve(mut self, mut stop: watch::Receiver<bool>) -> Ended {
        let (names, shown) = watch::channel(Vec::new());
        let (beats, mut answers) = mpsc::channel(BEATS_AHEAD);
        let (losses, mut lost) = mpsc::channel(BEATS_AHEAD);
        let every = self.opened.heartbeat_every_ms.to_std();
        let mut heart = JoinSet::new();
        let (daemon, session) = (&self.worker.daemon, self.opened.session);
        heart.spawn(heart::watch(daemon.clone(), session, shown.clone(), losses));
        heart.spawn(heart::beat(daemon.clone(), session, every, shown, beats));
        let mut claiming: Option<Claiming> = None;
        let ended = loop {
            names.send_if_modified(|names| self.name_held(names));
            if claiming.is_none() {
                claiming = self.next_claim(Duration::ZERO);
            }
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(self.fence) => {
                    tracing::warn!("no heartbeat was answered in time");
                    break Ended::Lost;
                }
                () = wanted(&mut stop) => break Ended::Stopped,
                Some(beat) = answers.recv() => if self.hear(beat).is_gone() { break Ended::Lost },
                Some(lost) = lost.recv() => self.lose(&lost),
                Some(ended) = self.attempts.join_next() => self.forget(ended),
                claimed = pending_or(&mut claiming) => match claimed {
                    Ok(claimed) => {
                        claiming = None;
                        claimed.leases.into_iter().for_each(|lease| self.start(lease));
                    }
                    Err(error) if error.is_passing() => claiming = self.next_claim(CLAIM_PAUSE),
                    Err(error) => {
                        tracing::warn!(%error, "claim refused");
                        break Ended::Lost;
                    }
                },
            }
        };
        drop(claiming);
        match ended {
            // At once: whoever takes the leases over has new epochs, so that what still ends here counts for nothing.
            Ended::Stopped => {
                let (daemon, session) = (self.worker.daemon.clone(), self.opened.session);
                tokio::join!(hand_back(&daemon, session), self.end_all());
            }
            Ended::Lost => self.end_all().await,
        }
        ended
    }

    fn next_claim(&self, pause: Duration) -> Option<Claiming> {
        let held = u32::try_from(self.held.len()).unwrap_or(u32::MAX);
        let free = self.worker.config.capacity.saturating_sub(held);
        let class = self.opened.class;
        let kinds: Vec<_> = self.worker.config.kinds.iter().copied().filter(|k| class.may_hold(*k)).collect();
        if free == 0 || kinds.is_empty() {
            return None;
        }
        let claim = Claim { kinds, max: free, wait_ms: CLAIM_WAIT };
        let (daemon, session): (Daemon, _) = (self.worker.daemon.clone(), self.opened.session);
        Some(Box::pin(async move {
            tokio::time::sleep(pause).await;
            daemon.claim(session, &claim).await
        }))
    }

    fn start(&mut self, lease: Lease) {
        let name = HeldLease { job: lease.job, slug: lease.slug.clone(), epoch: lease.epoch };
        let kind = lease.kind().as_str();
        tracing::info!(
            job = %lease.job, task = %lease.slug, attempt = %lease.attempt, epoch = lease.epoch, kind, "lease claimed"
        );
        let (cancel, cancelled) = watch::channel(false);
        let first = match &lease.work {
            Work::Agent { task } => task.model_token.clone(),
            Work::Intake { .. } | Work::Integrate { .. } | Work::Validate { .. } | Work::Deliver { .. } => {
                String::new()
            }
        };
        let (token, tokens) = watch::channel(ModelToken::new(first));
        let (progress, pump) = Progress::new(self.worker.clock);
        let daemon = LeaseClient::new(self.worker.daemon.clone(), &lease, cancelled.clone());
        let means = Means { daemon, progress, token: tokens, cancel: cancelled };
        self.held.insert(name.clone(), Held { cancel, token });
        let executors = self.worker.executors.clone();
        self.attempts.spawn(async move {
            attempt::run(executors, lease, means, pump).await;
            name
        });
    }

    fn hear(&mut self, beat: Beat) -> Heard {
        match beat.reply {
            Ok(reply) => {
                self.fence = beat.sent + lease_of_life(&self.opened);
                self.apply(reply);
                Heard::Alive
            }
            Err(error) if error.is_passing() => {
                tracing::warn!(%error, "heartbeat not answered");
                Heard::Alive
            }
            Err(error) => {
                tracing::warn!(%error, "heartbeat refused");
                Heard::Gone
            }
        }
    }

    /// Brings `names` up to date; whether that changed them.
    fn name_held(&self, names: &mut Vec<HeldLease>) -> bool {
        let changed = !self.held.keys().eq(names.iter());
        if changed {
            *names = self.held.keys().cloned().collect();
        }
        changed
    }

    /// Stops the work of leases that are gone.
    fn lose(&mut self, lost: &[HeldLease]) {
        for lost in lost {
            if let Some(held) = self.held.get(lost)
                && !held.cancel.send_replace(true)
            {
                tracing::info!(job = %lost.job, task = %lost.slug, epoch = lost.epoch, "lease lost");
            }
        }
    }

    fn apply(&mut self, reply: HeartbeatReply) {
        self.lose(&reply.lost);
        for (name, held) in &self.held {
            if let Some(token) = reply.grants.get(&format!("{}/{}", name.job, name.slug)) {
                held.token.send_replace(ModelToken::new(token));
            }
        }
    }

    fn forget(&mut self, ended: Result<HeldLease, tokio::task::JoinError>) {
        match ended {
            Ok(name) => {
                self.held.remove(&name);
            }
            // The attempt's own task catches what its work does; this is a defect of ours.
            Err(error) => tracing::error!(%error, "an attempt ended without its name"),
        }
    }

    /// Stops all work and sees it ended.
    async fn end_all(&mut self) {
        for held in self.held.values() {
            held.cancel.send_replace(true);
        }
        let all = async { while self.attempts.join_next().await.is_some() {} };
        if tokio::time::timeout(END_WITHIN, all).await.is_err() {
            tracing::warn!("work did not end when cancelled, it is dropped");
            self.attempts.shutdown().await;
        }
        self.held.clear();
    }
}

async fn hand_back(daemon: &Daemon, session: SessionId) {
    match daemon.close_session(session).await {
        Ok(()) => tracing::info!(%session, "session closed, leases handed back"),
        // The session ends by itself without heartbeats.
        Err(error) => tracing::warn!(%error, "session could not be closed"),
    }
}

/// Whether the session still stands after a heartbeat.
enum Heard {
    Alive,
    Gone,
}

impl Heard {
    fn is_gone(&self) -> bool {
        matches!(self, Heard::Gone)
    }
}

/// How long after an answered heartbeat was sent work may go on.
fn lease_of_life(opened: &SessionOpened) -> Duration {
    opened.ttl_ms.saturating_sub(SELF_FENCE_MARGIN).to_std()
}

/// The claim's end; never when there is none.
async fn pending_or(claiming: &mut Option<Claiming>) -> Result<Claimed, DaemonError> {
    match claiming {
        Some(claiming) => claiming.await,
        None => std::future::pending().await,
    }
}

//! A worker that does no work: it takes leases over the real protocol and lets them fail, each in the way it is told.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use df_contract::lease::{
    Claim, Claimed, Heartbeat, HeartbeatReply, HeldLease, ProgressBatch, ProgressLine, Report, SessionOpen,
    SessionOpened,
};
use df_contract::{AttemptOutcome, DurationMs, FailureKind, Lease, LeaseKind};

use tokio::task::JoinSet;

use crate::api::{Api, ApiError};

/// How often a held lease is kept alive.
const ROUND: Duration = Duration::from_secs(4);
/// Lines of progress come once in so many rounds.
const ROUNDS_PER_LINE: u64 = 4;
/// How long it waits before the next session when one could not be opened.
const REST: Duration = Duration::from_secs(1);
/// How long one claim waits for work.
const CLAIM_WAIT: DurationMs = DurationMs(2_000);
/// Sessions that look for work at the same time, however many leases are held.
const CLAIMERS: usize = 4;

/// What becomes of a lease.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Reported as failed of this kind.
    Fail(FailureKind),
    /// Reported as failed, and once more with another outcome.
    FailTwice(FailureKind),
    /// Held, with heartbeats and without any progress, until it is lost.
    Stall,
    /// Held like that with progress, and given back when this worker ends.
    Keep,
    /// Given back, as by a worker that is shut down.
    HandBack,
    /// Never heard of again.
    Vanish,
}

/// The running worker.
#[derive(Debug)]
pub struct FaultyWorker {
    stop: Arc<AtomicBool>,
    claimers: JoinSet<()>,
}

type Fate = dyn Fn(&Lease) -> Fault + Send + Sync;

impl FaultyWorker {
    /// Takes agent leases as a worker with `labels`; `fate` says what becomes of each.
    /// Each lease has a session of its own, under a name of its own, so that what befalls one touches no other.
    pub fn start(api: &Api, labels: &[&str], fate: impl Fn(&Lease) -> Fault + Send + Sync + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let fate: Arc<Fate> = Arc::new(fate);
        let labels: BTreeSet<String> = labels.iter().map(|l| (*l).to_owned()).collect();
        let sessions = Arc::new(AtomicUsize::new(0));
        let mut claimers = JoinSet::new();
        for _ in 0..CLAIMERS {
            let (stop, sessions) = (Arc::clone(&stop), Arc::clone(&sessions));
            let claimer = Claimer { api: api.clone(), labels: labels.clone(), sessions, stop };
            claimers.spawn(claimer.run(Arc::clone(&fate)));
        }
        Self { stop, claimers }
    }

    /// Takes nothing more, and gives back what it keeps. What it stalls or has left goes back in its own time.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Waits until every session has ended; panics when one met what it must not meet.
    pub async fn ended(mut self) {
        self.stop();
        while let Some(claimer) = self.claimers.join_next().await {
            claimer.expect("a session of the worker that fails");
        }
    }
}

/// Looks for work, one session after the other; each session stays with the lease it got.
struct Claimer {
    api: Api,
    labels: BTreeSet<String>,
    /// How many sessions all claimers have opened.
    sessions: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

impl Claimer {
    async fn run(self, fate: Arc<Fate>) {
        let mut held = JoinSet::new();
        while !self.stop.load(Ordering::Relaxed) {
            // However a session ends, the next one begins; the daemon may be away.
            match self.lease().await {
                Ok(Some(session)) => {
                    let (fault, stop) = (fate(&session.lease), Arc::clone(&self.stop));
                    held.spawn(async move {
                        // An answer that did not come leaves the lease to the daemon.
                        let _ = session.suffer(fault, &stop).await;
                    });
                }
                Ok(None) => {}
                Err(_) => tokio::time::sleep(REST).await,
            }
        }
        while let Some(done) = held.join_next().await {
            done.expect("a lease of the worker that fails");
        }
    }

    /// The first lease that a new session gets; nothing when the worker is stopped before.
    async fn lease(&self) -> Result<Option<Session>, ApiError> {
        let name = format!("faulty-{}", self.sessions.fetch_add(1, Ordering::Relaxed));
        let open = SessionOpen { labels: self.labels.clone(), ..SessionOpen::plain(name, 1) };
        let opened: SessionOpened = self.api.post("/v1/worker/sessions", &open).await?;
        let address = format!("/v1/worker/sessions/{}", opened.session);
        while !self.stop.load(Ordering::Relaxed) {
            let claim = Claim { kinds: vec![LeaseKind::Agent], max: 1, wait_ms: CLAIM_WAIT };
            let claimed: Claimed = self.api.post(&format!("{address}/claim"), &claim).await?;
            if let Some(lease) = claimed.leases.into_iter().next() {
                return Ok(Some(Session { api: self.api.clone(), address, lease }));
            }
            beat(&self.api, &address, &[]).await?;
        }
        close(&self.api, &address).await.map(|()| None)
    }
}

/// A session with its one lease.
struct Session {
    api: Api,
    address: String,
    lease: Lease,
}

impl Session {
    async fn suffer(self, fault: Fault, stop: &AtomicBool) -> Result<(), ApiError> {
        let Self { api, address, lease } = &self;
        match fault {
            Fault::Fail(kind) => assert_eq!(report(api, lease, kind).await?, 204, "a report was refused"),
            Fault::FailTwice(kind) => {
                assert_eq!(report(api, lease, kind).await?, 204, "a report was refused");
                let again = report(api, lease, FailureKind::PolicyBreach).await?;
                assert_eq!(again, 409, "a second outcome was accepted");
            }
            Fault::Stall => while self.holds().await? {},
            Fault::Keep => {
                for round in 0.. {
                    if round % ROUNDS_PER_LINE == 0 {
                        progress(api, lease, round / ROUNDS_PER_LINE).await?;
                    }
                    if stop.load(Ordering::Relaxed) || !self.holds().await? {
                        break;
                    }
                }
            }
            Fault::HandBack => {}
            Fault::Vanish => return Ok(()),
        }
        close(api, address).await
    }

    /// Whether the lease is still held, asked and waited for a round.
    async fn holds(&self) -> Result<bool, ApiError> {
        let Lease { job, slug, epoch, .. } = &self.lease;
        let held = HeldLease { job: *job, slug: slug.clone(), epoch: *epoch };
        let holds = beat(&self.api, &self.address, std::slice::from_ref(&held)).await?;
        if holds {
            tokio::time::sleep(ROUND).await;
        }
        Ok(holds)
    }
}

async fn close(api: &Api, address: &str) -> Result<(), ApiError> {
    let (status, _) = api.raw(reqwest::Method::DELETE, address, &[], Vec::new()).await?;
    assert_eq!(status, 204, "a session could not be closed");
    Ok(())
}

/// Whether the session still has all that it holds.
async fn beat(api: &Api, address: &str, held: &[HeldLease]) -> Result<bool, ApiError> {
    let beat = Heartbeat { held: held.to_vec() };
    let reply: HeartbeatReply = api.post(&format!("{address}/heartbeat"), &beat).await?;
    Ok(reply.lost.is_empty())
}

async fn progress(api: &Api, lease: &Lease, first: u64) -> Result<(), ApiError> {
    let line = ProgressLine { at: lease.deadline, kind: "note".to_owned(), text: "kept".to_owned() };
    let body = serde_json::to_vec(&ProgressBatch { first, lines: vec![line] }).expect("a batch");
    let path = format!("/v1/worker/leases/{}/{}/{}/events", lease.job, lease.slug, lease.epoch);
    let json = [("content-type", "application/json")];
    api.with_key(&lease.token.0).raw(reqwest::Method::POST, &path, &json, body).await.map(drop)
}

/// Answers the status.
async fn report(api: &Api, lease: &Lease, kind: FailureKind) -> Result<u16, ApiError> {
    let detail = format!("injected: {}", kind.as_str());
    let report = Report {
        attempt: lease.attempt,
        outcome: AttemptOutcome::Failed { kind, detail, trace: None },
        sandbox_layers: Vec::new(),
        evidence: Vec::new(),
    };
    let path = format!("/v1/worker/leases/{}/{}/{}/report", lease.job, lease.slug, lease.epoch);
    let body = serde_json::to_vec(&report).expect("a report");
    let json = [("content-type", "application/json")];
    let (status, _) = api.with_key(&lease.token.0).raw(reqwest::Method::POST, &path, &json, body).await?;
    Ok(status)
}

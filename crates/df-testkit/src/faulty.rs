//! A worker that does no work: it takes leases over the real protocol and lets them fail, each in the way it is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use df_contract::lease::{
    Claim, Claimed, Heartbeat, HeartbeatReply, HeldLease, ProgressBatch, ProgressLine, Report, SessionOpen,
    SessionOpened,
};
use df_contract::{AttemptOutcome, DurationMs, FailureKind, Lease, LeaseKind};

use crate::api::{Api, ApiError};

/// How often it proves that it lives.
const ROUND: Duration = Duration::from_secs(2);
/// How long it leaves work to others after each lease.
const REST: Duration = Duration::from_secs(2);

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
    lanes: tokio::task::JoinSet<()>,
}

type Fate = dyn Fn(&Lease) -> Fault + Send + Sync;

impl FaultyWorker {
    /// Takes agent leases as a worker with `labels`; `fate` says what becomes of each.
    /// It has so many sessions side by side, each with one lease at a time, so that what befalls one touches no other.
    pub fn start(
        api: &Api,
        labels: &[&str],
        lanes: usize,
        fate: impl Fn(&Lease) -> Fault + Send + Sync + 'static,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let fate: Arc<Fate> = Arc::new(fate);
        let mut running = tokio::task::JoinSet::new();
        for lane in 0..lanes {
            let mut open = SessionOpen::plain(format!("faulty-{lane}"), 1);
            open.labels = labels.iter().map(|l| (*l).to_owned()).collect();
            let (api, fate, stop) = (api.clone(), Arc::clone(&fate), Arc::clone(&stop));
            running.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    // However a session ends, the next one begins; the daemon may be away.
                    let _ = session(&api, &open, fate.as_ref(), &stop).await;
                    tokio::time::sleep(REST).await;
                }
            });
        }
        Self { stop, lanes: running }
    }

    /// Takes nothing more, and gives back what it keeps. What it stalls or has left goes back in its own time.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Waits until every session has ended; panics when one met what it must not meet.
    pub async fn ended(mut self) {
        self.stop();
        while let Some(lane) = self.lanes.join_next().await {
            lane.expect("a session of the worker that fails");
        }
    }
}

/// One session, up to the end of its first lease.
async fn session(api: &Api, open: &SessionOpen, fate: &Fate, stop: &AtomicBool) -> Result<(), ApiError> {
    let opened: SessionOpened = api.post("/v1/worker/sessions", open).await?;
    let address = format!("/v1/worker/sessions/{}", opened.session);
    while !stop.load(Ordering::Relaxed) {
        let claim = Claim { kinds: vec![LeaseKind::Agent], max: 1, wait_ms: DurationMs(500) };
        let claimed: Claimed = api.post(&format!("{address}/claim"), &claim).await?;
        let Some(lease) = claimed.leases.into_iter().next() else {
            beat(api, &address, &[]).await?;
            continue;
        };
        match fate(&lease) {
            Fault::Fail(kind) => {
                assert_eq!(report(api, &lease, kind).await?, 204, "a report was refused");
            }
            Fault::FailTwice(kind) => {
                assert_eq!(report(api, &lease, kind).await?, 204, "a report was refused");
                assert_eq!(
                    report(api, &lease, FailureKind::PolicyBreach).await?,
                    409,
                    "a second outcome was accepted"
                );
            }
            Fault::Stall => {
                let held = HeldLease { job: lease.job, slug: lease.slug.clone(), epoch: lease.epoch };
                while beat(api, &address, std::slice::from_ref(&held)).await? {
                    tokio::time::sleep(ROUND).await;
                }
            }
            Fault::Keep => {
                let held = HeldLease { job: lease.job, slug: lease.slug.clone(), epoch: lease.epoch };
                let mut first = 0;
                while !stop.load(Ordering::Relaxed)
                    && beat(api, &address, std::slice::from_ref(&held)).await?
                {
                    progress(api, &lease, first).await?;
                    first += 1;
                    tokio::time::sleep(ROUND).await;
                }
            }
            Fault::HandBack => {}
            Fault::Vanish => return Ok(()),
        }
        break;
    }
    let (status, _) = api.raw(reqwest::Method::DELETE, &address, &[], Vec::new()).await?;
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

//! How soon work reaches a worker, over real connections to a daemon on SQLite:
//!
//! - *wake to claim*: idle workers wait in long polls; jobs come one by one; from the commit that makes a task ready to
//!   the answer that hands it out, and from before the submission, which has two commits of its own. The limit stated
//!   for the first is 50 ms for 99 of 100.
//! - *dead worker*: workers claim and fall silent; from the last sign of life to the moment another worker has the
//!   task again. The limit stated is 17 s.
//!
//! `cargo bench -p df-gateway --bench leases -- [WORKERS] [JOBS] [DEAD]`
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench: a failure ends it, and it prints")]
#![expect(clippy::disallowed_methods, reason = "a bench measures time and reads its arguments")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use df_contract::api::KeyCreate;
use df_contract::lease::{Claimed, HeldLease, SessionOpened};
use df_contract::{Digest, JobId, Role, Timestamp, WorkerClass};
use df_gateway::{Gateway, mint_key};
use df_orchestration::grants::GrantSigner;
use df_orchestration::lease_token::LeaseTokens;
use df_orchestration::proxy::ProxyClient;
use df_orchestration::users::Caller;
use df_orchestration::{Env, OperatorLimits, OrchestrationConfig, Orchestrator, Parts, default_bundle};
use df_store::{BlobStore, Store};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

const WAKE_LIMIT: Duration = Duration::from_millis(50);
const DEAD_LIMIT: Duration = Duration::from_secs(17);
/// Jobs come so far apart, so that each finds idle workers.
const GAP: Duration = Duration::from_millis(25);
/// Nothing takes as long as that.
const GIVE_UP: Duration = Duration::from_secs(60);

fn main() {
    let mut asked = std::env::args().skip(1).filter_map(|arg| arg.parse::<usize>().ok());
    let (workers, jobs, dead) =
        (asked.next().unwrap_or(50), asked.next().unwrap_or(400), asked.next().unwrap_or(16));
    let _ = rustls::crypto::ring::default_provider().install_default();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let bench = Bench::start().await;
        bench.wake_to_claim(workers, jobs).await;
        bench.dead_workers(dead).await;
    });
}

/// A lease that came, and when.
type Came = (JobId, Instant);

struct Bench {
    orchestrator: Orchestrator,
    base: String,
    _stop: watch::Sender<bool>,
    _dir: tempfile::TempDir,
}

impl Bench {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let orchestrator = Orchestrator::new(Parts {
            store: Store::open_sqlite(&dir.path().join("store")).unwrap(),
            policy: default_bundle().unwrap(),
            limits: OperatorLimits::default(),
            config: OrchestrationConfig::default(),
            env: env(),
            grants: GrantSigner::new([1; 32]),
            tokens: LeaseTokens::new([2; 32]),
            proxy: ProxyClient::new("http://127.0.0.1:1", "token".to_owned()).unwrap(),
        });
        let blobs = BlobStore::open(&dir.path().join("blobs")).unwrap();
        let (stopper, stop) = watch::channel(false);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let gateway = Gateway::new(orchestrator.clone(), blobs.clone(), stop.clone());
        tokio::spawn(df_gateway::serve(listener, gateway));
        let running = orchestrator.clone();
        tokio::spawn(async move { running.run(blobs, stop).await });
        Self { orchestrator, base, _stop: stopper, _dir: dir }
    }

    /// A worker with a key of its own, so that no limit per key is met.
    async fn worker(&self, name: String) -> Worker {
        let wanted = KeyCreate {
            identity: name.clone(),
            roles: [Role::Worker].into(),
            tenant: None,
            class: Some(WorkerClass::Trusted),
            expires_at: None,
        };
        let minted = mint_key(self.orchestrator.env(), wanted, &"bench".parse().unwrap()).unwrap();
        self.orchestrator.store().key_insert(minted.row).await.unwrap();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let mut worker = Worker {
            http,
            base: self.base.clone(),
            key: minted.secret,
            session: String::new(),
            held: Arc::default(),
        };
        let opened = worker.post("sessions", &json!({"name": name, "capacity": 1_000})).await;
        worker.session = serde_json::from_value::<SessionOpened>(opened).unwrap().session.to_string();
        worker
    }

    async fn submit(&self) -> JobId {
        let spec = json!({"title": "Shorten links", "description": "A small service."});
        let spec = serde_json::from_value(spec).unwrap();
        self.orchestrator.submit(&alice(), spec, None).await.unwrap().id
    }

    async fn wake_to_claim(&self, workers: usize, jobs: usize) {
        let (came, mut told) = mpsc::channel(jobs + 1);
        let mut at_work = tokio::task::JoinSet::new();
        for n in 0..workers {
            let worker = self.worker(format!("idle-{n}")).await;
            at_work.spawn(worker.clone().live());
            at_work.spawn(worker.wait(came.clone()));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        // The first hint of a job says that it is there, the second that its first task is ready.
        let mut hints = self.orchestrator.store().subscribe();
        let ready = tokio::spawn(async move {
            let mut seen: HashMap<JobId, Vec<Instant>> = HashMap::new();
            while let Ok(job) = hints.recv().await {
                let times = seen.entry(job).or_default();
                if times.len() < 2 {
                    times.push(Instant::now());
                }
                if seen.len() == jobs && seen.values().all(|times| times.len() == 2) {
                    break;
                }
            }
            seen
        });
        let mut submitted = HashMap::new();
        for _ in 0..jobs {
            let before = Instant::now();
            submitted.insert(self.submit().await, before);
            tokio::time::sleep(GAP).await;
        }
        let ready = tokio::time::timeout(GIVE_UP, ready).await.unwrap().unwrap();
        let (mut waits, mut whole) = (Vec::new(), Vec::new());
        for _ in 0..jobs {
            let (job, at) = tokio::time::timeout(GIVE_UP, told.recv()).await.unwrap().unwrap();
            waits.push(at.saturating_duration_since(ready[&job][1]));
            whole.push(at.saturating_duration_since(submitted[&job]));
        }
        for job in ready.keys() {
            self.orchestrator.cancel(&alice(), *job, "measured".to_owned()).await.unwrap();
        }
        report(&format!("wake to claim, {workers} idle workers, {jobs} jobs"), waits, WAKE_LIMIT);
        report("the same, from before the job is submitted", whole, WAKE_LIMIT);
    }

    async fn dead_workers(&self, dead: usize) {
        let (came, mut told) = mpsc::channel(dead * 2 + 1);
        let mut silent: HashMap<JobId, Instant> = HashMap::new();
        for n in 0..dead {
            let worker = self.worker(format!("dead-{n}")).await;
            self.submit().await;
            let claimed = worker.claim(5_000).await;
            worker.beat().await;
            silent.insert(claimed.leases[0].job, Instant::now());
            // At different places between two rounds of the reaper.
            tokio::time::sleep(Duration::from_millis(137)).await;
        }
        let taker = self.worker("taker".to_owned()).await;
        let mut at_work = tokio::task::JoinSet::new();
        at_work.spawn(taker.clone().live());
        at_work.spawn(taker.wait(came));
        let mut waits = Vec::new();
        while waits.len() < silent.len() {
            let (job, at) = tokio::time::timeout(GIVE_UP, told.recv()).await.unwrap().unwrap();
            if let Some(from) = silent.get(&job) {
                waits.push(at.saturating_duration_since(*from));
            }
        }
        report(&format!("dead worker to next claim, {dead} workers"), waits, DEAD_LIMIT);
    }
}

fn alice() -> Caller {
    let roles = [Role::Submitter].into();
    Caller { identity: "alice".to_owned(), tenant: "bench".parse().unwrap(), roles }
}

#[derive(Clone)]
struct Worker {
    http: reqwest::Client,
    base: String,
    key: String,
    session: String,
    /// A worker that does not name its leases is taken for one that never got them.
    held: Arc<Mutex<Vec<HeldLease>>>,
}

impl Worker {
    async fn post(&self, path: &str, body: &Value) -> Value {
        let request = self.http.post(format!("{}/v1/worker/{path}", self.base)).bearer_auth(&self.key);
        let answer = request.json(body).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.text().await.unwrap());
        answer.json().await.unwrap()
    }

    async fn claim(&self, wait_ms: u64) -> Claimed {
        let ask = json!({"kinds": ["intake"], "max": 1, "wait_ms": wait_ms});
        let answer = self.post(&format!("sessions/{}/claim", self.session), &ask).await;
        let claimed: Claimed = serde_json::from_value(answer).unwrap();
        let held =
            claimed.leases.iter().map(|l| HeldLease { job: l.job, slug: l.slug.clone(), epoch: l.epoch });
        self.held.lock().unwrap().extend(held);
        claimed
    }

    async fn beat(&self) {
        let held = self.held.lock().unwrap().clone();
        self.post(&format!("sessions/{}/heartbeat", self.session), &json!({"held": held})).await;
    }

    async fn live(self) {
        loop {
            self.beat().await;
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
    }

    /// Waits for work for ever, and says when it came.
    async fn wait(self, came: mpsc::Sender<Came>) {
        loop {
            let claimed = self.claim(20_000).await;
            let at = Instant::now();
            for lease in claimed.leases {
                if came.send((lease.job, at)).await.is_err() {
                    return;
                }
            }
        }
    }
}

fn report(what: &str, mut waits: Vec<Duration>, limit: Duration) {
    waits.sort();
    let at = |share: f64| waits[((waits.len() as f64 * share).ceil() as usize).clamp(1, waits.len()) - 1];
    let (half, most) = (at(0.5), at(0.99));
    let verdict = if most <= limit { "within" } else { "BEYOND" };
    println!(
        "{what}: p50 {half:.1?}, p99 {most:.1?}, longest {:.1?}; p99 is {verdict} the limit of {limit:.0?}",
        waits[waits.len() - 1]
    );
}

fn env() -> Env {
    let now = || {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        Timestamp(since.as_millis() as u64)
    };
    let count = std::sync::atomic::AtomicU64::new(1);
    Env::new(now, move |bytes| {
        let seed = Digest::of(&count.fetch_add(1, std::sync::atomic::Ordering::SeqCst).to_le_bytes());
        bytes.iter_mut().zip(seed.as_str().bytes().cycle()).for_each(|(byte, from)| *byte = from);
    })
}

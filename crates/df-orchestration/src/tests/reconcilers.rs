//! Every reconciler run twice, refused by the store at every single write, and given up at any moment: whenever it runs
//! again, the store comes to hold what one undisturbed run leaves.

use std::fmt::Write as _;
use std::sync::Mutex;

use df_contract::api::{Revocation, UsagePage, UsageRow};
use df_contract::{AttemptId, JobId, Source};
use df_control_machine::Actor;
use df_store::{BlobStore, JobFilter};
use rusqlite::Connection;
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::reconcile::Reconciler;

const DAY_MS: u64 = 24 * 3_600_000;
/// More than a page of the proxy's ledger.
const USAGE_ROWS: u64 = 501;
/// More writes than any run makes.
const MANY: i64 = 1_000_000;
/// Moments at which a run is given up.
const GIVEN_UP: usize = 16;

/// A proxy with a ledger that hears revocations.
#[derive(Default)]
struct Proxy {
    rows: Mutex<Vec<UsageRow>>,
    revoked: Mutex<BTreeSet<String>>,
}

impl Proxy {
    async fn start(self: &Arc<Self>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let proxy = Arc::clone(self);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(Arc::clone(&proxy).answer(stream));
            }
        });
        address
    }

    async fn answer(self: Arc<Self>, mut stream: TcpStream) {
        let Some((head, body)) = request(&mut stream).await else { return };
        let answer = if head.starts_with("GET") {
            let after: u64 =
                head.split("after=").nth(1).and_then(|rest| rest.split('&').next()?.parse().ok()).unwrap();
            let rows: Vec<UsageRow> =
                self.rows.lock().unwrap().iter().filter(|row| row.seq > after).take(500).cloned().collect();
            let cursor = rows.last().map_or(after, |row| row.seq);
            let page = serde_json::to_string(&UsagePage { rows, cursor, now: None }).unwrap();
            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{page}", page.len())
        } else {
            let told: Revocation = serde_json::from_slice(&body).unwrap();
            self.revoked.lock().unwrap().insert(format!("{} {} {}", told.job, told.task, told.epoch));
            "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n".to_owned()
        };
        // Whoever gave up waits for no answer.
        let _ = stream.write_all(answer.as_bytes()).await;
    }
}

/// Head and body of a request; nothing when its sender has left.
async fn request(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, _)) = text.split_once("\r\n\r\n") {
            let length = head.to_lowercase().lines().find_map(|line| {
                line.strip_prefix("content-length:").and_then(|length| length.trim().parse::<usize>().ok())
            });
            let body = &bytes[head.len() + 4..];
            if body.len() >= length.unwrap_or(0) {
                return Some((head.to_owned(), body.to_vec()));
            }
        }
        let mut piece = [0; 4096];
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => return None,
            Ok(n) => bytes.extend_from_slice(&piece[..n]),
        }
    }
}

/// A store in which every reconciler finds something to do.
struct World {
    orchestrator: Orchestrator,
    blobs: BlobStore,
    proxy: Arc<Proxy>,
    dir: tempfile::TempDir,
}

impl World {
    async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (dir, proxy) = (tempfile::tempdir().unwrap(), Arc::<Proxy>::default());
        let (clock, count) = (Arc::new(AtomicU64::new(START)), AtomicU64::new(0));
        let read = Arc::clone(&clock);
        let env = Env::new(
            move || Timestamp(read.load(Ordering::SeqCst)),
            move |bytes| {
                let seed = Digest::of(&count.fetch_add(1, Ordering::SeqCst).to_le_bytes());
                bytes.iter_mut().zip(seed.as_str().bytes().cycle()).for_each(|(byte, from)| *byte = from);
            },
        );
        let orchestrator = Orchestrator::new(Parts {
            store: Store::open_sqlite(&dir.path().join("store")).unwrap(),
            policy: default_bundle().unwrap(),
            limits: OperatorLimits::default(),
            config: OrchestrationConfig::default(),
            env,
            grants: GrantSigner::new(SEED),
            tokens: LeaseTokens::new([2; 32]),
            proxy: ProxyClient::new(&proxy.start().await, "token".to_owned()).unwrap(),
        });
        let blobs = BlobStore::open(&dir.path().join("blobs")).unwrap();
        let world = Self { orchestrator, blobs, proxy, dir };
        world.fill().await;
        clock.store(START + 8 * DAY_MS, Ordering::SeqCst);
        world
    }

    async fn fill(&self) {
        let orchestrator = &self.orchestrator;
        // An effect that was done long ago, and two that are not.
        for pending in [false, true, true] {
            let lease = planning(orchestrator).await;
            orchestrator.cancel(&alice(), lease.job, "enough".to_owned()).await.unwrap();
            if !pending {
                orchestrator.dispatch_outbox().await;
            }
            let rows = (0..USAGE_ROWS).map(|n| usage(lease.job, n));
            let mut known = self.proxy.rows.lock().unwrap();
            let from = known.len() as u64;
            known.extend(rows.map(|row| UsageRow { seq: from + row.seq + 1, ..row }));
        }
        // Leases of a worker that is gone.
        for _ in 0..2 {
            orchestrator.submit(&alice(), spec(), None).await.unwrap();
            claimed(orchestrator).await;
        }
        for n in 0..2 {
            // Jobs that nobody looked at since they were written down, and some whose time has come.
            let body = CommandBody::Submit {
                tenant: "acme".parse().unwrap(),
                submitter: "alice".to_owned(),
                spec: Box::new(spec()),
            };
            let actor = Actor { name: "alice".to_owned(), role: Role::Submitter };
            let env = orchestrator.env();
            orchestrator.send(env.command_id(), env.job_id(), actor, body).await.unwrap();
            let mut late = spec();
            late.deadline = Some(Timestamp(START + 1_000 + n));
            orchestrator.submit(&alice(), late, None).await.unwrap();
        }
        // Uploads that a job names, and that none does.
        let mut named = spec();
        named.source = Source::Bundle { digest: self.upload(b"named").await };
        orchestrator.submit(&alice(), named, None).await.unwrap();
        for orphan in [b"one", b"two"] {
            self.upload(orphan).await;
        }
    }

    async fn upload(&self, content: &[u8]) -> Digest {
        let mut writer = self.blobs.begin().await.unwrap();
        writer.write(content).await.unwrap();
        writer.finish(&Digest::of(content)).await.unwrap();
        Digest::of(content)
    }

    /// Runs one reconciler; answers how many things it did.
    async fn run(&self, which: Reconciler) -> u64 {
        if which == Reconciler::Blobs {
            return self.orchestrator.orphan_blobs(&self.blobs).await.unwrap_or(0);
        }
        self.orchestrator.told(which).await;
        let view = self.orchestrator.reconcilers();
        view.into_iter().find(|view| view.name == which.as_str()).unwrap().last_did
    }

    /// Everything that reconcilers change, without ids that are minted anew and the moments at which it happened.
    async fn content(&self) -> String {
        let (store, mut text) = (self.orchestrator.store(), String::new());
        let filter = JobFilter { limit: 200, ..JobFilter::default() };
        for job in store.job_list(filter).await.unwrap() {
            let record = store.job(job.id).await.unwrap().unwrap();
            writeln!(
                text,
                "{} {} v{} {:?} {:?}",
                job.id, record.state, record.version, record.cause, record.spend
            )
            .unwrap();
            for task in record.tasks.values() {
                let (state, epoch, lost) = (task.state, task.epoch, task.lost_leases);
                writeln!(text, "  {} {state} {epoch} {} {lost}", task.slug, task.attempts).unwrap();
            }
            for record in store.audit(job.id).await.unwrap() {
                writeln!(text, "  {} {:?} {}", record.version, record.slug, record.body["kind"]).unwrap();
            }
        }
        let due: Vec<_> = store.outbox_due(0, 99).await.unwrap().into_iter().map(|row| row.id).collect();
        let done: i64 =
            self.database().query_row("SELECT count(*) FROM outbox", [], |row| row.get(0)).unwrap();
        let mut blobs = Vec::new();
        for content in ["named", "one", "two"] {
            blobs.push(self.blobs.has(&Digest::of(content.as_bytes())).await);
        }
        let (cursor, sessions) =
            (store.usage_cursor().await.unwrap(), store.session_list().await.unwrap().len());
        writeln!(text, "due {due:?} of {done}, usage to {cursor}, {sessions} sessions, blobs {blobs:?}")
            .unwrap();
        writeln!(text, "revoked {:?}", self.proxy.revoked.lock().unwrap()).unwrap();
        text
    }

    fn database(&self) -> Connection {
        Connection::open(self.dir.path().join("store/control.db")).unwrap()
    }

    /// From now on the store refuses every write after so many.
    fn refuse_after(&self, writes: i64) {
        let database = self.database();
        if database.execute("UPDATE fault SET writes = ?1", [writes]).is_ok() {
            return;
        }
        database.execute_batch("BEGIN; CREATE TABLE fault (writes INTEGER NOT NULL)").unwrap();
        database.execute("INSERT INTO fault VALUES (?1)", [writes]).unwrap();
        let mut tables = database
            .prepare("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT IN ('fault', 'schema_version')")
            .unwrap();
        let tables: Vec<String> =
            tables.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        for table in tables.iter().filter(|table| !table.starts_with("sqlite_")) {
            for what in ["INSERT", "UPDATE", "DELETE"] {
                let sql = format!(
                    "CREATE TRIGGER fault_{table}_{what} BEFORE {what} ON {table} BEGIN
                       SELECT RAISE(ABORT, 'told to fail') WHERE (SELECT writes FROM fault) <= 0;
                       UPDATE fault SET writes = writes - 1;
                     END"
                );
                database.execute_batch(&sql).unwrap();
            }
        }
        database.execute_batch("COMMIT").unwrap();
    }

    fn writes_left(&self) -> i64 {
        self.database().query_row("SELECT writes FROM fault", [], |row| row.get(0)).unwrap()
    }
}

fn usage(job: JobId, n: u64) -> UsageRow {
    UsageRow {
        seq: n,
        at: Timestamp(START),
        job,
        task: "plan".parse().unwrap(),
        epoch: 1,
        attempt: AttemptId::mint(Timestamp(START), [3; 10]),
        account: "a".to_owned(),
        model: "m".to_owned(),
        input_tokens: Tokens(1),
        output_tokens: Tokens(1),
        nano_usd: NanoUsd(1),
        estimated: false,
    }
}

/// What one undisturbed run leaves, and how many writes it takes.
async fn undisturbed(which: Reconciler) -> (String, i64) {
    let world = World::start().await;
    let before = world.content().await;
    world.refuse_after(MANY);
    assert!(world.run(which).await > 0, "{which:?} finds nothing to do");
    let (after, writes) = (world.content().await, MANY - world.writes_left());
    assert_ne!(before, after, "{which:?}");
    assert_eq!(world.run(which).await, 0, "{which:?} run again finds nothing to do");
    assert_eq!(world.content().await, after, "{which:?} run again changes nothing");
    (after, writes)
}

#[tokio::test]
async fn a_reconciler_may_be_refused_any_write_and_run_again() {
    for which in Reconciler::ALL {
        let (want, writes) = undisturbed(which).await;
        let world = World::start().await;
        // One store for all of them: each run gets as far as it may, and the next begins where it ended.
        for allowed in 0..writes {
            world.refuse_after(allowed);
            world.run(which).await;
        }
        world.refuse_after(MANY);
        world.run(which).await;
        assert_eq!(world.content().await, want, "{which:?} after ever later refusals");
        // And one for each moment, as far as there are few.
        for refused in (0..writes).step_by(usize::try_from(writes / 5 + 1).unwrap()) {
            let world = World::start().await;
            world.refuse_after(refused);
            world.run(which).await;
            world.refuse_after(MANY);
            world.run(which).await;
            assert_eq!(world.content().await, want, "{which:?} refused after {refused} writes of {writes}");
        }
    }
}

/// As when the daemon is killed: the run is not heard of again, whatever it had asked the store for.
#[tokio::test]
async fn a_reconciler_may_be_given_up_at_any_moment_and_run_again() {
    for which in Reconciler::ALL {
        let (want, _) = undisturbed(which).await;
        let world = World::start().await;
        for looks in 0..GIVEN_UP {
            let mut run = std::pin::pin!(world.run(which));
            let mut left = looks;
            std::future::poll_fn(|context| {
                let done = run.as_mut().poll(context).is_ready();
                left = left.saturating_sub(1);
                if done || left == 0 { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
            })
            .await;
        }
        world.run(which).await;
        assert_eq!(world.content().await, want, "{which:?}");
    }
}

/// Each tells when it last ran, what it did, and what was wrong, until it goes well again.
#[tokio::test]
async fn a_reconciler_that_was_refused_says_so_until_it_goes_well() {
    let world = World::start().await;
    let view = |which: Reconciler| {
        let view = world.orchestrator.reconcilers();
        view.into_iter().find(|view| view.name == which.as_str()).unwrap()
    };
    for which in [Reconciler::Leases, Reconciler::Outbox, Reconciler::Usage, Reconciler::Cleanup] {
        world.refuse_after(0);
        world.run(which).await;
        let refused = view(which);
        assert!(refused.last_error.is_some_and(|error| !error.is_empty()), "{which:?}");
        world.refuse_after(MANY);
        assert!(world.run(which).await > 0, "{which:?}");
        let well = view(which);
        assert_eq!((well.last_error, well.last_ended), (None, Some(Timestamp(START + 8 * DAY_MS))));
    }
}

//! The worker as a process, with real git and real sandboxes, against a scripted daemon.

#![expect(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]
#![expect(clippy::disallowed_methods, reason = "the worker is started as a process")]

mod daemon;
mod leases;
mod life;
mod merging;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use df_agent::git::{CommitSpec, Git, Identity, Repo, list_files};
use df_contract::lease::{LeaseToken, Report, Work};
use df_contract::task::{Product, TreeRef};
use df_contract::{
    AcceptanceCheck, AttemptId, AttemptOutcome, DurationMs, FailureKind, JobId, Lease, Revision, Timestamp,
};
use tempfile::TempDir;

use daemon::Stage;

pub(crate) const WORKER: &str = env!("CARGO_BIN_EXE_devfactory-worker");

/// A worker, its daemon, and a directory for both. Dropping it kills the worker.
#[derive(Debug)]
pub(crate) struct World {
    pub stage: Stage,
    pub dir: TempDir,
    pub worker: Child,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with("", |_| {}).await
    }

    /// With more configuration, and a scene prepared before the worker starts.
    pub(crate) async fn with(more: &str, prepare: impl FnOnce(&mut daemon::Scene)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let stage = Stage::open().await;
        prepare(&mut stage.scene());
        let worker = start_worker(dir.path(), &stage.address, more);
        Self { stage, dir, worker }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn stop_worker(&mut self) {
        let pid = self.worker.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    }

    /// Hands out `work`; gives its epoch.
    pub(crate) fn hand_out(&self, work: Work) -> u64 {
        let lease = lease(work);
        let epoch = lease.epoch;
        self.stage.scene().leases.push(lease);
        self.stage.poke();
        epoch
    }

    /// Hands out `work` and waits for its report. Lines of progress count anew.
    pub(crate) async fn report(&self, work: Work) -> Report {
        self.stage.scene().lines.clear();
        self.hand_out(work);
        self.stage.until(|s| s.reports.pop()).await
    }

    pub(crate) async fn product(&self, work: Work) -> Product {
        match self.report(work).await.outcome {
            AttemptOutcome::Succeeded { product } => product,
            AttemptOutcome::Failed { kind, detail, .. } => panic!("{kind:?}: {detail}"),
        }
    }

    pub(crate) async fn failure(&self, work: Work) -> (FailureKind, String) {
        match self.report(work).await.outcome {
            AttemptOutcome::Succeeded { product } => panic!("succeeded: {product:?}"),
            AttemptOutcome::Failed { kind, detail, .. } => (kind, detail),
        }
    }

    /// A tree of the job in the blob store: `files` on top of `parent`.
    pub(crate) async fn tree(&self, parent: Option<&TreeRef>, files: &[(&str, &str)]) -> TreeRef {
        let at = tempfile::tempdir_in(self.dir.path()).unwrap();
        let git = Git::new(&at.path().join("home")).unwrap();
        let repo = Repo::init(&git, &at.path().join("r")).await.unwrap();
        let tree = at.path().join("tree");
        if let Some(parent) = parent {
            let bundle = at.path().join("parent");
            std::fs::write(&bundle, &self.stage.scene().blobs[&parent.bundle]).unwrap();
            repo.import_bundle(&bundle).await.unwrap();
        }
        write_tree(&tree, files);
        let spec = CommitSpec {
            branch: "refs/heads/df/t",
            parent: parent.map(|p| &p.revision),
            message: "m",
            author: Identity::of("test"),
            at: Timestamp::from_millis(1_700_000_000_000),
        };
        let revision = repo.commit(list_files(&tree).unwrap(), &[], spec).await.unwrap();
        let bundle = at.path().join("out");
        repo.create_bundle(&revision, &bundle).await.unwrap();
        TreeRef { revision, bundle: self.stage.blob(std::fs::read(&bundle).unwrap()) }
    }

    /// The files of a tree that the worker uploaded.
    pub(crate) async fn files(&self, tree: &TreeRef) -> Vec<(String, String)> {
        let at = tempfile::tempdir_in(self.dir.path()).unwrap();
        let git = Git::new(&at.path().join("home")).unwrap();
        let repo = Repo::init(&git, &at.path().join("r")).await.unwrap();
        let bundle = at.path().join("b");
        std::fs::write(&bundle, &self.stage.scene().blobs[&tree.bundle]).unwrap();
        repo.import_bundle(&bundle).await.unwrap();
        let out = at.path().join("out");
        repo.checkout(&tree.revision, &out).await.unwrap();
        let listed = list_files(&out).unwrap();
        listed.into_iter().map(|f| (f.path, std::fs::read_to_string(f.on_disk).unwrap())).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.worker.kill();
        let _ = self.worker.wait();
    }
}

pub(crate) fn start_worker(dir: &Path, address: &str, more: &str) -> Child {
    let work = dir.join("work");
    let config = dir.join("worker.toml");
    let text = format!(
        "daemon_url = \"{address}\"\nwork_dir = \"{}\"\ncapacity = 2\nlog = \"warn\"\n{more}",
        work.display()
    );
    std::fs::write(&config, text).unwrap();
    Command::new(WORKER)
        .arg("--config")
        .arg(&config)
        .env("DEVFACTORY_WORKER_KEY", daemon::KEY)
        .env_remove("DEVFACTORY_URL")
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
}

pub(crate) fn write_tree(root: &Path, files: &[(&str, &str)]) {
    std::fs::create_dir_all(root).unwrap();
    for (path, content) in files {
        let to = root.join(path);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::write(to, content).unwrap();
    }
}

pub(crate) fn job() -> JobId {
    JobId::mint(Timestamp::from_millis(1), [1; 10])
}

pub(crate) fn attempt() -> AttemptId {
    AttemptId::mint(Timestamp::from_millis(2), [2; 10])
}

/// As in the daemon, no two claims have the same epoch.
static EPOCHS: AtomicU64 = AtomicU64::new(1);

pub(crate) fn lease(work: Work) -> Lease {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    Lease {
        job: job(),
        tenant: "default".parse().unwrap(),
        slug: "task".parse().unwrap(),
        epoch: EPOCHS.fetch_add(1, Ordering::Relaxed),
        attempt: attempt(),
        attempt_number: 1,
        token: LeaseToken("lease-token".into()),
        deadline: Timestamp::from_millis(now + 600_000),
        time_left_ms: DurationMs::from_secs(600),
        progress_timeout_ms: DurationMs::from_secs(120),
        work,
    }
}

pub(crate) fn check(id: &str, command: &str) -> AcceptanceCheck {
    AcceptanceCheck { id: id.into(), command: command.into(), timeout_ms: DurationMs::from_secs(60) }
}

pub(crate) fn absent() -> Revision {
    "1".repeat(40).parse().unwrap()
}

//! What a worker does with a lease, by kind: intake, agent, integrate, validate, deliver.
//!
//! Everything here is the worker's own code and trusted; everything it runs by way of a check or an agent is not, and
//! runs in the sandbox. One directory per attempt holds the lease's repository and checkouts and is removed afterwards.

mod agent;
mod bench;
mod checks;
mod clear;
mod deliver;
mod intake;
mod integrate;
mod junk;
mod packages;
mod paths;
mod sandboxed;
mod scan;
mod stop;
mod validate;

use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use df_contract::lease::{Report, Work};
use df_contract::task::Product;
use df_contract::{AttemptOutcome, FailureKind, Lease, Timestamp};
use df_sandbox::{Limits, Sandbox};
use tokio::sync::watch;

use crate::attempt::ModelToken;
use crate::daemon::LeaseClient;
use crate::git::{Git, GitError};
use crate::progress::Progress;
use bench::Bench;
use stop::Stop;

/// The time, from the process that owns the clock.
pub type Clock = fn() -> Timestamp;

/// Where a `deliver` lease may put a finished tree, beside the bundle that is always possible.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Target {
    /// A directory of this machine; each job gets a directory of its own in it.
    Directory { path: PathBuf },
}

/// What the operator decides about the work of this worker.
#[derive(Debug, Clone, Default)]
pub struct ExecutorConfig {
    /// Address prefixes from which an intake may fetch. A prefix matches whole path components.
    pub allowed_git_urls: Vec<String>,
    pub targets: BTreeMap<String, Target>,
    /// Limits of every sandbox run; wall time is the check's or the tool call's own.
    pub limits: Limits,
}

/// The means of one lease that change while it is held.
#[derive(Debug)]
pub struct Means {
    pub daemon: LeaseClient,
    pub progress: Progress,
    pub token: watch::Receiver<ModelToken>,
    /// True once the lease is lost: work stops and nothing is reported.
    pub cancel: watch::Receiver<bool>,
}

/// Carries out leases.
#[derive(Debug)]
pub struct Executors {
    sandbox: Sandbox,
    git: Git,
    http: reqwest::Client,
    config: ExecutorConfig,
    attempts: PathBuf,
    clock: Clock,
}

impl Executors {
    /// Removes what an earlier life left in `work_dir` and makes it ready. Only one process may use it.
    pub fn open(
        work_dir: &Path,
        sandbox: Sandbox,
        http: reqwest::Client,
        config: ExecutorConfig,
        clock: Clock,
    ) -> Result<Self, GitError> {
        let attempts = work_dir.join("attempts");
        clear_all(&attempts).map_err(GitError::io("clear", &attempts))?;
        // Sources and hidden checks lie here in the clear: no business of other accounts on this machine.
        let mut private = std::fs::DirBuilder::new();
        private.recursive(true).mode(0o700).create(&attempts).map_err(GitError::io("make", &attempts))?;
        let git = Git::new(&work_dir.join("empty-home"))?;
        Ok(Self { sandbox, git, http, config, attempts, clock })
    }

    /// Does the work of `lease`. `None`: it was cancelled, and there is nothing to report.
    pub async fn execute(&self, lease: &Lease, means: Means) -> Option<Report> {
        let dir = self.attempts.join(format!("{}-{}", lease.attempt, lease.epoch));
        // Not by the deadline: the daemon's clock may say something else, or be set.
        let left = lease.time_left_ms.to_std();
        let (mut layers, daemon) = (Vec::new(), means.daemon.clone());
        let result = match tokio::time::timeout(left, self.attempt(lease, means, &dir, &mut layers)).await {
            Ok(result) => result,
            Err(_) => Err(Stop::failed(FailureKind::LimitReached, "the attempt's deadline has passed")),
        };
        remove_attempt(&dir).await;
        let outcome = match result {
            Ok(product) => AttemptOutcome::Succeeded { product },
            Err(Stop::Cancelled) => return None,
            Err(Stop::Failed { kind, detail, trace }) => AttemptOutcome::Failed { kind, detail, trace },
        };
        Some(Report { attempt: lease.attempt, outcome, sandbox_layers: layers, evidence: daemon.uploaded() })
    }

    async fn attempt(
        &self,
        lease: &Lease,
        means: Means,
        dir: &Path,
        layers: &mut Vec<String>,
    ) -> Result<Product, Stop> {
        let bench = Bench::open(self, lease, means, dir).await?;
        let result = match &lease.work {
            Work::Intake { source, protected_paths: _ } => intake::run(&bench, source).await,
            Work::Agent { task } => agent::run(&bench, task).await,
            Work::Integrate { task, title, head, change, paths, protected_paths, role, checks, rechecks } => {
                let (role, protected) = (*role, protected_paths);
                let merge =
                    integrate::Merge { task, title, head, change, paths, protected, role, checks, rechecks };
                integrate::run(&bench, merge).await
            }
            Work::Validate { base, head, acceptance, hidden } => {
                validate::run(&bench, base, head, acceptance, hidden).await
            }
            Work::Deliver { target, head, documents } => deliver::run(&bench, target, head, documents).await,
        };
        *layers = bench.layers();
        if bench.is_cancelled() { Err(Stop::Cancelled) } else { result }
    }
}

/// Tries to clear the work directory, and the pause between them: the sandboxes of a worker that was killed die with it,
/// yet may have written a moment ago.
const CLEAR_TRIES: u32 = 20;
const CLEAR_PAUSE: std::time::Duration = std::time::Duration::from_millis(250);

fn clear_all(dir: &Path) -> std::io::Result<()> {
    let mut tries = 0;
    loop {
        match clear::remove_tree(dir) {
            Err(_) if tries < CLEAR_TRIES => std::thread::sleep(CLEAR_PAUSE),
            settled => return settled,
        }
        tries += 1;
    }
}

/// A sandbox that was given up with its attempt needs up to two seconds to die.
const SANDBOX_DIES_WITHIN: std::time::Duration = std::time::Duration::from_secs(3);

async fn remove_attempt(dir: &Path) {
    if clear::remove(dir).await.is_ok() {
        return;
    }
    tokio::time::sleep(SANDBOX_DIES_WITHIN).await;
    if let Err(error) = clear::remove(dir).await {
        tracing::warn!(dir = %dir.display(), %error, "attempt directory is left behind until the next start");
    }
}

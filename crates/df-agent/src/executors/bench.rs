//! The place where one lease is worked on.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use df_contract::task::TreeRef;
use df_contract::{Lease, Revision, SourceFacts};
use tokio::sync::watch;

use super::sandboxed::SandboxRunner;
use super::stop::Stop;
use super::{Executors, Means};
use crate::attempt::ModelToken;
use crate::daemon::LeaseClient;
use crate::git::{Repo, TreeEntry};
use crate::progress::Progress;

/// Names of layers that any run of the lease enforced.
pub(super) type Layers = Arc<Mutex<BTreeSet<String>>>;

pub(super) struct Bench<'a> {
    pub(super) shop: &'a Executors,
    pub(super) lease: &'a Lease,
    pub(super) daemon: LeaseClient,
    pub(super) progress: Progress,
    pub(super) token: watch::Receiver<ModelToken>,
    pub(super) cancel: watch::Receiver<bool>,
    pub(super) repo: Repo,
    dir: PathBuf,
    layers: Layers,
}

impl<'a> Bench<'a> {
    pub(super) async fn open(
        shop: &'a Executors,
        lease: &'a Lease,
        means: Means,
        dir: &Path,
    ) -> Result<Self, Stop> {
        std::fs::create_dir(dir)?;
        let repo = Repo::init(&shop.git, dir).await?;
        let Means { daemon, progress, token, cancel } = means;
        Ok(Self {
            shop,
            lease,
            daemon,
            progress,
            token,
            cancel,
            repo,
            dir: dir.to_owned(),
            layers: Layers::default(),
        })
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(super) fn is_cancelled(&self) -> bool {
        *self.cancel.borrow()
    }

    pub(super) fn layers(&self) -> Vec<String> {
        self.layers.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Fetches a tree of the job and makes sure that it is whole.
    pub(super) async fn import(&self, tree: &TreeRef) -> Result<(), Stop> {
        let bundle = self.path("import.bundle");
        self.daemon.fetch(&tree.bundle, &bundle).await?;
        self.repo.import_bundle(&bundle).await?;
        self.repo.require_commit(&tree.revision).await?;
        std::fs::remove_file(&bundle)?;
        Ok(())
    }

    /// Uploads the whole history of `revision`.
    pub(super) async fn publish(&self, revision: &Revision) -> Result<TreeRef, Stop> {
        let bundle = self.path("export.bundle");
        self.repo.create_bundle(revision, &bundle).await?;
        let digest = self.daemon.upload_file(&bundle).await?;
        std::fs::remove_file(&bundle)?;
        Ok(TreeRef { revision: revision.clone(), bundle: digest })
    }

    /// A checkout that nothing has touched yet, called `name`.
    pub(super) async fn checkout(
        &self,
        revision: &Revision,
        name: &str,
    ) -> Result<(PathBuf, Vec<TreeEntry>), Stop> {
        let to = self.path(name);
        let entries = self.repo.checkout(revision, &to).await?;
        Ok((to, entries))
    }

    /// Runs commands with `workspace` as the only thing they can write.
    pub(super) fn runner(&self, workspace: &Path) -> SandboxRunner {
        SandboxRunner::new(
            self.shop.sandbox.clone(),
            self.shop.config.limits.clone(),
            workspace,
            self.repo.scratch_dir(),
            Arc::clone(&self.layers),
        )
    }

    /// Facts about a revision, read from a fresh checkout; nothing of it is executed.
    pub(super) async fn facts(&self, revision: &Revision) -> Result<SourceFacts, Stop> {
        let (tree, _) = self.checkout(revision, "scan").await?;
        let facts = super::scan::scan_directory(&tree).await?;
        tokio::fs::remove_dir_all(&tree).await?;
        Ok(facts)
    }
}

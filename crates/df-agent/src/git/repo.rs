//! A bare repository of our own: bundles in, bundles out.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use df_contract::Revision;
use df_contract::lease::MAX_BLOB_BYTES;

use super::error::GitError;
use super::process::{Call, Git};

/// The branch a bundle carries beside `HEAD`.
const BRANCH: &str = "refs/heads/main";

/// A bare repository made by this worker, one per lease.
#[derive(Debug, Clone)]
pub struct Repo {
    pub(crate) git: Git,
    pub(crate) dir: PathBuf,
    /// Files that pass large data to and from git.
    pub(crate) scratch: PathBuf,
}

/// The revision a submitted bundle is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceHead {
    pub name: String,
    pub revision: Revision,
}

impl Repo {
    /// Makes an empty repository under `at`, which must not exist.
    pub async fn init(git: &Git, at: &Path) -> Result<Self, GitError> {
        let (dir, scratch) = (at.join("repo.git"), at.join("scratch"));
        std::fs::create_dir_all(&scratch).map_err(GitError::io("make", &scratch))?;
        let repo = Self { git: git.clone(), dir: dir.clone(), scratch };
        let args: [&OsStr; 6] = [
            "init".as_ref(),
            "--quiet".as_ref(),
            "--bare".as_ref(),
            "--template=".as_ref(),
            "--object-format=sha1".as_ref(),
            dir.as_ref(),
        ];
        repo.git.run(&dir, Call::new(&args)).await?;
        // An unborn HEAD off the branches we write: nothing is ever read by way of it.
        repo.call(&["symbolic-ref", "HEAD", "refs/heads/unborn"]).await?;
        Ok(repo)
    }

    pub(crate) async fn call(&self, args: &[&str]) -> Result<Vec<u8>, GitError> {
        self.git.run(&self.dir, Call::new(args)).await
    }

    /// Where large data passes to and from git.
    pub(crate) fn scratch_dir(&self) -> &Path {
        &self.scratch
    }

    pub(crate) fn scratch_file(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    /// Takes the objects of a bundle with its whole history. Its refs are not taken.
    pub async fn import_bundle(&self, bundle: &Path) -> Result<Vec<SourceHead>, GitError> {
        let unreadable = |e: GitError| match e {
            GitError::Failed { stderr, .. } => GitError::Bundle(stderr),
            other => other,
        };
        let verify: [&OsStr; 4] = ["bundle".as_ref(), "verify".as_ref(), "--quiet".as_ref(), bundle.as_ref()];
        self.git.run(&self.dir, Call::new(&verify)).await.map_err(unreadable)?;
        let unbundle: [&OsStr; 3] = ["bundle".as_ref(), "unbundle".as_ref(), bundle.as_ref()];
        let listed = self.git.run(&self.dir, Call::new(&unbundle)).await.map_err(unreadable)?;
        String::from_utf8_lossy(&listed)
            .lines()
            .map(|line| {
                let (revision, name) = line.split_once(' ').unwrap_or((line, ""));
                let revision =
                    revision.parse().map_err(|_| GitError::Bundle("it lists no revisions".into()))?;
                Ok(SourceHead { name: name.to_owned(), revision })
            })
            .collect()
    }

    /// The revision that a submitted bundle's refs mean: `HEAD`, or its only branch.
    pub fn source_head(heads: &[SourceHead]) -> Result<SourceHead, GitError> {
        if let Some(head) = heads.iter().find(|h| h.name == "HEAD") {
            return Ok(head.clone());
        }
        let branches: Vec<&SourceHead> = heads.iter().filter(|h| h.name.starts_with("refs/heads/")).collect();
        match branches.as_slice() {
            [only] => Ok((*only).clone()),
            _ => Err(GitError::NoSingleHead(branches.iter().map(|b| b.name.clone()).collect())),
        }
    }

    /// Refuses a revision that is not a commit, or whose history or trees are not all there.
    pub async fn require_commit(&self, revision: &Revision) -> Result<(), GitError> {
        let name = revision.as_str();
        if self.call(&["cat-file", "-e", &format!("{name}^{{commit}}")]).await.is_err() {
            return Err(GitError::RevisionMissing(revision.clone()));
        }
        match self.call(&["rev-list", "--objects", "--quiet", name]).await {
            Ok(_) => Ok(()),
            Err(GitError::Failed { stderr, .. }) => Err(GitError::Bundle(stderr)),
            Err(other) => Err(other),
        }
    }

    /// Writes a bundle with the whole history of `revision`, as `HEAD` and as branch `main`: it can be cloned.
    pub async fn create_bundle(&self, revision: &Revision, to: &Path) -> Result<(), GitError> {
        self.call(&["update-ref", BRANCH, revision.as_str()]).await?;
        self.call(&["symbolic-ref", "HEAD", BRANCH]).await?;
        let args: [&OsStr; 6] = [
            "bundle".as_ref(),
            "create".as_ref(),
            "--quiet".as_ref(),
            to.as_ref(),
            "HEAD".as_ref(),
            BRANCH.as_ref(),
        ];
        let made = self.git.run(&self.dir, Call::new(&args)).await;
        self.call(&["symbolic-ref", "HEAD", "refs/heads/unborn"]).await?;
        made?;
        let got = std::fs::metadata(to).map_err(GitError::io("measure", to))?.len();
        if got > MAX_BLOB_BYTES {
            return Err(GitError::TooLarge { what: "bytes of git bundle", got, limit: MAX_BLOB_BYTES });
        }
        Ok(())
    }

    pub(crate) async fn revision_of(&self, name: &str) -> Result<Revision, GitError> {
        let out = self.call(&["rev-parse", "--verify", "--end-of-options", name]).await?;
        parse_revision("rev-parse", &out)
    }
}

pub(crate) fn parse_revision(command: &str, out: &[u8]) -> Result<Revision, GitError> {
    std::str::from_utf8(out)
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .ok_or_else(|| GitError::Unexpected { command: command.to_owned() })
}

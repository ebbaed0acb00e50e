//! Intake: the source becomes a commit and typed facts. Nothing of it is executed.

use df_contract::task::Product;
use df_contract::{Digest, FailureKind, Revision, Source};

use super::bench::Bench;
use super::stop::Stop;
use crate::git::{
    CommitSpec, GitError, Identity, Repo, SourceHead, TreeFile, is_allowed_url, list_files, unpack_tar,
};

pub(super) async fn run(bench: &Bench<'_>, source: &Source) -> Result<Product, Stop> {
    let unreadable = |text: String| Stop::failed(FailureKind::SourceUnreadable, text);
    let revision = match source {
        Source::Empty => commit(bench, Vec::new(), "Start an empty repository").await?,
        Source::Bundle { digest } => from_bundle(bench, digest).await?,
        Source::Tarball { digest } => from_tarball(bench, digest).await?,
        Source::Path { path } => {
            let text = format!(
                "`{path}` is a path on the submitter's machine; submit with the CLI, which bundles it"
            );
            return Err(unreadable(text));
        }
        Source::Git { url, revision } => from_url(bench, url, revision.as_ref()).await?,
    };
    bench.repo.require_commit(&revision).await.map_err(Stop::source)?;
    // Lists every path once before anything is made of the tree: what cannot be checked out is unreadable.
    bench.repo.files(&revision).await.map_err(Stop::source)?;
    bench.progress.note("git", format!("base is {revision}"));
    let facts = bench.facts(&revision).await?;
    let base = bench.publish(&revision).await?;
    Ok(Product::Intake { facts, base })
}

async fn from_bundle(bench: &Bench<'_>, digest: &Digest) -> Result<Revision, Stop> {
    let file = bench.path("source.bundle");
    bench.daemon.fetch(digest, &file).await?;
    let heads = bench.repo.import_bundle(&file).await.map_err(Stop::source)?;
    let SourceHead { name, revision } = Repo::source_head(&heads).map_err(Stop::source)?;
    bench.progress.note("git", format!("bundle read, starting from {name}"));
    Ok(revision)
}

async fn from_tarball(bench: &Bench<'_>, digest: &Digest) -> Result<Revision, Stop> {
    let (archive, tree) = (bench.path("source.tar"), bench.path("source"));
    bench.daemon.fetch(digest, &archive).await?;
    let listed = tokio::task::spawn_blocking(move || {
        unpack_tar(&archive, &tree)?;
        list_files(&tree)
    });
    let files = listed.await.map_err(|e| std::io::Error::other(e.to_string()))?.map_err(|e| match e {
        // A path that is a file and a directory at once shows as a failure to write.
        GitError::Io { .. } => Stop::failed(FailureKind::SourceUnreadable, super::stop::chain(&e)),
        other => Stop::source(other),
    })?;
    commit(bench, files, "Import the submitted source").await
}

async fn from_url(bench: &Bench<'_>, url: &str, revision: Option<&Revision>) -> Result<Revision, Stop> {
    if !is_allowed_url(&bench.shop.config.allowed_git_urls, url) {
        let text = format!("`{url}` is not on this worker's list of allowed git URLs (`allowed_git_urls`)");
        return Err(Stop::failed(FailureKind::SourceUnreadable, text));
    }
    bench.progress.note("git", format!("fetching {url}"));
    bench.repo.fetch(url, revision).await.map_err(Stop::source)
}

async fn commit(bench: &Bench<'_>, files: Vec<TreeFile>, message: &str) -> Result<Revision, Stop> {
    let at = (bench.shop.clock)();
    let author = Identity::of("intake");
    let spec = CommitSpec { branch: "refs/heads/df/base", parent: None, message, author, at };
    Ok(bench.repo.commit(files, &[], spec).await?)
}

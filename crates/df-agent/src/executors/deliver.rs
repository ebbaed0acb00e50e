//! Deliver: the finished tree as artefacts, and to a directory where the operator has named one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use df_contract::task::{Product, TreeRef};
use df_contract::{Digest, FailureKind};

use super::Target;
use super::bench::Bench;
use super::stop::Stop;
use crate::git::{is_safe_path, list_files, pack_tar};

/// The target that every worker has: artefacts in the blob store.
const BUNDLE: &str = "bundle";
const TREE_TAR: &str = "tree.tar";
const REPOSITORY: &str = "repository.bundle";

pub(super) async fn run(
    bench: &Bench<'_>,
    target: &str,
    head: &TreeRef,
    documents: &BTreeMap<String, String>,
) -> Result<Product, Stop> {
    let directory = match bench.shop.config.targets.get(target) {
        _ if target == BUNDLE => None,
        Some(Target::Directory { path }) => Some(path),
        None => {
            let text = format!("this worker's configuration has no delivery target called `{target}`");
            return Err(Stop::failed(FailureKind::PolicyBreach, text));
        }
    };
    bench.import(head).await?;
    let (tree, _) = bench.checkout(&head.revision, "tree").await?;
    let mut artefacts = BTreeMap::new();
    let archive = bench.path(TREE_TAR);
    let (from, to) = (tree.clone(), archive.clone());
    let packed = tokio::task::spawn_blocking(move || pack_tar(&list_files(&from)?, &to));
    packed.await.map_err(|e| std::io::Error::other(e.to_string()))??;
    artefacts.insert(TREE_TAR.to_owned(), bench.daemon.upload_file(&archive).await?);
    artefacts.insert(REPOSITORY.to_owned(), bench.publish(&head.revision).await?.bundle);
    for (name, text) in documents {
        artefacts.insert(document(name, &artefacts)?, bench.daemon.upload(text.clone().into_bytes()).await?);
    }
    if let Some(directory) = directory {
        let job = bench.lease.job.to_string();
        put_directory(&tree, directory, &job, &bench.lease.attempt.to_string()).await?;
        bench.progress.note("note", format!("delivered to target `{target}`"));
    }
    Ok(Product::Delivery { artefacts })
}

/// A document's name, when it is one plain file name that is not taken.
fn document(name: &str, taken: &BTreeMap<String, Digest>) -> Result<String, Stop> {
    if is_safe_path(name) && !name.contains('/') && !taken.contains_key(name) {
        return Ok(name.to_owned());
    }
    Err(Stop::failed(FailureKind::ContractBreach, format!("{name:?} cannot be the name of a document")))
}

/// Puts the tree at `directory/<job>` in one step; what an earlier delivery of the job left there is replaced.
async fn put_directory(tree: &Path, directory: &Path, job: &str, attempt: &str) -> Result<(), Stop> {
    let (tree, directory) = (tree.to_owned(), directory.to_owned());
    let (last, staged, old) = (
        directory.join(job),
        directory.join(format!(".{attempt}.new")),
        directory.join(format!(".{attempt}.old")),
    );
    let failed = |at: PathBuf| {
        move |e: std::io::Error| {
            Stop::failed(FailureKind::Infrastructure, format!("delivery to {} failed: {e}", at.display()))
        }
    };
    let put = tokio::task::spawn_blocking(move || {
        std::fs::create_dir_all(&directory)?;
        copy_tree(&tree, &staged)?;
        if last.exists() {
            std::fs::rename(&last, &old)?;
        }
        std::fs::rename(&staged, &last)?;
        if old.exists() { std::fs::remove_dir_all(&old) } else { Ok(()) }
    });
    put.await.map_err(|e| std::io::Error::other(e.to_string()))?.map_err(failed(PathBuf::from(job)))
}

/// Copies our own checkout, which holds plain files only.
fn copy_tree(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir(to)?;
    for file in list_files(from).map_err(|e| std::io::Error::other(e.to_string()))? {
        let target = to.join(&file.path);
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::copy(&file.on_disk, &target)?;
    }
    Ok(())
}

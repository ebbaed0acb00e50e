//! Hands a checkout to the pure scanner, one file in memory at a time.

use std::borrow::Cow;
use std::path::Path;

use df_contract::SourceFacts;

use super::stop::Stop;
use crate::git::{GitError, list_files};

/// Facts about the files below `tree`, a checkout of ours.
pub(super) async fn scan_directory(tree: &Path) -> Result<SourceFacts, Stop> {
    let tree = tree.to_owned();
    let scanned = tokio::task::spawn_blocking(move || scan(&tree));
    Ok(scanned.await.map_err(|e| std::io::Error::other(e.to_string()))??)
}

fn scan(tree: &Path) -> Result<SourceFacts, GitError> {
    let mut failed = None;
    let files = list_files(tree)?;
    // The first file that cannot be read ends the scan: facts about half a tree are none.
    let contents = files.iter().map_while(|file| match std::fs::read(&file.on_disk) {
        Ok(bytes) => Some((file.path.clone(), Cow::Owned(bytes))),
        Err(error) => {
            failed = Some(GitError::io("read", &file.on_disk)(error));
            None
        }
    });
    let facts = df_scan::scan(contents);
    match failed {
        Some(error) => Err(error),
        None => Ok(facts),
    }
}

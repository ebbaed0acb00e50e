//! Removes blobs that no job names: uploads that nothing came of.

use std::collections::BTreeSet;

use df_contract::{DurationMs, Timestamp};
use df_store::BlobStore;

use crate::{OrchestrationError, Orchestrator};

/// A blob is left alone for so long after it was uploaded, or found by whoever was about to refer to it.
pub const BLOB_GRACE: DurationMs = DurationMs::from_secs(24 * 3_600);
/// Most blobs looked at in one round; the next round goes on in the folder after.
const MAX_CANDIDATES: usize = 100_000;
/// Blobs lie in so many folders, by the first two digits.
const FOLDERS: u16 = 256;
/// Where the next round begins.
const NEXT_FOLDER: &str = "blob_sweep_folder";

impl Orchestrator {
    /// Old blobs that no job names. In this order: what is old is listed before the jobs are read, and what is
    /// removed must still be old. A submission or a report that names a blob makes it young before it is committed, so
    /// either its job is among those read, or its blob is young.
    pub async fn orphan_blobs(&self, blobs: &BlobStore) -> Result<u64, OrchestrationError> {
        let before = self.blobs_before();
        let store = &self.inner.store;
        let from = store.meta_get(NEXT_FOLDER).await?.and_then(|text| text.parse().ok()).unwrap_or(0u16);
        let (mut old, mut next) = (BTreeSet::new(), from);
        for folder in (0..FOLDERS).map(|n| (from + n) % FOLDERS) {
            old.extend(blobs.old(folder as u8, before).await?);
            next = (folder + 1) % FOLDERS;
            if old.len() >= MAX_CANDIDATES {
                break;
            }
        }
        let mut did = 0;
        if !old.is_empty() {
            for digest in store.blobs_unnamed(old).await? {
                did += u64::from(blobs.remove_old(&digest, before).await?);
            }
        }
        if next != from {
            store.meta_set(NEXT_FOLDER, &next.to_string()).await?;
        }
        Ok(did)
    }

    /// What was last wanted before this is old. An attempt uploads long before it reports, so no attempt under way may
    /// be older.
    fn blobs_before(&self) -> Timestamp {
        let attempt = self.inner.config.attempt_wall_ms.0.saturating_mul(2);
        Timestamp(self.inner.env.now().0.saturating_sub(BLOB_GRACE.0.max(attempt)))
    }
}

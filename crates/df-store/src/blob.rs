//! Content-addressed blobs in a directory: `<dir>/<first two digits>/<digest>`.
//!
//! A blob appears whole or not at all: it is written to a temporary file, hashed on the way, synced, and renamed.

use std::path::{Path, PathBuf};

use df_contract::Digest;
use df_contract::lease::MAX_BLOB_BYTES;
use sha2::{Digest as _, Sha256};
use tokio::fs::File;
use tokio::io::AsyncWriteExt as _;

use crate::StoreError;

/// Names of unfinished uploads begin with this; they are removed when the store is opened.
const PART: &str = "part-";

/// Why content was not taken.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    #[error("the content has the digest {found}, not {wanted}")]
    Digest { wanted: Digest, found: Digest },
    #[error("the content is larger than {limit} bytes")]
    TooLarge { limit: u64 },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Blobs by their digest.
#[derive(Debug, Clone)]
pub struct BlobStore {
    dir: PathBuf,
}

/// An upload under way. Dropped unfinished, it leaves nothing that can be read.
#[derive(Debug)]
pub struct BlobWriter {
    dir: PathBuf,
    part: tempfile::TempPath,
    file: File,
    hash: Sha256,
    bytes: u64,
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::File { what, path, source }
}

impl BlobStore {
    /// Opens a directory, making it if need be, and clears what an earlier life left unfinished.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        std::fs::create_dir_all(dir).map_err(failed("making", dir))?;
        for entry in std::fs::read_dir(dir).map_err(failed("reading", dir))? {
            let entry = entry.map_err(failed("reading", dir))?;
            if entry.file_name().to_string_lossy().starts_with(PART) {
                std::fs::remove_file(entry.path()).map_err(failed("clearing", &entry.path()))?;
            }
        }
        Ok(Self { dir: dir.to_owned() })
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(&digest.as_str()[..2]).join(digest.as_str())
    }

    pub async fn has(&self, digest: &Digest) -> bool {
        tokio::fs::try_exists(self.path(digest)).await.unwrap_or(false)
    }

    /// The blob to read from, with its size in bytes; none if there is no such blob.
    pub async fn open_read(&self, digest: &Digest) -> Result<Option<(File, u64)>, StoreError> {
        let path = self.path(digest);
        let file = match File::open(&path).await {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed("reading", &path)(e)),
        };
        let size = file.metadata().await.map_err(failed("reading", &path))?.len();
        Ok(Some((file, size)))
    }

    /// Begins an upload.
    pub async fn begin(&self) -> Result<BlobWriter, StoreError> {
        let named = tempfile::Builder::new()
            .prefix(PART)
            .tempfile_in(&self.dir)
            .map_err(failed("making", &self.dir))?;
        let (file, part) = named.into_parts();
        Ok(BlobWriter {
            dir: self.dir.clone(),
            part,
            file: File::from_std(file),
            hash: Sha256::new(),
            bytes: 0,
        })
    }
}

impl BlobWriter {
    /// Adds content, up to [`MAX_BLOB_BYTES`] in all.
    pub async fn write(&mut self, chunk: &[u8]) -> Result<(), BlobError> {
        self.bytes += chunk.len() as u64;
        if self.bytes > MAX_BLOB_BYTES {
            return Err(BlobError::TooLarge { limit: MAX_BLOB_BYTES });
        }
        self.hash.update(chunk);
        Ok(self.file.write_all(chunk).await.map_err(failed("writing", &self.part))?)
    }

    /// Checks the digest, syncs, and puts the blob in its place. Doing it twice for the same content is harmless.
    pub async fn finish(mut self, wanted: &Digest) -> Result<(), BlobError> {
        let found = hex::encode(self.hash.finalize()).parse::<Digest>();
        let found = found.map_err(|e| StoreError::Invariant(e.to_string()))?;
        if found != *wanted {
            return Err(BlobError::Digest { wanted: wanted.clone(), found });
        }
        self.file.flush().await.map_err(failed("writing", &self.part))?;
        self.file.sync_all().await.map_err(failed("syncing", &self.part))?;
        let folder = self.dir.join(&wanted.as_str()[..2]);
        tokio::fs::create_dir_all(&folder).await.map_err(failed("making", &folder))?;
        let path = folder.join(wanted.as_str());
        self.part.persist(&path).map_err(|e| failed("placing", &path)(e.error))?;
        for dir in [&folder, &self.dir] {
            let opened = File::open(dir).await.map_err(failed("syncing", dir))?;
            opened.sync_all().await.map_err(failed("syncing", dir))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_blob_appears_whole_under_its_own_digest_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = BlobStore::open(dir.path()).unwrap();
        let digest = Digest::of(b"hello");
        let mut upload = blobs.begin().await.unwrap();
        upload.write(b"hel").await.unwrap();
        assert!(!blobs.has(&digest).await);
        upload.write(b"lo").await.unwrap();
        upload.finish(&digest).await.unwrap();
        let (_, size) = blobs.open_read(&digest).await.unwrap().unwrap();
        assert_eq!(size, 5);

        let mut wrong = blobs.begin().await.unwrap();
        wrong.write(b"other").await.unwrap();
        assert!(matches!(wrong.finish(&Digest::of(b"not this")).await, Err(BlobError::Digest { .. })));
        assert!(!blobs.has(&Digest::of(b"other")).await);
    }

    #[tokio::test]
    async fn an_unfinished_upload_is_gone_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = BlobStore::open(dir.path()).unwrap();
        std::fs::write(dir.path().join("part-left"), b"x").unwrap();
        let mut dropped = blobs.begin().await.unwrap();
        dropped.write(b"y").await.unwrap();
        drop(dropped);
        drop(blobs);
        BlobStore::open(dir.path()).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}

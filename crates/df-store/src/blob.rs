//! Content-addressed blobs in a directory: `<dir>/<first two digits>/<digest>`.
//!
//! A blob appears whole or not at all: it is written to a temporary file, hashed on the way, synced, and renamed.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use df_contract::lease::MAX_BLOB_BYTES;
use df_contract::{Digest, Timestamp};
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

/// Blobs by their digest. One per directory and process, shared by cloning.
#[derive(Debug, Clone)]
pub struct BlobStore {
    dir: PathBuf,
    /// Held while a blob is put in its place, made young, or removed, so that none is removed that was just found.
    gate: Arc<Mutex<()>>,
}

/// An upload under way. Dropped unfinished, it leaves nothing that can be read.
#[derive(Debug)]
pub struct BlobWriter {
    dir: PathBuf,
    gate: Arc<Mutex<()>>,
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
        Ok(Self { dir: dir.to_owned(), gate: Arc::default() })
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(&digest.as_str()[..2]).join(digest.as_str())
    }

    pub async fn has(&self, digest: &Digest) -> bool {
        tokio::fs::try_exists(self.path(digest)).await.unwrap_or(false)
    }

    /// Whether there is such a blob; if so it is as young as if it had been uploaded at `now`. For whoever is about to
    /// refer to it: [`BlobStore::remove_old`] leaves it alone until the reference is there.
    pub async fn keep(&self, digest: &Digest, now: Timestamp) -> Result<bool, StoreError> {
        let path = self.path(digest);
        self.gated(move || {
            let file = match std::fs::File::open(&path) {
                Ok(file) => file,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
                Err(e) => return Err(failed("opening", &path)(e)),
            };
            file.set_modified(time(now)).map_err(failed("touching", &path))?;
            Ok(true)
        })
        .await
    }

    /// Blobs of one of the 256 folders that nobody has uploaded or kept since `before`.
    pub async fn old(&self, folder: u8, before: Timestamp) -> Result<Vec<Digest>, StoreError> {
        let dir = self.dir.join(format!("{folder:02x}"));
        let listed = tokio::task::spawn_blocking(move || old_in(&dir, before)).await;
        listed.map_err(|_| StoreError::Panicked)?
    }

    /// Removes a blob, unless somebody has uploaded or kept it since `before`. Answers whether it is gone.
    pub async fn remove_old(&self, digest: &Digest, before: Timestamp) -> Result<bool, StoreError> {
        let path = self.path(digest);
        self.gated(move || {
            if !is_old(&path, before)? {
                return Ok(false);
            }
            std::fs::remove_file(&path).map_err(failed("removing", &path))?;
            Ok(true)
        })
        .await
    }

    async fn gated<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let gate = Arc::clone(&self.gate);
        let done = tokio::task::spawn_blocking(move || {
            let _alone = gate.lock().unwrap_or_else(PoisonError::into_inner);
            work()
        });
        done.await.map_err(|_| StoreError::Panicked)?
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
            gate: Arc::clone(&self.gate),
            part,
            file: File::from_std(file),
            hash: Sha256::new(),
            bytes: 0,
        })
    }
}

fn time(at: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(at.0)
}

/// A blob that is gone is not old.
fn is_old(path: &Path, before: Timestamp) -> Result<bool, StoreError> {
    match std::fs::metadata(path).and_then(|found| found.modified()) {
        Ok(modified) => Ok(modified < time(before)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(failed("reading", path)(e)),
    }
}

fn old_in(dir: &Path, before: Timestamp) -> Result<Vec<Digest>, StoreError> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(failed("reading", dir)(e)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed("reading", dir))?;
        // What is not named as a blob is not ours to remove.
        let Ok(digest) = entry.file_name().to_string_lossy().parse::<Digest>() else { continue };
        if is_old(&entry.path(), before)? {
            found.push(digest);
        }
    }
    Ok(found)
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
        {
            let _alone = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
            self.part.persist(&path).map_err(|e| failed("placing", &path)(e.error))?;
        }
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

    async fn uploaded(blobs: &BlobStore, content: &[u8]) -> Digest {
        let digest = Digest::of(content);
        let mut upload = blobs.begin().await.unwrap();
        upload.write(content).await.unwrap();
        upload.finish(&digest).await.unwrap();
        digest
    }

    /// Whoever asked for a blob in time finds it later, whatever was decided about it before.
    #[tokio::test]
    async fn only_what_nobody_asked_for_since_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = BlobStore::open(dir.path()).unwrap();
        let (left, kept, anew) = (
            uploaded(&blobs, b"left").await,
            uploaded(&blobs, b"kept").await,
            uploaded(&blobs, b"anew").await,
        );
        let (old, cut) = (Timestamp(1_000), Timestamp(2_000));
        for digest in [&left, &kept, &anew] {
            assert!(blobs.keep(digest, old).await.unwrap());
            let folder = u8::from_str_radix(&digest.as_str()[..2], 16).unwrap();
            assert!(blobs.old(folder, cut).await.unwrap().contains(digest));
            assert!(!blobs.old(folder, old).await.unwrap().contains(digest), "as old as that is not older");
        }
        assert!(blobs.keep(&kept, cut).await.unwrap());
        uploaded(&blobs, b"anew").await;
        assert!(blobs.remove_old(&left, cut).await.unwrap());
        for young in [&kept, &anew] {
            assert!(!blobs.remove_old(young, cut).await.unwrap());
            assert!(blobs.has(young).await);
        }
        assert!(!blobs.has(&left).await && !blobs.keep(&left, cut).await.unwrap());
        assert!(!blobs.remove_old(&left, cut).await.unwrap(), "twice does no harm");
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

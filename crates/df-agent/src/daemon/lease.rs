//! What can be done under a lease's token: its blobs, its progress, its report.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use df_contract::lease::{MAX_BLOB_BYTES, MAX_EVIDENCE, ProgressBatch, Report};
use df_contract::{Digest, Lease, LeaseToken};
use reqwest::{Method, header};
use sha2::Digest as _;
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;

use super::Daemon;
use super::error::DaemonError;
use super::retry::{heard_out, until_answered};

/// A blob that moves slower than this for its full size is given up and tried again.
const HASH_CHUNK_BYTES: usize = 64 * 1024;
const BLOB_TIMEOUT: Duration = Duration::from_secs(300);

/// The daemon under one lease. Every method goes on trying until it is answered, refused, or the lease is given up.
#[derive(Debug, Clone)]
pub struct LeaseClient {
    daemon: Daemon,
    path: String,
    token: LeaseToken,
    cancel: watch::Receiver<bool>,
    /// Traces and logs that were uploaded under the lease, by whichever clone.
    uploads: Arc<Mutex<BTreeSet<Digest>>>,
}

impl LeaseClient {
    /// `cancel` becomes true when the lease is lost or handed back.
    pub fn new(daemon: Daemon, lease: &Lease, cancel: watch::Receiver<bool>) -> Self {
        let path = format!("/v1/worker/leases/{}/{}/{}", lease.job, lease.slug, lease.epoch);
        Self { daemon, path, token: lease.token.clone(), cancel, uploads: Arc::default() }
    }

    pub async fn progress(&self, batch: &ProgressBatch) -> Result<(), DaemonError> {
        let path = format!("{}/events", self.path);
        until_answered(self.cancel.clone(), || self.daemon.post(&path, &self.token.0, batch)).await
    }

    pub async fn report(&self, report: &Report) -> Result<(), DaemonError> {
        let path = format!("{}/report", self.path);
        heard_out(self.cancel.clone(), || self.daemon.post(&path, &self.token.0, report)).await
    }

    /// Fetches a blob into the new file `to`; what does not have the wanted digest is never left there.
    pub async fn fetch(&self, digest: &Digest, to: &Path) -> Result<(), DaemonError> {
        until_answered(self.cancel.clone(), || self.fetch_once(digest, to)).await
    }

    /// Uploads the file's content; gives its address.
    pub async fn upload_file(&self, file: &Path) -> Result<Digest, DaemonError> {
        let digest = file_digest(file).await?;
        until_answered(self.cancel.clone(), || async {
            let opened = tokio::fs::File::open(file).await.map_err(io("open", file))?;
            let bytes = opened.metadata().await.map_err(io("measure", file))?.len();
            self.put(&digest, bytes, reqwest::Body::from(opened)).await
        })
        .await?;
        Ok(digest)
    }

    /// Uploads bytes; gives their address.
    pub async fn upload(&self, bytes: Vec<u8>) -> Result<Digest, DaemonError> {
        let digest = Digest::of(&bytes);
        let length = bytes.len() as u64;
        until_answered(self.cancel.clone(), || self.put(&digest, length, bytes.clone().into())).await?;
        self.uploads.lock().unwrap_or_else(PoisonError::into_inner).insert(digest.clone());
        Ok(digest)
    }

    async fn put(&self, digest: &Digest, bytes: u64, body: reqwest::Body) -> Result<(), DaemonError> {
        if bytes > MAX_BLOB_BYTES {
            return Err(DaemonError::BlobTooLarge { digest: digest.clone(), limit: MAX_BLOB_BYTES });
        }
        let request = self
            .daemon
            .request_as(Method::PUT, &format!("/v1/blobs/{digest}"), &self.token.0)
            .header(header::CONTENT_LENGTH, bytes)
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .timeout(BLOB_TIMEOUT)
            .body(body);
        self.daemon.send(request).await.map(|_| ())
    }

    /// Traces and logs that were uploaded: at most as much as a report can name.
    pub(crate) fn uploaded(&self) -> Vec<Digest> {
        let uploads = self.uploads.lock().unwrap_or_else(PoisonError::into_inner);
        uploads.iter().take(MAX_EVIDENCE).cloned().collect()
    }

    async fn fetch_once(&self, digest: &Digest, to: &Path) -> Result<(), DaemonError> {
        let request = self
            .daemon
            .request_as(Method::GET, &format!("/v1/blobs/{digest}"), &self.token.0)
            .timeout(BLOB_TIMEOUT);
        let mut response = self.daemon.send(request).await?;
        let mut file = tokio::fs::File::create(to).await.map_err(io("create", to))?;
        let (mut hash, mut total) = (sha2::Sha256::new(), 0_u64);
        let unreachable =
            |source| DaemonError::Unreachable { address: self.daemon.inner.base.clone(), source };
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            total += chunk.len() as u64;
            if total > MAX_BLOB_BYTES {
                return Err(DaemonError::BlobTooLarge { digest: digest.clone(), limit: MAX_BLOB_BYTES });
            }
            hash.update(&chunk);
            file.write_all(&chunk).await.map_err(io("write", to))?;
        }
        file.flush().await.map_err(io("write", to))?;
        if hex::encode(hash.finalize()) == digest.as_str() {
            return Ok(());
        }
        tokio::fs::remove_file(to).await.map_err(io("remove", to))?;
        Err(DaemonError::BlobDigest(digest.clone()))
    }
}

fn io(attempted: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> DaemonError {
    let path = path.to_owned();
    move |source| DaemonError::Io { attempted, path, source }
}

async fn file_digest(file: &Path) -> Result<Digest, DaemonError> {
    let path = file.to_owned();
    let hashed = tokio::task::spawn_blocking(move || {
        let mut file = std::fs::File::open(&path)?;
        let (mut hash, mut chunk) = (sha2::Sha256::new(), vec![0; HASH_CHUNK_BYTES]);
        loop {
            match file.read(&mut chunk)? {
                0 => return Ok(hex::encode(hash.finalize())),
                n => hash.update(&chunk[..n]),
            }
        }
    })
    .await;
    let text =
        hashed.unwrap_or_else(|e| Err(std::io::Error::other(e.to_string()))).map_err(io("read", file))?;
    text.parse().map_err(|_| io("read", file)(std::io::Error::other("no digest")))
}

//! A few connections that only read, so that lists and event streams never wait for the writer.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

use super::Sqlite;
use crate::StoreError;
use crate::rows::{Kept, Rows};

/// Reads at once.
const READERS: usize = 4;

pub(crate) struct ReadPool {
    dir: PathBuf,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Sqlite>>,
}

impl ReadPool {
    pub(crate) fn open(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            permits: Arc::new(Semaphore::new(READERS)),
            idle: Mutex::new(Vec::with_capacity(READERS)),
        }
    }

    /// Waits for a connection, opening one when none is idle, and reads with it off the caller's thread.
    pub(crate) async fn read<T: Send + 'static>(
        self: Arc<Self>,
        work: impl FnOnce(&dyn Rows) -> Kept<T> + Send + 'static,
    ) -> Kept<T> {
        let permit = self.permits.clone().acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let reading = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let connection = idle.map_or_else(|| Sqlite::open_read_only(&self.dir), Ok)?;
            let found = connection.snapshot(work);
            // A connection that failed is not used again.
            if found.is_ok() {
                self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            }
            found
        });
        reading.await.map_err(|_| StoreError::Closed)?
    }

    /// Refuses reads from now on and lets the idle connections go.
    pub(crate) fn close(&self) {
        self.permits.close();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

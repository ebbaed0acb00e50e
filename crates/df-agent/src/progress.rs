//! Progress of an attempt: lines for people, sent in numbered batches.

use std::time::Duration;

use df_contract::Timestamp;
use df_contract::lease::{MAX_PROGRESS_BYTES, MAX_PROGRESS_LINES, ProgressBatch, ProgressLine};
use tokio::sync::mpsc;

use crate::daemon::{DaemonError, LeaseClient};

/// Lines that wait for the daemon; more are dropped and counted.
const QUEUE_LINES: usize = 1024;
/// A batch is sent this long after its first line.
const BATCH_AFTER: Duration = Duration::from_millis(300);

/// Takes lines; never waits. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Progress {
    lines: mpsc::Sender<ProgressLine>,
    clock: fn() -> Timestamp,
}

/// Sends what [`Progress`] takes.
#[derive(Debug)]
pub struct ProgressPump {
    lines: mpsc::Receiver<ProgressLine>,
}

impl Progress {
    pub fn new(clock: fn() -> Timestamp) -> (Self, ProgressPump) {
        let (sender, lines) = mpsc::channel(QUEUE_LINES);
        (Self { lines: sender, clock }, ProgressPump { lines })
    }

    /// `kind` is one of `model`, `tool`, `check`, `git`, `note`. `text` holds no secret and nothing of a hidden check.
    pub fn note(&self, kind: &'static str, text: impl Into<String>) {
        let mut text = text.into();
        text.truncate(text.floor_char_boundary(MAX_PROGRESS_BYTES));
        let line = ProgressLine { at: (self.clock)(), kind: kind.to_owned(), text };
        if self.lines.try_send(line).is_err() {
            tracing::debug!("progress line dropped, the daemon is behind");
        }
    }
}

impl ProgressPump {
    /// Sends until every [`Progress`] is gone or the daemon refuses. Numbers count the lines sent.
    pub async fn run(mut self, daemon: &LeaseClient) -> Result<(), DaemonError> {
        let mut first = 0;
        let mut lines = Vec::with_capacity(MAX_PROGRESS_LINES);
        while self.lines.recv_many(&mut lines, 1).await > 0 {
            self.gather(&mut lines).await;
            let sent = lines.len() as u64;
            daemon.progress(&ProgressBatch { first, lines: std::mem::take(&mut lines) }).await?;
            first += sent;
        }
        Ok(())
    }

    async fn gather(&mut self, lines: &mut Vec<ProgressLine>) {
        let full = async {
            while lines.len() < MAX_PROGRESS_LINES {
                let room = MAX_PROGRESS_LINES - lines.len();
                if self.lines.recv_many(lines, room).await == 0 {
                    break;
                }
            }
        };
        // Either way the lines that came are sent.
        let _ = tokio::time::timeout(BATCH_AFTER, full).await;
    }
}

//! Appends settled calls to a recording, one JSON line each, from one owner task.

use std::path::PathBuf;

use tokio::fs::{File, OpenOptions};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::Entry;

/// Entries waiting to be written; a call waits for room.
const RECORDER_QUEUE: usize = 256;

/// Handle on the writing task; the recording is whole once all handles are gone and the task has ended.
#[derive(Debug, Clone)]
pub(crate) struct Recorder(mpsc::Sender<Entry>);

impl Recorder {
    pub(crate) async fn open(path: PathBuf) -> std::io::Result<(Self, JoinHandle<()>)> {
        if let Some(parent) = path.parent() {
            tokio::fs::create_dir_all(parent).await?;
        }
        let file = OpenOptions::new().create(true).append(true).open(&path).await?;
        let (sender, inbox) = mpsc::channel(RECORDER_QUEUE);
        Ok((Self(sender), tokio::spawn(write(file, inbox))))
    }

    pub(crate) async fn append(&self, entry: Entry) {
        let _gone = self.0.send(entry).await;
    }
}

async fn write(mut file: File, mut inbox: mpsc::Receiver<Entry>) {
    while let Some(entry) = inbox.recv().await {
        let Ok(mut line) = serde_json::to_vec(&entry) else { continue };
        line.push(b'\n');
        let written = async {
            file.write_all(&line).await?;
            file.flush().await
        };
        if let Err(error) = written.await {
            tracing::error!(error = %error, task = %entry.task, step = entry.step, "a call could not be recorded");
        }
    }
}

//! Following a job's events, across dropped connections and restarts of the daemon.

use std::time::Duration;

use anyhow::Context as _;
use df_contract::api::JobView;
use df_contract::{EventKind, JobEventView, JobState, Problem};
use futures::StreamExt as _;

use crate::client::Client;

/// How long a daemon may be away before watching gives up.
const PATIENCE: Duration = Duration::from_secs(120);
const RETRY_EVERY: Duration = Duration::from_millis(500);
/// Longest line of the event stream.
const MAX_LINE: usize = 4 * 1024 * 1024;

/// Calls `seen` for every event after `after`, until the job ends or waits for people.
///
/// `stop` says which states end the watch.
pub(crate) async fn follow(
    client: &Client,
    job: &str,
    mut after: u64,
    stop: impl Fn(JobState) -> bool,
    mut seen: impl FnMut(&JobEventView),
) -> anyhow::Result<JobState> {
    let mut away = Duration::ZERO;
    loop {
        let mut last = None;
        let outcome = stream_once(client, job, after, |event| {
            after = event.seq;
            away = Duration::ZERO;
            seen(event);
            if let EventKind::JobState { to, .. } = &event.event {
                last = Some(*to);
            }
            last.is_some_and(&stop)
        })
        .await;
        // A stream that ends without an event: nothing may be left to come after `after`.
        let outcome = match outcome {
            Ok(()) if last.is_none() => state(client, job).await.map(|now| last = Some(now)),
            other => other,
        };
        match outcome {
            Ok(()) => {}
            Err(error) if retryable(&error) && away < PATIENCE => {}
            Err(error) => return Err(error),
        }
        if let Some(state) = last.filter(|s| stop(*s)) {
            return Ok(state);
        }
        tokio::time::sleep(RETRY_EVERY).await;
        away += RETRY_EVERY;
    }
}

async fn state(client: &Client, job: &str) -> anyhow::Result<JobState> {
    Ok(client.get::<JobView>(&format!("/v1/jobs/{job}")).await?.summary.state)
}

fn retryable(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Problem>().is_none_or(|p| p.status >= 500)
}

async fn stream_once(
    client: &Client,
    job: &str,
    after: u64,
    mut on_event: impl FnMut(&JobEventView) -> bool,
) -> anyhow::Result<()> {
    let mut stream = client.events(job, after).await?.bytes_stream();
    let mut buffer = Vec::new();
    while let Some(chunk) = stream.next().await {
        buffer.extend_from_slice(&chunk.context("the event stream broke")?);
        while let Some(end) = buffer.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            let Some(data) = line.strip_prefix(b"data:") else { continue };
            let event: JobEventView =
                serde_json::from_slice(data.trim_ascii()).context("an event could not be read")?;
            if on_event(&event) {
                return Ok(());
            }
        }
        anyhow::ensure!(buffer.len() <= MAX_LINE, "an event is longer than {MAX_LINE} bytes");
    }
    Ok(())
}

//! Trying again until there is an answer.

use std::time::Duration;

use tokio::sync::watch;

use super::error::DaemonError;

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// Repeats `attempt` while its failure may pass. Ends with its answer, its refusal, or [`DaemonError::Cancelled`] once
/// `cancel` is true: the holder of `cancel` bounds the repetition by the session's own end.
pub async fn until_answered<T, F>(
    mut cancel: watch::Receiver<bool>,
    mut attempt: impl FnMut() -> F,
) -> Result<T, DaemonError>
where
    F: Future<Output = Result<T, DaemonError>>,
{
    let mut pause = FIRST_PAUSE;
    loop {
        let result = tokio::select! {
            biased;
            () = wanted(&mut cancel) => return Err(DaemonError::Cancelled),
            result = attempt() => result,
        };
        match result {
            Err(e) if e.is_passing() => tracing::debug!(error = %e, "daemon did not answer, trying again"),
            settled => return settled,
        }
        tokio::select! {
            biased;
            () = wanted(&mut cancel) => return Err(DaemonError::Cancelled),
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
        }
    }
}

/// Ends when `cancel` is true, or when nobody is left who could set it.
pub(crate) async fn wanted(cancel: &mut watch::Receiver<bool>) {
    // An error says that the sender is gone: the work has no owner any more.
    let _ = cancel.wait_for(|wanted| *wanted).await;
}

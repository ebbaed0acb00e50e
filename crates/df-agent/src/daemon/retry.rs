//! Trying again until there is an answer.

use std::time::Duration;

use tokio::sync::watch;

use super::error::DaemonError;

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// Repeats `attempt` while its failure may pass. Ends with its answer, its refusal, or [`DaemonError::Cancelled`] once
/// `cancel` is true: the holder of `cancel` bounds the repetition by the session's own end.
pub async fn until_answered<T, F>(
    cancel: watch::Receiver<bool>,
    mut attempt: impl FnMut() -> F,
) -> Result<T, DaemonError>
where
    F: Future<Output = Result<T, DaemonError>>,
{
    let given_up = cancel.clone();
    let dropped = || {
        let (mut given_up, attempt) = (given_up.clone(), attempt());
        async move {
            tokio::select! {
                biased;
                () = wanted(&mut given_up) => Err(DaemonError::Cancelled),
                result = attempt => result,
            }
        }
    };
    heard_out(cancel, dropped).await
}

/// The same, but an attempt that is on its way is waited for. What ends the work on a lease may be the very report that
/// is being answered: the lease ends with it.
pub(crate) async fn heard_out<T, F>(
    mut cancel: watch::Receiver<bool>,
    mut attempt: impl FnMut() -> F,
) -> Result<T, DaemonError>
where
    F: Future<Output = Result<T, DaemonError>>,
{
    let mut pause = FIRST_PAUSE;
    while !*cancel.borrow() {
        match attempt().await {
            Err(e) if e.is_passing() => tracing::debug!(error = %e, "daemon did not answer, trying again"),
            settled => return settled,
        }
        tokio::select! {
            biased;
            () = wanted(&mut cancel) => break,
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
        }
    }
    Err(DaemonError::Cancelled)
}

/// Ends when `cancel` is true, or when nobody is left who could set it.
pub(crate) async fn wanted(cancel: &mut watch::Receiver<bool>) {
    // An error says that the sender is gone: the work has no owner any more.
    let _ = cancel.wait_for(|wanted| *wanted).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_report_whose_lease_ends_with_it_is_heard_out_and_nothing_else_is() {
        let (cancel, seen) = watch::channel(false);
        // The daemon's answer, and before it the word that the lease has ended.
        let answer = || async {
            cancel.send_replace(true);
            tokio::task::yield_now().await;
            Ok(7)
        };
        assert_eq!(heard_out(seen.clone(), answer).await.unwrap(), 7);
        let again = heard_out(seen.clone(), || async { Ok(7) }).await;
        assert!(matches!(again, Err(DaemonError::Cancelled)), "nothing is sent for a lease that is lost");
        cancel.send_replace(false);
        assert!(matches!(until_answered(seen, answer).await, Err(DaemonError::Cancelled)));
    }
}

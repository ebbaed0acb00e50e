//! How long tests are patient. Nothing is asserted about time: a limit only ends a test that would hang.

use std::time::{Duration, Instant};

/// A named patience.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    name: &'static str,
    time: Duration,
}

impl Limit {
    /// Until a process listens, or has ended.
    pub const PROCESS: Limit = Limit { name: "PROCESS", time: Duration::from_secs(90) };
    /// Until a decision is there, a state is left, a count is updated.
    pub const STEP: Limit = Limit { name: "STEP", time: Duration::from_secs(120) };
    /// Until a small job ends.
    pub const JOB: Limit = Limit { name: "JOB", time: Duration::from_secs(300) };
    /// Until everything has ended that was disturbed over and over.
    pub const TORTURE: Limit = Limit { name: "TORTURE", time: Duration::from_secs(1_500) };

    /// Until a job of a thousand tasks ends.
    pub const MANY_TASKS: Limit = Limit { name: "MANY_TASKS", time: Duration::from_secs(7_200) };

    pub const fn time(self) -> Duration {
        self.time
    }
}

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(150);

/// Asks `look` until it answers; panics with `what` and the last thing `look` said when the limit is reached.
pub async fn poll<T>(limit: Limit, what: &str, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let begun = Instant::now();
    loop {
        match look().await {
            Ok(found) => return found,
            Err(last) => assert!(
                begun.elapsed() < limit.time,
                "{what}: not within {} ({} s); last seen: {last}",
                limit.name,
                limit.time.as_secs()
            ),
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Whether the long variants of tests were asked for.
pub fn full_run() -> bool {
    std::env::var_os("DF_TEST_FULL").is_some_and(|v| !v.is_empty() && v != "0")
}

//! How each reconciler goes: for `GET /v1/system`.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use df_contract::api::ReconcilerView;
use df_contract::{JobId, Timestamp};

/// Everything that runs by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reconciler {
    /// Takes back leases that ended without a report.
    Leases,
    /// Moves jobs whose approval, deadline or wall-clock budget has run out.
    Timers,
    /// Looks at every open job.
    Jobs,
    /// Carries out what transitions asked for outside the store.
    Outbox,
    /// Reads settled usage from the proxy.
    Usage,
    /// Forgets rows that nobody needs any more.
    Cleanup,
    /// Removes blobs that no job names.
    Blobs,
}

impl Reconciler {
    pub const ALL: [Reconciler; 7] = [
        Reconciler::Leases,
        Reconciler::Timers,
        Reconciler::Jobs,
        Reconciler::Outbox,
        Reconciler::Usage,
        Reconciler::Cleanup,
        Reconciler::Blobs,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Reconciler::Leases => "leases",
            Reconciler::Timers => "timers",
            Reconciler::Jobs => "jobs",
            Reconciler::Outbox => "outbox",
            Reconciler::Usage => "usage",
            Reconciler::Cleanup => "cleanup",
            Reconciler::Blobs => "blobs",
        }
    }
}

/// What is known of every reconciler. Kept in memory: after a restart each runs at once.
#[derive(Debug, Default)]
pub(crate) struct Reconcilers {
    /// Held for a few assignments, never across an await.
    known: Mutex<[Known; Reconciler::ALL.len()]>,
}

#[derive(Debug, Clone, Default)]
struct Known {
    runs: u64,
    started: Option<Timestamp>,
    ended: Option<Timestamp>,
    error: Option<String>,
    did: u64,
}

impl Reconcilers {
    pub(crate) fn started(&self, which: Reconciler, now: Timestamp) {
        self.change(which, |known| {
            known.runs += 1;
            known.started = Some(now);
        });
    }

    /// Answers the error where it is another than that of the round before.
    pub(crate) fn ended(
        &self,
        which: Reconciler,
        now: Timestamp,
        did: Result<u64, String>,
    ) -> Option<String> {
        self.change(which, |known| {
            known.ended = Some(now);
            match did {
                Ok(did) => {
                    (known.did, known.error) = (did, None);
                    None
                }
                Err(error) => {
                    let news = (known.error.as_ref() != Some(&error)).then(|| error.clone());
                    (known.did, known.error) = (0, Some(error));
                    news
                }
            }
        })
    }

    fn change<T>(&self, which: Reconciler, make: impl FnOnce(&mut Known) -> T) -> T {
        make(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner)[which as usize])
    }

    /// Whether its last round that ended failed.
    pub(crate) fn fails(&self, which: Reconciler) -> bool {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)[which as usize].error.is_some()
    }

    pub(crate) fn view(&self) -> Vec<ReconcilerView> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let view = |(which, known): (Reconciler, Known)| ReconcilerView {
            name: which.as_str().to_owned(),
            every_ms: df_contract::DurationMs(which.every().as_millis() as u64),
            runs: known.runs,
            last_started: known.started,
            last_ended: known.ended,
            last_error: known.error,
            last_did: known.did,
        };
        Reconciler::ALL.into_iter().zip(known).map(view).collect()
    }
}

/// Jobs that are to be looked at again soon.
#[derive(Debug, Default)]
pub(crate) struct Again {
    /// Held for a few assignments, never across an await.
    jobs: Mutex<BTreeSet<JobId>>,
}

/// Most jobs remembered; for any beyond, the slow pass over every open job is soon enough.
const MAX_AGAIN: usize = 1_024;

impl Again {
    pub(crate) fn add(&self, job: JobId) {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if jobs.len() < MAX_AGAIN {
            jobs.insert(job);
        }
    }

    pub(crate) fn take(&self) -> BTreeSet<JobId> {
        std::mem::take(&mut self.jobs.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_own_place_and_an_error_lasts_until_the_next_success() {
        let all = Reconcilers::default();
        for (place, which) in Reconciler::ALL.into_iter().enumerate() {
            assert_eq!(which as usize, place, "{which:?}");
        }
        all.started(Reconciler::Cleanup, Timestamp(1));
        let fail = |at| all.ended(Reconciler::Cleanup, Timestamp(at), Err("no disk".to_owned()));
        assert_eq!(fail(2).as_deref(), Some("no disk"));
        assert_eq!(fail(2), None, "the same error again is no news");
        assert!(all.fails(Reconciler::Cleanup) && !all.fails(Reconciler::Usage), "until it has succeeded");
        let view = all.view();
        assert_eq!(view[5].last_error.as_deref(), Some("no disk"));
        assert!(
            view.iter()
                .enumerate()
                .filter(|(at, _)| *at != 5)
                .all(|(_, other)| other.runs == 0 && other.last_error.is_none())
        );
        all.started(Reconciler::Cleanup, Timestamp(3));
        all.ended(Reconciler::Cleanup, Timestamp(4), Ok(5));
        let view = all.view();
        let last = &view[5];
        assert_eq!((last.runs, last.last_ended, last.last_did), (2, Some(Timestamp(4)), 5));
        assert!(last.last_error.is_none() && !all.fails(Reconciler::Cleanup));
    }
}

//! The circuit breaker of one agent on one worker, for one tenant ([`BreakerKey`]): a runtime that keeps failing gets no
//! more work until it has had time to recover, and then one task at first. What fails for one tenant or on one worker
//! says nothing of others, so it shuts off nothing there.
//!
//! A pure state machine after Nygard's pattern (*Release It!*, 2007): closed, open for a cool-off that doubles, half open
//! with one probe. It cannot stay shut: a probe whose end nobody reports, or a clock that went back, lets another in.

use df_contract::{DurationMs, FailureKind, TenantId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::schedule::Runner;

/// Failures of the runtime in a row that open the breaker.
pub const OPEN_AFTER: u32 = 5;
/// First cool-off; it doubles each time a probe fails.
pub const COOL_OFF: DurationMs = DurationMs(30_000);
/// Longest cool-off, and how long a probe may stay away before another is let in.
pub const MAX_COOL_OFF: DurationMs = DurationMs(600_000);

/// What a breaker belongs to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BreakerKey {
    /// The name under which the worker opens its sessions.
    pub worker: String,
    pub tenant: TenantId,
    pub runner: Runner,
}

/// The state of a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Breaker {
    /// Work goes out; so many failures in a row so far.
    Closed { failures: u32 },
    /// No work until then. `trips` counts how often it opened since it was last closed.
    Open { until: Timestamp, trips: u32 },
    /// One task is out as a probe, claimed then.
    HalfOpen { since: Timestamp, trips: u32 },
}

impl Default for Breaker {
    fn default() -> Self {
        Breaker::Closed { failures: 0 }
    }
}

/// What the end of an attempt tells a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerEvent {
    /// An attempt ended in a way that shows the runtime at work.
    Worked,
    /// An attempt ended because the runtime failed.
    Failed,
    /// An attempt ended without telling anything about the runtime.
    Unknown,
}

impl BreakerEvent {
    pub const ALL: &'static [BreakerEvent] =
        &[BreakerEvent::Worked, BreakerEvent::Failed, BreakerEvent::Unknown];

    /// What an attempt that failed like this says about the runtime. A lease that was lost or given back says
    /// [`BreakerEvent::Unknown`], an attempt that succeeded [`BreakerEvent::Worked`].
    pub const fn of(kind: FailureKind) -> Self {
        match kind {
            FailureKind::AgentCrash | FailureKind::ToolFailure | FailureKind::Infrastructure => {
                BreakerEvent::Failed
            }
            FailureKind::CheckFailure
            | FailureKind::MergeConflict
            | FailureKind::ModelRefused
            | FailureKind::DependencyRefused
            | FailureKind::DependencyConflict
            | FailureKind::PolicyBreach
            | FailureKind::BudgetExhausted => BreakerEvent::Worked,
            // Somebody else's fault, or nobody can tell whose.
            FailureKind::ModelUnavailable
            | FailureKind::RecordingMismatch
            | FailureKind::ContractBreach
            | FailureKind::LimitReached
            | FailureKind::Stalled
            | FailureKind::SourceUnreadable
            | FailureKind::LeaseExpired => BreakerEvent::Unknown,
        }
    }
}

/// The cool-off after the breaker opened for the `trips`-th time in a row (from 1).
pub const fn cool_off(trips: u32) -> DurationMs {
    let doublings = if trips == 0 { 0 } else { trips - 1 };
    let doublings = if doublings > 16 { 16 } else { doublings };
    let wait = COOL_OFF.0 << doublings;
    DurationMs(if wait > MAX_COOL_OFF.0 { MAX_COOL_OFF.0 } else { wait })
}

impl Breaker {
    /// Whether a task of the agent may be claimed at `now`.
    pub const fn admits(self, now: Timestamp) -> bool {
        match self {
            Breaker::Closed { .. } => true,
            // An end further off than the whole cool-off was set by a clock that has gone back since.
            Breaker::Open { until, trips } => until.0 <= now.0 || until.0 > now.plus(cool_off(trips)).0,
            Breaker::HalfOpen { since, .. } => since.plus(MAX_COOL_OFF).0 <= now.0 || since.0 > now.0,
        }
    }

    /// The breaker after a task of the agent was claimed at `at`: if it was not closed, that one is the probe.
    pub const fn claimed(self, at: Timestamp) -> Self {
        match self {
            Breaker::Closed { .. } => self,
            Breaker::Open { trips, .. } | Breaker::HalfOpen { trips, .. } => {
                Breaker::HalfOpen { since: at, trips }
            }
        }
    }

    /// The breaker after an attempt that was claimed at `claimed` ended at `at`. Total. Attempts that were claimed before it opened
    /// are heard as well: a success closes it at any time; anything else changes nothing until it is closed, and least of
    /// all ends the wait for a probe that is still out.
    pub fn after(self, event: BreakerEvent, claimed: Timestamp, at: Timestamp) -> Self {
        let open = |trips: u32| Breaker::Open { until: at.plus(cool_off(trips)), trips };
        match (self, event) {
            (Breaker::HalfOpen { since, .. }, BreakerEvent::Failed | BreakerEvent::Unknown)
                if claimed != since =>
            {
                self
            }
            (Breaker::Closed { failures }, BreakerEvent::Failed) => match failures.saturating_add(1) {
                failures if failures < OPEN_AFTER => Breaker::Closed { failures },
                _ => open(1),
            },
            (Breaker::HalfOpen { trips, .. }, BreakerEvent::Failed) => open(trips.saturating_add(1)),
            (_, BreakerEvent::Worked) => Breaker::Closed { failures: 0 },
            // The probe said nothing: the next one may go at once.
            (Breaker::HalfOpen { trips, .. }, BreakerEvent::Unknown) => Breaker::Open { until: at, trips },
            (Breaker::Closed { .. }, BreakerEvent::Unknown)
            | (Breaker::Open { .. }, BreakerEvent::Failed | BreakerEvent::Unknown) => self,
        }
    }

    /// Whether it is as good as not kept at all.
    pub const fn is_fresh(self) -> bool {
        matches!(self, Breaker::Closed { failures: 0 })
    }
}

#[cfg(test)]
mod tests;

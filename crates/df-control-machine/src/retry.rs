//! How often, and after how long, work that failed is tried again.

use df_contract::{DurationMs, FailureKind};

/// Most leases of one task that may be lost (worker died, deadline) before the task fails.
pub const MAX_LOST_LEASES: u32 = 25;

/// The retry rule of one kind of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryRule {
    /// Attempts in all, the first included. 1 = never again.
    pub attempts: u32,
    /// Wait before the second attempt; doubles each time.
    pub base: DurationMs,
}

/// Waits never grow beyond this.
pub const MAX_BACKOFF: DurationMs = DurationMs(60_000);

/// The rule for `kind`.
pub const fn rule(kind: FailureKind) -> RetryRule {
    let (attempts, base) = match kind {
        FailureKind::AgentCrash | FailureKind::ToolFailure => (3, 1_000),
        FailureKind::ModelUnavailable => (5, 2_000),
        FailureKind::ModelRefused | FailureKind::ContractBreach | FailureKind::LimitReached => (2, 1_000),
        FailureKind::CheckFailure | FailureKind::MergeConflict => (3, 0),
        FailureKind::Stalled => (3, 1_000),
        FailureKind::DependencyConflict => (2, 0),
        FailureKind::Infrastructure => (6, 1_000),
        FailureKind::LeaseExpired => (MAX_LOST_LEASES, 0),
        FailureKind::RecordingMismatch
        | FailureKind::DependencyRefused
        | FailureKind::PolicyBreach
        | FailureKind::BudgetExhausted
        | FailureKind::SourceUnreadable => (1, 0),
    };
    RetryRule { attempts, base: DurationMs(base) }
}

/// The wait before the attempt after `failures` failures: exponential, with "equal jitter" (half fixed, half drawn)
/// from `seed`.
pub fn backoff(kind: FailureKind, failures: u32, seed: u64) -> DurationMs {
    let doubled =
        rule(kind).base.0.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(MAX_BACKOFF.0);
    let half = doubled / 2;
    DurationMs(half + if half == 0 { 0 } else { mix(seed) % (half + 1) })
}

/// SplitMix64's finaliser: spreads a seed over 64 bits.
const fn mix(seed: u64) -> u64 {
    let z = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn backoff_grows_within_its_bounds(failures in 1u32..200, seed: u64) {
            for kind in FailureKind::ALL {
                let wait = backoff(*kind, failures, seed);
                let doubled = rule(*kind).base.0.saturating_mul(1 << (failures - 1).min(16)).min(MAX_BACKOFF.0);
                proptest::prop_assert!(wait.0 >= doubled / 2 && wait.0 <= doubled);
                proptest::prop_assert_eq!(wait, backoff(*kind, failures, seed));
            }
        }
    }

    #[test]
    fn a_policy_breach_is_never_tried_again() {
        assert_eq!(rule(FailureKind::PolicyBreach).attempts, 1);
    }
}

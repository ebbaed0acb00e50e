//! How often, and after how long, work that failed is tried again.

use std::fmt::Write as _;
use std::num::NonZeroU32;

use df_contract::job::{MAX_BACKOFF, MAX_RETRY_ATTEMPTS};
use df_contract::{DurationMs, FailureKind, JobSpec, Timestamp};

/// Leases of one task that may be lost (the worker died) before the task fails.
pub const MAX_LOST_LEASES: u32 = 25;
/// How often a conflict of one change with the job branch is resolved, unless the job says otherwise.
pub const MAX_RESOLVES: u32 = 2;
/// How often the rest of a job is planned anew.
pub const MAX_REPLANS: u32 = 2;

/// So many times in a row a lease is handed back before its task waits.
pub const FREE_HAND_BACKS: u32 = 2;
/// The wait after the first hand-back beyond those; it doubles with each.
pub const HAND_BACK_WAIT: DurationMs = DurationMs(1_000);
/// Longest wait of a task that is handed back.
pub const MAX_HAND_BACK_WAIT: DurationMs = DurationMs(60_000);
/// By each hand-back beyond the free ones a task stands so much later in its tenant's line, until an attempt is reported.
pub const HAND_BACK_DELAY_MS: i64 = crate::schedule::PRIORITY_STEP_MS;
/// Nothing is ever told to wait longer than this before its next attempt.
pub const LONGEST_WAIT: DurationMs =
    if MAX_BACKOFF.0 > MAX_HAND_BACK_WAIT.0 { MAX_BACKOFF } else { MAX_HAND_BACK_WAIT };

/// The wait before a task is offered again that was handed back so many times in a row.
pub const fn hand_back_wait(handed_back: u32) -> DurationMs {
    let beyond = handed_back.saturating_sub(FREE_HAND_BACKS);
    if beyond == 0 {
        return DurationMs::ZERO;
    }
    let doublings = if beyond > 16 { 16 } else { beyond - 1 };
    let wait = HAND_BACK_WAIT.0 << doublings;
    DurationMs(if wait > MAX_HAND_BACK_WAIT.0 { MAX_HAND_BACK_WAIT.0 } else { wait })
}

/// Whether a task that waits until `not_before` may be claimed at `now`. An end further off than the longest wait was set by
/// a clock that has gone back since.
pub const fn is_due(not_before: Timestamp, now: Timestamp) -> bool {
    not_before.0 <= now.0 || not_before.0 > now.plus(LONGEST_WAIT).0
}

/// The retry rule of one kind of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryRule {
    /// Attempts in all, the first included. 1 = never again.
    pub attempts: u32,
    /// Wait before the second attempt; doubles each time.
    pub base: DurationMs,
    /// No further attempt begins once the task has used this much of its share of the tokens.
    pub budget_percent: u32,
}

/// The rule for `kind`.
pub const fn rule(kind: FailureKind) -> RetryRule {
    let (attempts, base, budget_percent) = match kind {
        FailureKind::AgentCrash | FailureKind::ToolFailure | FailureKind::Stalled => (3, 1_000, 90),
        FailureKind::ModelUnavailable => (5, 2_000, 90),
        FailureKind::ModelRefused => (2, 1_000, 90),
        // What went wrong for want of limits or sense seldom ends well on little.
        FailureKind::ContractBreach | FailureKind::LimitReached => (2, 1_000, 75),
        FailureKind::CheckFailure => (3, 0, 90),
        FailureKind::MergeConflict => (1 + MAX_RESOLVES, 0, 100),
        FailureKind::DependencyConflict => (2, 0, 90),
        FailureKind::Infrastructure => (6, 1_000, 100),
        FailureKind::LeaseExpired => (MAX_LOST_LEASES, 0, 100),
        FailureKind::RecordingMismatch
        | FailureKind::DependencyRefused
        | FailureKind::PolicyBreach
        | FailureKind::BudgetExhausted
        | FailureKind::SourceUnreadable => (1, 0, 100),
    };
    RetryRule { attempts, base: DurationMs(base), budget_percent }
}

/// The rule for `kind` in a job: as the job says within what may be said, and never more attempts than the decision
/// grants.
pub fn rule_for(spec: &JobSpec, granted: Option<NonZeroU32>, kind: FailureKind) -> RetryRule {
    let wished = wished(spec, kind);
    RetryRule { attempts: granted.map_or(wished.attempts, |most| wished.attempts.min(most.get())), ..wished }
}

fn wished(spec: &JobSpec, kind: FailureKind) -> RetryRule {
    let rule = rule(kind);
    let Some(asked) = spec.retries.get(&kind) else { return rule };
    let most = if kind.is_final() { 1 } else { MAX_RETRY_ATTEMPTS };
    RetryRule {
        attempts: asked.attempts.clamp(1, most),
        base: asked.backoff_ms.map_or(rule.base, |base| base.min(MAX_BACKOFF)),
        ..rule
    }
}

/// Whether the next attempt is told of the failure. One that was lost, or that the model or the machine let down,
/// starts again with the identical brief, so that a recorded conversation still fits.
pub const fn teaches(kind: FailureKind) -> bool {
    match kind {
        FailureKind::ToolFailure
        | FailureKind::CheckFailure
        | FailureKind::MergeConflict
        | FailureKind::DependencyRefused
        | FailureKind::DependencyConflict
        | FailureKind::ContractBreach
        | FailureKind::PolicyBreach
        | FailureKind::LimitReached => true,
        FailureKind::AgentCrash
        | FailureKind::ModelUnavailable
        | FailureKind::ModelRefused
        | FailureKind::RecordingMismatch
        | FailureKind::BudgetExhausted
        | FailureKind::SourceUnreadable
        | FailureKind::Infrastructure
        | FailureKind::LeaseExpired
        | FailureKind::Stalled => false,
    }
}

/// The wait before the attempt after `failures` failures: exponential, with "equal jitter" (half fixed, half drawn)
/// from `seed`.
pub fn backoff(rule: RetryRule, failures: u32, seed: u64) -> DurationMs {
    let doubled = rule.base.0.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(MAX_BACKOFF.0);
    let half = doubled / 2;
    DurationMs(half + if half == 0 { 0 } else { mix(seed) % (half + 1) })
}

/// The rules as a Markdown table, for docs/workflow.md.
pub fn render_markdown() -> String {
    let mut out = String::from(
        "| kind | attempts | first wait | until this much of the task's tokens is used | next attempt is told | then |\n\
         |---|---|---|---|---|---|\n",
    );
    for kind in FailureKind::ALL.iter().copied() {
        let RetryRule { attempts, base, budget_percent } = rule(kind);
        let wait = if base.0 == 0 { "none".to_owned() } else { format!("{} s", base.0 / 1_000) };
        let told = if teaches(kind) { "yes" } else { "no" };
        let (attempts, wait, share) = match attempts {
            1 => ("1".to_owned(), "".to_owned(), "".to_owned()),
            _ => (attempts.to_string(), wait, format!("{budget_percent} %")),
        };
        let told = if attempts == "1" { "" } else { told };
        let _ = writeln!(
            out,
            "| `{}` | {attempts} | {wait} | {share} | {told} | {} |",
            kind.as_str(),
            then(kind)
        );
    }
    out
}

/// What a failure of `kind` does beside being counted.
const fn then(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::CheckFailure | FailureKind::DependencyConflict => {
            "in an attempt: the task is tried again; after a merge: the merge is undone, and the task is done again \
             on the new head"
        }
        FailureKind::MergeConflict => {
            "the merge waits for a task `resolve.<task>.<n>`, which is given both sides and what they began from"
        }
        FailureKind::BudgetExhausted => {
            "the job pauses until its budget is raised or it ends; where it is the task's own share by the plan, the task \
             fails"
        }
        FailureKind::SourceUnreadable => "the job fails: nothing was begun",
        FailureKind::LeaseExpired => {
            "counted in lost leases; one handed back in good order counts for nothing, and waits from the third time in a \
             row"
        }
        FailureKind::AgentCrash
        | FailureKind::ModelUnavailable
        | FailureKind::ModelRefused
        | FailureKind::RecordingMismatch
        | FailureKind::ToolFailure
        | FailureKind::DependencyRefused
        | FailureKind::ContractBreach
        | FailureKind::PolicyBreach
        | FailureKind::LimitReached
        | FailureKind::Infrastructure
        | FailureKind::Stalled => "the task fails, and `on_failure` says what becomes of the job",
    }
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
                let wait = backoff(rule(*kind), failures, seed);
                let doubled = rule(*kind).base.0.saturating_mul(1 << (failures - 1).min(16)).min(MAX_BACKOFF.0);
                proptest::prop_assert!(wait.0 >= doubled / 2 && wait.0 <= doubled);
                proptest::prop_assert_eq!(wait, backoff(rule(*kind), failures, seed));
            }
        }
    }

    fn spec(kind: FailureKind, attempts: u32, backoff_ms: u64) -> JobSpec {
        let retries = serde_json::json!({kind.as_str(): {"attempts": attempts, "backoff_ms": backoff_ms}});
        serde_json::from_value(serde_json::json!({"title": "t", "description": "d", "retries": retries}))
            .unwrap()
    }

    #[test]
    fn a_job_changes_rules_within_bounds_and_never_those_of_a_breach() {
        let of = |kind, attempts, wait| rule_for(&spec(kind, attempts, wait), None, kind);
        assert_eq!(of(FailureKind::AgentCrash, 7, 5).attempts, 7);
        assert_eq!(of(FailureKind::AgentCrash, 7, 5).base, DurationMs(5));
        assert_eq!(of(FailureKind::AgentCrash, 0, u64::MAX).attempts, 1);
        assert_eq!(of(FailureKind::AgentCrash, 99, u64::MAX).attempts, MAX_RETRY_ATTEMPTS);
        assert_eq!(of(FailureKind::AgentCrash, 99, u64::MAX).base, MAX_BACKOFF);
        for kind in FailureKind::ALL.iter().copied().filter(|k| k.is_final()) {
            assert_eq!((rule(kind).attempts, of(kind, 9, 1).attempts), (1, 1), "{kind:?}");
        }
        assert_eq!(
            rule_for(&spec(FailureKind::Stalled, 9, 1), None, FailureKind::AgentCrash),
            rule(FailureKind::AgentCrash)
        );
    }

    #[test]
    fn what_is_granted_bounds_both_what_a_job_asks_for_and_the_rules() {
        let asking = spec(FailureKind::AgentCrash, 9, 5);
        for granted in 1..30 {
            let most = NonZeroU32::new(granted);
            for kind in FailureKind::ALL.iter().copied() {
                let (free, bound) = (rule_for(&asking, None, kind), rule_for(&asking, most, kind));
                assert_eq!(bound.attempts, free.attempts.min(granted), "{kind:?}");
                assert_eq!((bound.base, bound.budget_percent), (free.base, free.budget_percent), "{kind:?}");
            }
        }
    }

    #[test]
    fn hand_backs_wait_from_the_third_on_up_to_a_minute() {
        let waits: Vec<u64> = (0..12).map(|n| hand_back_wait(n).0 / 1_000).collect();
        assert_eq!(waits, [0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(hand_back_wait(u32::MAX), MAX_HAND_BACK_WAIT);
    }

    proptest::proptest! {
        /// Whatever was waited for, and however the clock was put since: it is over within the longest wait, and a wait
        /// by a clock that has not gone back is kept.
        #[test]
        fn no_task_waits_longer_than_the_longest_wait(set in 0u64..1 << 50, wait in 0u64..=LONGEST_WAIT.0, now in 0u64..1 << 50) {
            let not_before = Timestamp(set + wait);
            let later = Timestamp(now).plus(LONGEST_WAIT);
            proptest::prop_assert!(is_due(not_before, Timestamp(now)) || is_due(not_before, later));
            let kept = set <= now && now < not_before.0;
            proptest::prop_assert!(!kept || !is_due(not_before, Timestamp(now)));
            let hour = 3_600_000;
            proptest::prop_assert!(is_due(not_before, Timestamp(set.saturating_sub(hour))) || set < hour);
            proptest::prop_assert!(is_due(not_before, Timestamp(set + 24 * hour)));
        }
    }

    #[test]
    fn every_kind_has_its_row() {
        let table = render_markdown();
        for kind in FailureKind::ALL {
            assert_eq!(table.matches(&format!("| `{}` |", kind.as_str())).count(), 1, "{kind:?}");
        }
    }
}

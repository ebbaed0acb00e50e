//! What a provider said about its limits, put into the buckets.

use smallvec::SmallVec;

use super::{At, Axis, Cause, Lane};

/// A change of a limit by more than this part makes the weights of a tier stale.
const WEIGHT_DRIFT: u64 = 4;
/// The longest that a provider's word keeps anything out.
pub(super) const MAX_WAIT_MS: u64 = 10 * 60 * 1000;

/// Limit and rest of one axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal {
    pub axis: Axis,
    pub limit: Option<u64>,
    pub remaining: Option<u64>,
}

/// All that one answer said.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Heard {
    pub signals: SmallVec<[Signal; 4]>,
    /// A window that the provider calls used up opens again after this many ms.
    pub shut_for_ms: Option<u64>,
}

impl Lane {
    /// Tightens at once, widens slowly. Every answer is heard, not only refusals.
    pub fn hear(&self, heard: &Heard, now: At) {
        for signal in &heard.signals {
            let told = signal.limit.unwrap_or(0);
            if told == 0 && self.bucket(signal.axis).is_none() {
                continue;
            }
            let Some(bucket) = self.bucket_to_learn(signal.axis) else { continue };
            let before = bucket.limit();
            if bucket.learn_limit(told, now) && bucket.limit().abs_diff(before) > before / WEIGHT_DRIFT {
                self.upstream().mark_stale();
            }
            if let Some(remaining) = signal.remaining {
                bucket.learn_remaining(remaining, now);
            }
        }
        if let Some(ms) = heard.shut_for_ms {
            self.cooling.cool(now.plus_ms(ms.min(MAX_WAIT_MS)), Cause::Rate);
        }
    }
}

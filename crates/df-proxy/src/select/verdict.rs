//! What one call showed, and whom it concerns.

use super::learn::MAX_WAIT_MS;
use super::{At, Axis, Cause, Lane, Slot};

/// Failures in a row that open an account's breaker, and that of a model at a provider.
const ACCOUNT_FAILURES: u32 = 5;
const UPSTREAM_FAILURES: u32 = 10;
/// What a failure counts as time to the first token, and the most that a provider's own wait counts: a failure must
/// never look fast (as linkerd's load-biaser).
const FAILURE_TTFT_MS: u64 = 5_000;
const MAX_FAILURE_TTFT_MS: u64 = 300_000;
/// An unnamed 429 is laid to the fullest bucket if at most this part of it is left.
const SUSPECT_HEADROOM: f32 = 0.5;

/// How a call ended, as far as the account is concerned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict {
    /// Time to the first token where it was seen, and the input tokens it was for.
    Good { ttft: Option<(u64, u64)> },
    /// The key is refused.
    Credential { wait_ms: u64 },
    /// No money: everybody who pays from the same purse.
    Billing { wait_ms: u64 },
    /// A limit, named or not.
    Rate { axis: Option<Axis>, wait_ms: u64 },
    /// The provider is overloaded: no fault of the account.
    Overloaded { wait_ms: Option<u64> },
    /// No connection, an answer that broke off, silence, nonsense.
    Broken,
    /// The provider wants fewer calls for this model.
    SlowDown { wait_ms: u64 },
    /// The account does not have the model.
    NoModel { wait_ms: u64 },
    /// Shows nothing about the account: the request was at fault, or the client went.
    Nothing,
}

/// Tokens of input for which the time to the first token counts as it is.
const TTFT_REFERENCE: u64 = 4_096;

impl Verdict {
    pub(super) fn apply(self, slot: &Slot, lane: &Lane, now: At) {
        let until = |ms: u64| now.plus_ms(ms.min(MAX_WAIT_MS));
        let upstream = lane.upstream();
        match self {
            Verdict::Good { ttft } => {
                slot.gates().chain([&upstream.gate]).for_each(|gate| gate.breaker.succeed(now));
                slot.note_outcome(1.0, now);
                if let Some((ns, input)) = ttft {
                    let scaled = u128::from(ns) * u128::from(TTFT_REFERENCE);
                    let ns = scaled / u128::from(TTFT_REFERENCE.saturating_add(input));
                    slot.note_ttft(u64::try_from(ns).unwrap_or(u64::MAX), now);
                }
            }
            // The operator's own waits, not a provider's, so they are not cut.
            Verdict::Credential { wait_ms } => slot.gate().shut(now.plus_ms(wait_ms), Cause::Credential),
            Verdict::Billing { wait_ms } => {
                let until = now.plus_ms(wait_ms);
                if slot.purses().is_empty() {
                    slot.gate().shut(until, Cause::Billing);
                }
                slot.purses().iter().for_each(|purse| purse.shut(until, Cause::Billing));
            }
            Verdict::Rate { axis, wait_ms } => blame(lane, axis, until(wait_ms), now),
            Verdict::Overloaded { wait_ms } => {
                bias(slot, wait_ms, now);
                upstream.gate.breaker.fail(UPSTREAM_FAILURES, now);
            }
            Verdict::Broken => {
                bias(slot, None, now);
                slot.gate().breaker.fail(ACCOUNT_FAILURES, now);
                upstream.gate.breaker.fail(UPSTREAM_FAILURES, now);
            }
            Verdict::SlowDown { wait_ms } => {
                upstream.slow_down(now);
                lane.cooling.cool(until(wait_ms), Cause::Rate);
            }
            Verdict::NoModel { wait_ms } => lane.cooling.cool(until(wait_ms), Cause::Model),
            Verdict::Nothing => {}
        }
    }
}

fn bias(slot: &Slot, wait_ms: Option<u64>, now: At) {
    let ms = wait_ms.unwrap_or(FAILURE_TTFT_MS).min(MAX_FAILURE_TTFT_MS);
    slot.note_ttft(At::from_millis(ms).0, now);
    slot.note_outcome(0.0, now);
}

/// The bucket that a 429 names; else the fullest, if it is full enough; else the model at this account alone.
fn blame(lane: &Lane, axis: Option<Axis>, until: At, now: At) {
    let named = axis.and_then(|axis| lane.bucket(axis));
    let fullest = || {
        let rooms = lane.buckets().filter(|b| b.axis() != Axis::Concurrency).map(|b| (b.headroom(now), b));
        let least = rooms.min_by(|(a, _), (b, _)| a.total_cmp(b));
        least.filter(|(room, _)| *room <= SUSPECT_HEADROOM).map(|(_, bucket)| bucket)
    };
    match named.or_else(|| if axis.is_none() { fullest() } else { None }) {
        Some(bucket) => bucket.block(until),
        None => lane.cooling.cool(until, Cause::Rate),
    }
}

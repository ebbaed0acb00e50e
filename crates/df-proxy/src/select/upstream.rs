//! A model at a provider: what all accounts there share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::{At, Gate};

/// How long a ceiling stands before it grows by half, as OpenAI asks of whoever was told `slow_down`.
const STEP_MS: u64 = 15 * 60 * 1000;
/// After this many steps the ceiling is gone.
const LAST_STEP: u32 = 4;
/// When a call under a full ceiling looks again.
const LOOK_AGAIN_MS: u64 = 250;

/// Breaker, ceiling, and what answers look like, of one model at one provider.
#[derive(Debug, Default)]
pub struct Upstream {
    pub gate: Gate,
    in_flight: AtomicU64,
    /// `since in ms << 24 | calls at once`; 0 = no ceiling.
    ceiling: AtomicU64,
    /// Smoothed output tokens of an answer; 0 = none seen.
    output: AtomicU64,
    /// A learnt limit moved so far that weights no longer fit.
    stale: AtomicBool,
}

const COUNT_BITS: u32 = 24;

impl Upstream {
    pub(super) fn enter(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn leave(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// Err if as many calls are open as the provider stands.
    pub(super) fn below_ceiling(&self, now: At) -> Result<(), At> {
        match self.ceiling(now) {
            Some(most) if self.in_flight.load(Ordering::Relaxed) >= most => Err(now.plus_ms(LOOK_AGAIN_MS)),
            Some(_) | None => Ok(()),
        }
    }

    /// Calls at once that it stands, if it was asked to slow down.
    pub fn ceiling(&self, now: At) -> Option<u64> {
        let word = self.ceiling.load(Ordering::Acquire);
        if word == 0 {
            return None;
        }
        let (since, most) = (word >> COUNT_BITS, word & ((1 << COUNT_BITS) - 1));
        let step = u32::try_from(now.as_millis().saturating_sub(since) / STEP_MS).unwrap_or(u32::MAX);
        // 1.5^step, exactly.
        (step < LAST_STEP).then(|| (most * 3u64.pow(step) / 2u64.pow(step)).max(1))
    }

    /// Half of what is open now, and then half more at each step.
    pub(super) fn slow_down(&self, now: At) {
        let open = self.in_flight.load(Ordering::Relaxed);
        let most = (open.div_ceil(2)).clamp(1, (1 << COUNT_BITS) - 1);
        let most = self.ceiling(now).map_or(most, |known| known.min(most));
        self.ceiling.store(now.as_millis().max(1) << COUNT_BITS | most, Ordering::Release);
    }

    /// Output tokens to expect of an answer that may have at most `reserve`.
    pub(super) fn expected_output(&self, reserve: u64) -> u64 {
        match self.output.load(Ordering::Relaxed) {
            0 => reserve,
            seen => seen.min(reserve),
        }
    }

    /// A quarter of the difference at a time. Two at once may lose one sample.
    pub(super) fn note_output(&self, tokens: u64) {
        let seen = self.output.load(Ordering::Relaxed);
        let next = if seen == 0 { tokens } else { (seen * 3).saturating_add(tokens).div_ceil(4) };
        self.output.store(next, Ordering::Relaxed);
    }

    pub(super) fn mark_stale(&self) {
        self.stale.store(true, Ordering::Release);
    }

    /// Whether weights should be computed anew; asking clears it.
    pub fn take_stale(&self) -> bool {
        self.stale.swap(false, Ordering::AcqRel)
    }
}

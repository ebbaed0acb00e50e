//! One limit: a rate as GCRA in one atomic word, or a count of calls at once.
//!
//! The word is the moment up to which everything taken has flowed back (the theoretical arrival time of ITU-T I.371).
//! Taking `n` moves it by `n * window / limit`, and is refused if it would lie further ahead than the burst is long.
//! Costs are rounded down to whole ns: seven a minute are seven, and what is granted too much is below one ns a call.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use serde::Deserialize;

use super::At;

const MINUTE_NS: u64 = 60_000_000_000;
const DAY_NS: u64 = 24 * 60 * MINUTE_NS;
/// When a full count of calls at once is looked at again: nobody knows when a call ends.
const COUNT_AGAIN_MS: u64 = 50;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Axis {
    RequestsPerMinute,
    RequestsPerDay,
    /// Input and reserved output together.
    TokensPerMinute,
    InputTokensPerMinute,
    OutputTokensPerMinute,
    /// Calls at once.
    Concurrency,
}

impl Axis {
    /// 0 for calls at once, which do not flow back with time.
    pub const fn window_ns(self) -> u64 {
        match self {
            Axis::RequestsPerMinute
            | Axis::TokensPerMinute
            | Axis::InputTokensPerMinute
            | Axis::OutputTokensPerMinute => MINUTE_NS,
            Axis::RequestsPerDay => DAY_NS,
            Axis::Concurrency => 0,
        }
    }
}

/// How much of something may be taken.
#[derive(Debug)]
pub struct Bucket {
    axis: Axis,
    /// When all that was taken has flowed back, in ns.
    tat: AtomicU64,
    /// What the limit is worth in ns at once: `burst * window / limit`.
    burst_ns: AtomicU64,
    /// Per window; 0 = not known, nothing is refused.
    limit: AtomicU64,
    /// How far the word was ever moved back, in ns: see [`Bucket::settle`].
    given_back_ns: AtomicU64,
    /// Taken and not yet settled.
    held: AtomicU64,
    blocked_until: AtomicU64,
    widened_at: AtomicU64,
    sharers: AtomicU32,
}

/// What one call took of one bucket.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    pub(super) amount: u64,
    end_ns: u64,
    given_back_ns: u64,
}

/// Why a bucket gives nothing now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Empty {
    Until(At),
    /// More than it ever holds.
    Never,
}

impl Bucket {
    /// `limit` per window; 0 if it is still to be learnt.
    pub fn new(axis: Axis, limit: u64) -> Self {
        Self::with_burst(axis, limit, limit)
    }

    /// `burst` is how much may be taken at once after a rest.
    pub fn with_burst(axis: Axis, limit: u64, burst: u64) -> Self {
        Self {
            axis,
            tat: AtomicU64::new(0),
            burst_ns: AtomicU64::new(cost_ns(burst, axis.window_ns(), limit)),
            limit: AtomicU64::new(limit),
            given_back_ns: AtomicU64::new(0),
            held: AtomicU64::new(0),
            blocked_until: AtomicU64::new(0),
            widened_at: AtomicU64::new(0),
            sharers: AtomicU32::new(0),
        }
    }

    pub const fn axis(&self) -> Axis {
        self.axis
    }

    /// Per window; 0 = not known.
    pub fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Taken by calls that have not ended.
    pub fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// Accounts that live on this limit.
    pub fn sharers(&self) -> u32 {
        self.sharers.load(Ordering::Relaxed).max(1)
    }

    pub(super) fn join(&self) {
        self.sharers.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn leave(&self) {
        self.sharers.fetch_sub(1, Ordering::Relaxed);
    }

    /// The part of the burst that would be left after taking `n`, 0 to 1.
    pub(super) fn fits(&self, n: u64, now: At) -> Result<f32, Empty> {
        let limit = self.limit();
        self.open(now)?;
        if limit == 0 {
            return Ok(1.0);
        }
        if self.axis == Axis::Concurrency {
            let left = limit.saturating_sub(self.held());
            return if left >= n { Ok((left - n) as f32 / limit as f32) } else { Err(count_again(now)) };
        }
        let (end, burst) = self.after(self.tat.load(Ordering::Relaxed), n, limit, now)?;
        Ok(1.0 - (end - now.0) as f32 / burst as f32)
    }

    /// Takes `n` or nothing.
    pub(super) fn take(&self, n: u64, now: At) -> Result<Held, Empty> {
        let limit = self.limit();
        self.open(now)?;
        if self.axis == Axis::Concurrency {
            let more = |held: u64| (limit == 0 || held + n <= limit).then_some(held + n);
            return match self.held.fetch_update(Ordering::AcqRel, Ordering::Relaxed, more) {
                Ok(_) => Ok(Held { amount: n, end_ns: 0, given_back_ns: 0 }),
                Err(_) => Err(count_again(now)),
            };
        }
        let given_back_ns = self.given_back_ns.load(Ordering::Acquire);
        let mut end_ns = 0;
        if limit != 0 {
            let mut tat = self.tat.load(Ordering::Relaxed);
            loop {
                (end_ns, _) = self.after(tat, n, limit, now)?;
                match self.tat.compare_exchange_weak(tat, end_ns, Ordering::AcqRel, Ordering::Relaxed) {
                    Ok(_) => break,
                    Err(other) => tat = other,
                }
            }
        }
        self.held.fetch_add(n, Ordering::Relaxed);
        Ok(Held { amount: n, end_ns, given_back_ns })
    }

    fn open(&self, now: At) -> Result<(), Empty> {
        let until = self.blocked_until.load(Ordering::Relaxed);
        if now.0 < until { Err(Empty::Until(At(until))) } else { Ok(()) }
    }

    /// Where the word would be after taking `n`, and the length of the burst.
    fn after(&self, tat: u64, n: u64, limit: u64, now: At) -> Result<(u64, u64), Empty> {
        let burst = self.burst_ns.load(Ordering::Relaxed);
        let cost = cost_ns(n, self.axis.window_ns(), limit);
        if cost > burst {
            return Err(Empty::Never);
        }
        let end = tat.max(now.0).saturating_add(cost);
        if end - now.0 > burst { Err(Empty::Until(At(end - burst))) } else { Ok((end, burst)) }
    }

    /// The call has ended and really used `used`. What it took too little is taken now, whatever is left. Of what it
    /// took too much, only what has not flowed back yet is given back: the rest was refilled already, and would
    /// otherwise count twice. Where its part lies is known up to what others gave back since, which counts against it.
    pub(super) fn settle(&self, held: Held, used: u64, now: At) {
        self.held.fetch_sub(held.amount, Ordering::AcqRel);
        let (limit, window) = (self.limit(), self.axis.window_ns());
        if self.axis == Axis::Concurrency || limit == 0 {
            return;
        }
        if used > held.amount {
            let more = cost_ns(used - held.amount, window, limit);
            self.move_word(|tat| tat.max(now.0).saturating_add(more));
        } else if used < held.amount && held.end_ns > now.0 {
            let moved = self.given_back_ns.load(Ordering::Acquire).saturating_sub(held.given_back_ns);
            let left = held.end_ns.saturating_sub(moved).saturating_sub(now.0);
            self.give_back_ns(cost_ns(held.amount - used, window, limit).min(left));
        }
    }

    /// The call was never sent, at the moment it was taken.
    pub(super) fn undo(&self, held: Held) {
        self.held.fetch_sub(held.amount, Ordering::AcqRel);
        let limit = self.limit();
        if held.end_ns != 0 && limit != 0 {
            self.give_back_ns(cost_ns(held.amount, self.axis.window_ns(), limit));
        }
    }

    fn give_back_ns(&self, ns: u64) {
        if ns > 0 {
            self.move_word(|tat| tat.saturating_sub(ns));
            self.given_back_ns.fetch_add(ns, Ordering::AcqRel);
        }
    }

    fn move_word(&self, to: impl Fn(u64) -> u64) {
        let _always = self.tat.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |tat| Some(to(tat)));
    }

    /// The call has ended and nobody knows what it used: what it took flows back with time.
    pub(super) fn abandon(&self, held: Held) {
        self.held.fetch_sub(held.amount, Ordering::AcqRel);
    }

    /// Gives nothing before `until`. A later block is never shortened.
    pub(super) fn block(&self, until: At) {
        self.blocked_until.fetch_max(until.0, Ordering::AcqRel);
    }

    /// When it is blocked no longer, if it is.
    pub fn blocked(&self, now: At) -> Option<At> {
        let until = self.blocked_until.load(Ordering::Relaxed);
        (until > now.0).then_some(At(until))
    }

    /// The part of the burst that is left, 0 to 1.
    pub fn headroom(&self, now: At) -> f32 {
        self.fits(0, now).unwrap_or(0.0)
    }

    /// A provider said the limit. Lower counts at once and keeps what is owed; higher by a tenth a window. True if it
    /// moved.
    pub(super) fn learn_limit(&self, told: u64, now: At) -> bool {
        let known = self.limit();
        if told == 0 || told == known {
            return false;
        }
        let next = if known == 0 || told < known {
            told
        } else if self.may_widen(now) {
            told.min(known.saturating_add((known / 10).max(1)))
        } else {
            return false;
        };
        if self.limit.compare_exchange(known, next, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return false;
        }
        let window = self.axis.window_ns();
        self.burst_ns.store(cost_ns(next, window, next), Ordering::Release);
        if known != 0 && window != 0 {
            self.rescale(known, next, now);
        }
        true
    }

    /// What is owed stays the same number of tokens under another limit.
    fn rescale(&self, known: u64, next: u64, now: At) {
        let to = |tat: u64| {
            let owed = u128::from(tat.saturating_sub(now.0)) * u128::from(known) / u128::from(next);
            if tat <= now.0 { tat } else { now.0.saturating_add(u64::try_from(owed).unwrap_or(u64::MAX)) }
        };
        if next > known {
            let before = self.tat.load(Ordering::Acquire);
            self.give_back_ns(before.saturating_sub(to(before)));
        } else {
            self.move_word(to);
        }
    }

    /// A provider said what remains. Less than thought counts at once. More, after what calls in flight still hold, is
    /// believed up to a tenth of the burst a window.
    pub(super) fn learn_remaining(&self, remaining: u64, now: At) {
        let (limit, window) = (self.limit(), self.axis.window_ns());
        if limit == 0 || window == 0 {
            return;
        }
        let burst = self.burst_ns.load(Ordering::Relaxed);
        let tat = self.tat.load(Ordering::Acquire);
        let at_least = now.0.saturating_add(burst.saturating_sub(cost_ns(remaining, window, limit)));
        if at_least > tat {
            self.move_word(|tat| tat.max(at_least));
            return;
        }
        let sure = remaining.saturating_sub(self.held());
        let at_most = now.0.saturating_add(burst.saturating_sub(cost_ns(sure, window, limit)));
        if tat > at_most && self.may_widen(now) {
            self.give_back_ns((tat - at_most).min(burst / 10));
        }
    }

    fn may_widen(&self, now: At) -> bool {
        let window = self.axis.window_ns().clamp(1, MINUTE_NS);
        let due = |last: u64| (last == 0 || now.0.saturating_sub(last) >= window).then_some(now.0.max(1));
        self.widened_at.fetch_update(Ordering::AcqRel, Ordering::Relaxed, due).is_ok()
    }
}

fn count_again(now: At) -> Empty {
    Empty::Until(now.plus_ms(COUNT_AGAIN_MS))
}

/// `n * window / limit`, rounded down.
fn cost_ns(n: u64, window: u64, limit: u64) -> u64 {
    if limit == 0 {
        return 0;
    }
    match n.checked_mul(window) {
        Some(product) => product / limit,
        None => {
            let exact = u128::from(n) * u128::from(window) / u128::from(limit);
            u64::try_from(exact).unwrap_or(u64::MAX)
        }
    }
}

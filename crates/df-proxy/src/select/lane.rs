//! One model at one account: the limits a call there must fit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use smallvec::SmallVec;

use super::bucket::{Empty, Held};
use super::pick::Need;
use super::{At, Axis, Bucket, Cause, Cooling, Upstream, Used};

/// Axes that providers announce in headers; each lane can learn them.
const LEARNT: [Axis; 5] = [
    Axis::RequestsPerMinute,
    Axis::RequestsPerDay,
    Axis::TokensPerMinute,
    Axis::InputTokensPerMinute,
    Axis::OutputTokensPerMinute,
];
/// Tokens that stand for a request where only requests are limited.
const TOKENS_PER_REQUEST: u64 = 2_000;
/// Weight of an account whose limits nobody knows, in tokens a minute.
const UNKNOWN_CAPACITY: u64 = 1_000_000;

/// The limits of a call to one model through one account: given ones, shared or not, and learnt ones of its own.
#[derive(Debug)]
pub struct Lane {
    given: Box<[Arc<Bucket>]>,
    learnt: [Bucket; LEARNT.len()],
    /// A bit per learnt axis that has a limit; the others are not looked at.
    known: AtomicU8,
    pub(super) cooling: Cooling,
    upstream: Arc<Upstream>,
}

/// What a call holds of all buckets of its lane.
#[derive(Debug, Default)]
pub(super) struct Holding {
    given: SmallVec<[Held; 4]>,
    learnt: SmallVec<[(u8, Held); 4]>,
}

impl Lane {
    /// `given` are configured limits; what is not among them can be learnt.
    pub fn new(given: Vec<Arc<Bucket>>, upstream: Arc<Upstream>) -> Self {
        given.iter().for_each(|bucket| bucket.join());
        let learnt = LEARNT.map(|axis| Bucket::new(axis, 0));
        Self { given: given.into(), learnt, known: AtomicU8::new(0), cooling: Cooling::default(), upstream }
    }

    pub fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }

    /// Until when the provider's rate limit shuts it, if it does.
    pub fn rate_limited(&self, now: At) -> Option<At> {
        let cooled =
            self.cooling.state(now).filter(|(_, cause)| *cause == Cause::Rate).map(|(until, _)| until);
        self.buckets().filter_map(|bucket| bucket.blocked(now)).chain(cooled).max()
    }

    fn known(&self) -> impl Iterator<Item = u8> {
        let mut mask = self.known.load(Ordering::Acquire);
        std::iter::from_fn(move || {
            let bit = u8::try_from(mask.trailing_zeros()).ok().filter(|_| mask != 0)?;
            mask &= mask - 1;
            Some(bit)
        })
    }

    pub(super) fn buckets(&self) -> impl Iterator<Item = &Bucket> {
        self.given.iter().map(AsRef::as_ref).chain(self.known().map(|bit| &self.learnt[usize::from(bit)]))
    }

    /// The bucket that answers for `axis`, if there is one.
    pub(super) fn bucket(&self, axis: Axis) -> Option<&Bucket> {
        self.buckets().find(|bucket| bucket.axis() == axis)
    }

    /// The same, made known if it was not.
    pub(super) fn bucket_to_learn(&self, axis: Axis) -> Option<&Bucket> {
        if let Some(given) = self.given.iter().find(|bucket| bucket.axis() == axis) {
            return Some(given);
        }
        let bit = LEARNT.iter().position(|known| *known == axis)?;
        self.known.fetch_or(1 << bit, Ordering::AcqRel);
        self.learnt.get(bit)
    }

    fn amount(&self, axis: Axis, need: &Need<'_>) -> u64 {
        match axis {
            Axis::RequestsPerMinute | Axis::RequestsPerDay | Axis::Concurrency => 1,
            Axis::TokensPerMinute => need.input.saturating_add(need.output),
            Axis::InputTokensPerMinute => need.input,
            Axis::OutputTokensPerMinute => self.upstream.expected_output(need.output),
        }
    }

    /// The least part of a burst that would be left; or when the last of its buckets will have room.
    pub(super) fn fits(&self, need: &Need<'_>, now: At) -> Result<f32, Empty> {
        let (mut least, mut until): (f32, Option<At>) = (1.0, None);
        for bucket in self.buckets() {
            match bucket.fits(self.amount(bucket.axis(), need), now) {
                Ok(room) => least = least.min(room),
                Err(Empty::Until(at)) => until = until.max(Some(at)),
                Err(Empty::Never) => return Err(Empty::Never),
            }
        }
        until.map_or(Ok(least), |at| Err(Empty::Until(at)))
    }

    /// Takes from every bucket or from none.
    pub(super) fn take(&self, need: &Need<'_>, now: At) -> Result<Holding, Empty> {
        let mut holding = Holding::default();
        for bucket in &self.given {
            match bucket.take(self.amount(bucket.axis(), need), now) {
                Ok(held) => holding.given.push(held),
                Err(empty) => {
                    self.undo(&holding);
                    return Err(empty);
                }
            }
        }
        for bit in self.known() {
            let bucket = &self.learnt[usize::from(bit)];
            match bucket.take(self.amount(bucket.axis(), need), now) {
                Ok(held) => holding.learnt.push((bit, held)),
                Err(empty) => {
                    self.undo(&holding);
                    return Err(empty);
                }
            }
        }
        Ok(holding)
    }

    fn each<'a>(&'a self, holding: &'a Holding) -> impl Iterator<Item = (&'a Bucket, Held)> {
        let given = self.given.iter().map(AsRef::as_ref).zip(holding.given.iter().copied());
        given.chain(holding.learnt.iter().map(|(bit, held)| (&self.learnt[usize::from(*bit)], *held)))
    }

    /// Nothing was sent.
    pub(super) fn undo(&self, holding: &Holding) {
        self.each(holding).for_each(|(bucket, held)| bucket.undo(held));
    }

    pub(super) fn abandon(&self, holding: &Holding) {
        self.each(holding).for_each(|(bucket, held)| bucket.abandon(held));
    }

    pub(super) fn settle(&self, holding: &Holding, used: Used, now: At) {
        for (bucket, held) in self.each(holding) {
            let used = match bucket.axis() {
                Axis::RequestsPerMinute | Axis::RequestsPerDay | Axis::Concurrency => held.amount,
                Axis::TokensPerMinute => used.input.saturating_add(used.output),
                Axis::InputTokensPerMinute => used.input.saturating_sub(used.cached),
                Axis::OutputTokensPerMinute => used.output,
            };
            bucket.settle(held, used, now);
        }
    }

    /// Tokens a minute that this lane can be expected to take: its tightest limit, divided by those who share it.
    pub(super) fn capacity(&self) -> u64 {
        let tokens = |bucket: &Bucket| {
            let per_minute = match bucket.axis() {
                Axis::RequestsPerMinute => bucket.limit().saturating_mul(TOKENS_PER_REQUEST),
                Axis::TokensPerMinute | Axis::InputTokensPerMinute => bucket.limit(),
                // A day's limit may be used in an hour; output and calls at once say little about input.
                Axis::RequestsPerDay | Axis::OutputTokensPerMinute | Axis::Concurrency => return None,
            };
            (per_minute > 0).then(|| (per_minute / u64::from(bucket.sharers())).max(1))
        };
        self.buckets().filter_map(tokens).min().unwrap_or(UNKNOWN_CAPACITY)
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.given.iter().for_each(|bucket| bucket.leave());
    }
}

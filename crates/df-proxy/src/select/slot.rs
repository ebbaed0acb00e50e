//! An account as the pick sees it: standing, health, load.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use super::{At, Cause, Gate};

/// Half of a bad name is forgotten in this time.
const FORGIVE_MS: u64 = 30_000;
/// Half of a latency is forgotten in this time, so that a slow account is tried again.
const FORGET_MS: u64 = 60_000;
const FULL: u64 = u16::MAX as u64;
const TTFT_BITS: u32 = 24;
const TTFT_UNIT_NS: u64 = 100_000;

/// Who an account is, chosen by the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId(pub u32);

/// What the operator wants of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Active,
    /// Finishes what it has and gets nothing new.
    Draining,
    /// The same, and the next rebuild of its tiers leaves it out.
    Retired,
}

/// Live state of one account. Everything is an atomic: to cool one account is one store.
#[derive(Debug)]
pub struct Slot {
    id: SlotId,
    price_band: u8,
    standing: AtomicU8,
    in_flight: AtomicU32,
    /// `ms << 16 | success`, success 0 to 65535.
    health: AtomicU64,
    /// `ms << 24 | time to the first token in 0.1 ms`.
    ttft: AtomicU64,
    gate: Gate,
    /// Billing domains it shares with others.
    purses: Box<[Arc<Gate>]>,
}

impl Slot {
    pub fn new(id: SlotId, price_band: u8, purses: Vec<Arc<Gate>>, standing: Standing) -> Self {
        let slot = Self {
            id,
            price_band,
            standing: AtomicU8::new(0),
            in_flight: AtomicU32::new(0),
            health: AtomicU64::new(FULL),
            ttft: AtomicU64::new(0),
            gate: Gate::default(),
            purses: purses.into(),
        };
        slot.set_standing(standing);
        slot
    }

    pub const fn id(&self) -> SlotId {
        self.id
    }

    pub(super) const fn price_band(&self) -> u8 {
        self.price_band
    }

    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub fn set_standing(&self, standing: Standing) {
        let word = match standing {
            Standing::Active => 0,
            Standing::Draining => 1,
            Standing::Retired => 2,
        };
        self.standing.store(word, Ordering::Release);
    }

    pub fn is_active(&self) -> bool {
        self.standing.load(Ordering::Acquire) == 0
    }

    pub(super) fn is_retired(&self) -> bool {
        self.standing.load(Ordering::Acquire) == 2
    }

    /// The account itself is out, or a domain that pays for it.
    pub fn cooling(&self, now: At) -> Option<(At, Cause)> {
        self.gates().filter_map(|gate| gate.cooling.state(now)).max_by_key(|(until, _)| *until)
    }

    pub(super) fn gates(&self) -> impl Iterator<Item = &Gate> {
        std::iter::once(&self.gate).chain(self.purses.iter().map(AsRef::as_ref))
    }

    pub(super) const fn gate(&self) -> &Gate {
        &self.gate
    }

    pub(super) fn purses(&self) -> &[Arc<Gate>] {
        &self.purses
    }

    pub(super) fn enter(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn leave(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// Smoothed success, 0 to 1; a bad name fades with time.
    pub fn health(&self, now: At) -> f32 {
        let word = self.health.load(Ordering::Relaxed);
        let success = (word & FULL) as f32 / FULL as f32;
        if success >= 1.0 {
            return 1.0;
        }
        let age = now.as_millis().saturating_sub(word >> 16) as f32 / FORGIVE_MS as f32;
        1.0 - (1.0 - success) * (-age).exp2()
    }

    pub(super) fn note_outcome(&self, good: f32, now: At) {
        let known = self.health(now);
        if known >= 1.0 && good >= 1.0 {
            return;
        }
        let next = known + (good - known) / 8.0;
        // Close enough to full counts as full, or it would never get there.
        let word = if next > 0.999 { FULL } else { (next.max(0.01) * FULL as f32) as u64 };
        self.health.store(now.as_millis() << 16 | word, Ordering::Relaxed);
    }

    /// Smoothed time to the first token in ms; 0 if none is known any more, so that it is tried.
    pub fn ttft_ms(&self, now: At) -> f32 {
        let word = self.ttft.load(Ordering::Relaxed);
        let value = word & ((1 << TTFT_BITS) - 1);
        let age = now.as_millis().saturating_sub(word >> TTFT_BITS) / FORGET_MS;
        let units = if age < u64::from(TTFT_BITS) { value >> age } else { 0 };
        units as f32 * (TTFT_UNIT_NS as f32 / 1e6)
    }

    pub(super) fn note_ttft(&self, ns: u64, now: At) {
        let sample = (ns / TTFT_UNIT_NS).clamp(1, (1 << TTFT_BITS) - 1);
        let known = (self.ttft_ms(now) * (1e6 / TTFT_UNIT_NS as f32)) as u64;
        let next = if known == 0 { sample } else { (known * 3 + sample).div_ceil(4) };
        self.ttft.store(now.as_millis() << TTFT_BITS | next, Ordering::Relaxed);
    }
}

//! A circuit breaker: closed, open until a moment, then one probe, then a ramp.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::At;

/// The first opening; each further one without a success between is twice as long.
const FIRST_OPEN_MS: u64 = 5_000;
const MAX_OPEN_MS: u64 = 300_000;
/// A probe that has not reported by then is lent to another call.
const PROBE_LEASE_MS: u64 = 60_000;
/// How long the ramp takes from a tenth to all.
const RAMP_MS: u64 = 60_000;
const RAMP_START: f32 = 0.1;

/// Closed as it is made.
#[derive(Debug, Default)]
pub struct Breaker {
    /// 0 = closed.
    open_until: AtomicU64,
    probe_until: AtomicU64,
    ramp_from: AtomicU64,
    failures: AtomicU32,
    openings: AtomicU32,
}

impl Breaker {
    /// The share of its traffic it may have, 0.1 to 1; or when it may be asked again.
    pub fn share(&self, now: At) -> Result<f32, At> {
        let open = self.open_until.load(Ordering::Acquire);
        if open != 0 {
            let until = if now.0 < open { open } else { self.probe_until.load(Ordering::Acquire) };
            return if now.0 < until { Err(At(until)) } else { Ok(RAMP_START) };
        }
        let from = self.ramp_from.load(Ordering::Relaxed);
        if from == 0 {
            return Ok(1.0);
        }
        let passed = now.0.saturating_sub(from) as f32 / At::from_millis(RAMP_MS).0 as f32;
        Ok((RAMP_START + (1.0 - RAMP_START) * passed).min(1.0))
    }

    /// Lets a call through: true if it is the probe.
    pub(super) fn enter(&self, now: At) -> Result<bool, At> {
        let open = self.open_until.load(Ordering::Acquire);
        if open == 0 {
            return Ok(false);
        }
        if now.0 < open {
            return Err(At(open));
        }
        let lend = |until: u64| (until <= now.0).then_some(now.plus_ms(PROBE_LEASE_MS).0);
        match self.probe_until.fetch_update(Ordering::AcqRel, Ordering::Acquire, lend) {
            Ok(_) => Ok(true),
            Err(until) => Err(At(until)),
        }
    }

    /// The probe ended without showing anything; another may be sent.
    pub(super) fn release_probe(&self) {
        self.probe_until.store(0, Ordering::Release);
    }

    pub(super) fn succeed(&self, now: At) {
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
        let open = self.open_until.load(Ordering::Acquire);
        // Calls sent before it opened end while it is open, and say nothing of how it is now.
        if open == 0 || now.0 < open {
            return;
        }
        if self.open_until.compare_exchange(open, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            self.openings.store(0, Ordering::Relaxed);
            self.ramp_from.store(now.0.max(1), Ordering::Relaxed);
            self.release_probe();
        }
    }

    /// Counts a failure; `limit` in a row, or a failed probe, open it. True if it opened.
    pub(super) fn fail(&self, limit: u32, now: At) -> bool {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let open = self.open_until.load(Ordering::Acquire);
        let probe_failed = open != 0 && now.0 >= open;
        if !probe_failed && (open != 0 || failures < limit) {
            return false;
        }
        let openings = self.openings.fetch_add(1, Ordering::Relaxed).min(16);
        self.trip(now.plus_ms((FIRST_OPEN_MS << openings).min(MAX_OPEN_MS)));
        true
    }

    /// Opens it until then at least.
    pub(super) fn trip(&self, until: At) {
        self.open_until.fetch_max(until.0.max(1), Ordering::AcqRel);
        self.ramp_from.store(0, Ordering::Relaxed);
        self.release_probe();
    }
}

//! The right to make one call, and what it holds until it ends.

use std::sync::Arc;

use smallvec::SmallVec;

use super::lane::Holding;
use super::{At, Lane, Slot, Verdict};

/// Tokens that really were used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Used {
    pub input: u64,
    /// How much of the input came from a cache. It counts against limits of all tokens, not against those of input.
    pub cached: u64,
    pub output: u64,
}

/// A place at an account. Dropped without a word, it frees the place; what it took of the rates flows back with time.
#[derive(Debug)]
pub struct Permit {
    pub(super) slot: Arc<Slot>,
    pub(super) lane: Arc<Lane>,
    holding: Option<Holding>,
    /// The gates, by position, whose probe this call is.
    probes: SmallVec<[u8; 2]>,
}

impl Permit {
    pub(super) fn new(slot: Arc<Slot>, lane: Arc<Lane>, holding: Holding) -> Self {
        slot.enter();
        lane.upstream().enter();
        Self { slot, lane, holding: Some(holding), probes: SmallVec::new() }
    }

    /// Passes every gate, as its probe where it is half open; or when that may be tried again.
    pub(super) fn enter(&mut self, now: At) -> Result<(), At> {
        for (i, gate) in (0u8..).zip(self.slot.gates().chain([&self.lane.upstream().gate])) {
            if gate.breaker.enter(now)? {
                self.probes.push(i);
            }
        }
        Ok(())
    }

    pub fn lane(&self) -> &Arc<Lane> {
        &self.lane
    }

    /// The request was never sent.
    pub fn cancel(mut self) {
        if let Some(holding) = self.holding.take() {
            self.lane.undo(&holding);
        }
    }

    /// The call ended: `used` is what it took, if anybody knows, and `verdict` what it showed about whom.
    pub fn end(mut self, used: Option<Used>, verdict: Verdict, now: At) {
        if let Some(holding) = self.holding.take() {
            match used {
                Some(used) => {
                    self.lane.settle(&holding, used, now);
                    if used.output > 0 {
                        self.lane.upstream().note_output(used.output);
                    }
                }
                None => self.lane.abandon(&holding),
            }
        }
        verdict.apply(&self.slot, &self.lane, now);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(holding) = self.holding.take() {
            self.lane.abandon(&holding);
        }
        self.slot.leave();
        self.lane.upstream().leave();
        for (i, gate) in (0u8..).zip(self.slot.gates().chain([&self.lane.upstream().gate])) {
            if self.probes.contains(&i) {
                gate.breaker.release_probe();
            }
        }
    }
}

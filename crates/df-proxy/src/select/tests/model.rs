//! The slow reference: one bucket as a queue of debts in exact arithmetic.

use std::collections::VecDeque;

/// Amounts are tokens times the window in ns, so that `limit` of them flow back per ns and nothing is ever rounded.
#[derive(Debug, Clone)]
pub(super) struct ExactBucket {
    pub(super) limit: u128,
    burst: u128,
    window: u128,
    now: u64,
    /// Oldest first: who owes how much.
    debts: VecDeque<(usize, u128)>,
}

impl ExactBucket {
    pub(super) fn new(limit: u64, burst: u64, window_ns: u64, now: u64) -> Self {
        let window = u128::from(window_ns);
        Self { limit: limit.into(), burst: u128::from(burst) * window, window, now, debts: VecDeque::new() }
    }

    pub(super) fn advance(&mut self, now: u64) {
        let mut back = u128::from(now - self.now) * self.limit;
        self.now = now;
        while let Some((_, debt)) = self.debts.front_mut() {
            if *debt > back {
                *debt -= back;
                break;
            }
            back -= *debt;
            self.debts.pop_front();
        }
    }

    fn owed(&self) -> u128 {
        self.debts.iter().map(|(_, debt)| debt).sum()
    }

    /// Whether `n` fits if `slack_ns` of rounding were forgiven.
    pub(super) fn fits(&self, n: u64, slack_ns: u128) -> bool {
        self.owed() + u128::from(n) * self.window <= self.burst + slack_ns * self.limit
    }

    pub(super) fn take(&mut self, who: usize, n: u64) {
        self.debts.push_back((who, u128::from(n) * self.window));
    }

    /// Gives back at most `n` of what `who` still owes.
    pub(super) fn give_back(&mut self, who: usize, n: u64) {
        let mut left = u128::from(n) * self.window;
        for (_, debt) in self.debts.iter_mut().filter(|(w, _)| *w == who) {
            let part = left.min(*debt);
            *debt -= part;
            left -= part;
        }
    }

    /// When `n` fits, if it ever does.
    pub(super) fn earliest(&self, n: u64) -> Option<u64> {
        let cost = u128::from(n) * self.window;
        let over = (self.owed() + cost).saturating_sub(self.burst);
        let wait = u64::try_from(over.div_ceil(self.limit)).unwrap();
        (cost <= self.burst).then_some(self.now + wait)
    }
}

//! A limit on requests per key: the generic cell rate algorithm (ITU-T I.371) over a fixed number of cells.
//!
//! Each cell holds the time at which its key will have paid for what it has used. Keys that fall into the same cell
//! share it, which can only make the limit stricter; the memory never grows.

use std::sync::atomic::{AtomicU64, Ordering};

use df_contract::{DurationMs, KeyId, Timestamp};

use crate::limits::{RATE_BURST, RATE_PER_SECOND};

const CELLS: usize = 4_096;
/// What one request costs, in microseconds.
const COST_US: u64 = 1_000_000 / RATE_PER_SECOND;
const TOLERANCE_US: u64 = COST_US * RATE_BURST;
/// Two requests of one key meet in one cell; each loses at most this often.
const MAX_TRIES: usize = 16;

#[derive(Debug)]
pub(crate) struct RateLimit {
    cells: Vec<AtomicU64>,
}

impl RateLimit {
    pub(crate) fn new() -> Self {
        Self { cells: (0..CELLS).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Takes one request, or says how long to wait.
    pub(crate) fn take(&self, key: KeyId, now: Timestamp) -> Result<(), DurationMs> {
        let [.., a, b] = *key.uuid().as_bytes();
        let Some(cell) = self.cells.get(usize::from(u16::from_be_bytes([a, b])) % CELLS) else {
            return Ok(());
        };
        let now = now.as_millis().saturating_mul(1_000);
        let mut paid = cell.load(Ordering::Relaxed);
        for _ in 0..MAX_TRIES {
            // Further ahead than the tolerance only when the clock was set back: start anew.
            let ahead = paid.saturating_sub(now);
            let from = if ahead > TOLERANCE_US { now } else { paid.max(now) };
            let next = from + COST_US;
            if next - now > TOLERANCE_US {
                return Err(DurationMs((next - now - TOLERANCE_US).div_ceil(1_000)));
            }
            match cell.compare_exchange_weak(paid, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(other) => paid = other,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_taken_then_the_pace_rules() {
        let limit = RateLimit::new();
        let key = KeyId::mint(Timestamp(0), [1; 10]);
        let start = Timestamp(1_000_000);
        for _ in 0..RATE_BURST {
            assert_eq!(limit.take(key, start), Ok(()));
        }
        assert_eq!(limit.take(key, start), Err(DurationMs(1_000 / RATE_PER_SECOND)));
        assert_eq!(limit.take(KeyId::mint(Timestamp(0), [2; 10]), start), Ok(()), "another key has its own");
        let later = start.plus(DurationMs(1_000));
        let taken = (0..2 * RATE_PER_SECOND).filter(|_| limit.take(key, later).is_ok()).count();
        assert_eq!(taken as u64, RATE_PER_SECOND);
    }

    #[test]
    fn a_clock_set_back_locks_nobody_out() {
        let limit = RateLimit::new();
        let key = KeyId::mint(Timestamp(0), [1; 10]);
        assert_eq!(limit.take(key, Timestamp(10_000_000)), Ok(()));
        assert_eq!(limit.take(key, Timestamp(1_000)), Ok(()));
    }
}

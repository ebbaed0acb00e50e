//! Many at once against one budget, watched the whole time.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;

const CALLERS: u64 = 1_000;
const CAP: u64 = 20_000;

/// What one caller has: calls of differing size that use differing parts of it, some of which fail or are dropped.
/// Answers what was charged.
async fn caller(ledger: Ledger, n: u64) -> u64 {
    let mut charged = 0;
    for turn in 0..6 {
        let size = 1 + (n * 31 + turn * 17) % 23;
        let caps = [cap("job", CAP), cap(&format!("task{}", n % 4), CAP / 3)];
        let held = match ledger.reserve(payer_of(1, attempt(n)), &caps, amount(size, size)) {
            Ok(held) => held,
            Err(LedgerError::Exhausted(_)) => continue,
            Err(other) => panic!("{other}"),
        };
        tokio::task::yield_now().await;
        match (n + turn) % 5 {
            0 => drop(held),
            1 => {
                held.settle(Outcome::Failed);
                continue;
            }
            2 => held.settle(Outcome::Estimated),
            _ => {
                held.settle(Outcome::Settled(amount(size, size / 2)));
                charged += size + size / 2;
                continue;
            }
        }
        charged += 2 * size;
    }
    charged
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_callers_never_overdraw_and_the_end_is_the_sum_of_the_rows() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path()).await;
    let (done, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let watcher = std::thread::spawn({
        let (ledger, done, seen) = (ledger.clone(), Arc::clone(&done), Arc::clone(&seen));
        move || {
            while !done.load(Ordering::Acquire) {
                for (name, cap) in [("job", CAP), ("task0", CAP / 3), ("task3", CAP / 3)] {
                    let (spent, held) = level(&ledger, name);
                    assert!(spent + held <= cap, "{name}: {spent} spent and {held} held of {cap}");
                }
                seen.fetch_add(1, Ordering::AcqRel);
            }
        }
    });
    let callers: Vec<_> = (0..CALLERS).map(|n| tokio::spawn(caller(ledger.clone(), n))).collect();
    let mut charged = 0;
    for caller in callers {
        charged += caller.await.unwrap();
    }
    while seen.load(Ordering::Acquire) == 0 {
        tokio::task::yield_now().await;
    }
    done.store(true, Ordering::Release);
    watcher.join().unwrap();
    assert_eq!(level(&ledger, "job"), (charged, 0));
    assert!(charged <= CAP && charged > CAP - 100, "the cap is used up: {charged}");
    ledger.close().await;
    let ledger = open(dir.path()).await;
    let rows = all_rows(&ledger, MAX_PAGE).await;
    let sum = rows.iter().map(|r| r.input_tokens.0 + r.output_tokens.0).sum::<u64>();
    assert_eq!((sum, level(&ledger, "job")), (charged, (charged, 0)));
    let tasks: u64 = (0..4).map(|n| level(&ledger, &format!("task{n}")).0).sum();
    assert_eq!(tasks, charged);
    assert!(rows.windows(2).all(|w| w[0].seq < w[1].seq));
}

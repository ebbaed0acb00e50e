//! Buckets against the exact model, and under threads.

use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;

use super::super::bucket::Held;
use super::model::ExactBucket;
use super::*;

#[derive(Debug, Clone)]
enum Op {
    Pass(u64),
    Take(u64),
    /// Ends one of the open calls, having used so many parts of 16 of what it took.
    End(usize, u64),
}

fn ops(only_full: bool) -> impl Strategy<Value = Vec<Op>> {
    let used = if only_full { 16..=16u64 } else { 0..=24u64 };
    let op = prop_oneof![
        (0u64..20_000_000_000).prop_map(Op::Pass),
        (1u64..600).prop_map(Op::Take),
        (any::<usize>(), used).prop_map(|(i, used)| Op::End(i, used)),
    ];
    prop::collection::vec(op, 1..150)
}

struct Run {
    bucket: Bucket,
    exact: ExactBucket,
    now: At,
    open: Vec<(usize, u64, Held)>,
    taken: usize,
    steps: u128,
}

impl Run {
    fn new(limit: u64, burst: u64) -> Self {
        let axis = Axis::TokensPerMinute;
        Self {
            bucket: Bucket::with_burst(axis, limit, burst),
            exact: ExactBucket::new(limit, burst, axis.window_ns(), START.0),
            now: START,
            open: Vec::new(),
            taken: 0,
            steps: 0,
        }
    }

    /// Returns whether a taking was granted, and whether the model would have: forgiven one ns for each taking and
    /// each end so far, and exactly.
    fn step(&mut self, op: &Op) -> Option<(bool, bool, bool)> {
        self.steps += 1;
        match *op {
            Op::Pass(ns) => {
                self.now = At(self.now.0 + ns);
                self.exact.advance(self.now.0);
                None
            }
            Op::Take(n) => {
                let (fits, surely) = (self.exact.fits(n, self.steps), self.exact.fits(n, 0));
                let seen = self.bucket.fits(n, self.now).is_ok();
                let got = self.bucket.take(n, self.now);
                assert_eq!(seen, got.is_ok(), "looking and taking agree");
                if let Ok(held) = got {
                    self.taken += 1;
                    self.exact.take(self.taken, n);
                    self.open.push((self.taken, n, held));
                }
                Some((got.is_ok(), fits, surely))
            }
            Op::End(i, parts) => {
                if !self.open.is_empty() {
                    let (who, n, held) = self.open.swap_remove(i % self.open.len());
                    let used = n * parts / 16;
                    self.bucket.settle(held, used, self.now);
                    match used.checked_sub(n) {
                        Some(more) => self.exact.take(who, more),
                        None => self.exact.give_back(who, n - used),
                    }
                }
                None
            }
        }
    }
}

proptest! {
    /// Whatever was given back or overdrawn on the way: what the model refuses is refused.
    #[test]
    fn a_bucket_never_grants_more_than_the_model(limit in 1u64..5_000, part in 1u64..=4, ops in ops(false)) {
        let mut run = Run::new(limit, (limit / part).max(1));
        for op in &ops {
            if let Some((granted, fits, _)) = run.step(op) {
                prop_assert!(fits || !granted, "{op:?}");
            }
        }
        let held: u64 = run.open.iter().map(|(_, n, _)| n).sum();
        prop_assert_eq!(run.bucket.held(), held);
    }

    /// Without giving back, it refuses nothing too much.
    #[test]
    fn a_bucket_grants_what_the_model_grants(limit in 1u64..5_000, ops in ops(true)) {
        let mut run = Run::new(limit, limit);
        for op in &ops {
            if let Some((granted, _, surely)) = run.step(op) {
                prop_assert!(granted || !surely, "{op:?}");
            }
        }
    }

    /// What comes back at once comes back whole.
    #[test]
    fn giving_back_at_once_leaves_the_bucket_as_it_was(limit in 10u64..5_000, n in 1u64..10) {
        let run = Run::new(limit, limit);
        for _ in 0..1_000 {
            let held = run.bucket.take(n, START).unwrap();
            run.bucket.undo(held);
        }
        prop_assert!(run.bucket.take(limit, START).is_ok());
    }
}

#[test]
fn what_flowed_back_while_a_call_ran_is_not_given_back_again() {
    let bucket = Bucket::new(Axis::TokensPerMinute, 1_000);
    let first = bucket.take(1_000, START).unwrap();
    let later = START.plus_ms(60_000);
    assert!(bucket.take(1_000, later).is_ok());
    bucket.settle(first, 0, later);
    assert!(bucket.take(1, later).is_err());
}

#[test]
fn a_limit_of_calls_at_once_counts_them() {
    let bucket = Bucket::new(Axis::Concurrency, 2);
    let held = [bucket.take(1, START).unwrap(), bucket.take(1, START).unwrap()];
    assert!(bucket.take(1, START).is_err());
    held.into_iter().for_each(|held| bucket.settle(held, 1, START));
    assert!(bucket.take(1, START).is_ok());
}

#[test]
fn many_threads_cannot_overdraw_a_shared_domain() {
    const LIMIT: u64 = 1_000;
    let shared = Arc::new(Bucket::new(Axis::TokensPerMinute, LIMIT));
    let tier = Tier::new(
        (0..40).map(|i| member_of(i, vec![Arc::clone(&shared)], Vec::new(), &Arc::default())).collect(),
    );
    let (out, most) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..8u64 {
            let (tier, out, most) = (&tier, &out, &most);
            scope.spawn(move || {
                for i in 0..500 {
                    let n = mix64(thread << 32 | i) % 90 + 1;
                    let need = Need { input: n, ..Need::default() };
                    let Choice::Picked(picked) = tier.pick(&need, mix64(i), START) else { continue };
                    most.fetch_max(out.fetch_add(n, Ordering::SeqCst) + n, Ordering::SeqCst);
                    out.fetch_sub(n, Ordering::SeqCst);
                    picked.permit.cancel();
                }
            });
        }
    });
    assert!(most.into_inner() <= LIMIT);
    assert_eq!(shared.held(), 0);
    assert!(shared.take(LIMIT, START).is_ok(), "everything came back");
}

//! What a pick and its admission cost, by the number of accounts: `cargo bench -p df-proxy --bench pick`.
//!
//! Each round picks, reserves on every bucket of the lane, and settles with less than was reserved. The accounts are
//! of three sizes, have limits of their own on requests and tokens, and every tenth shares a domain with its
//! neighbours. Time moves on with every pick, so that nobody runs dry. Measured is the processor's time of the thread, so that
//! other work on the machine counts only by what it takes from the caches.

use std::hint::black_box;
use std::sync::Arc;

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use df_proxy::select::{
    At, Axis, Bucket, Choice, Draws, Lane, Member, Need, Slot, SlotId, Standing, Tier, Upstream, Used,
    Verdict,
};
use rustix::time::{ClockId, clock_gettime};

/// Tokens a minute of small, middling and large accounts, and how many of ten are of each.
const SIZES: [(u64, usize); 3] = [(40_000, 6), (400_000, 3), (4_000_000, 1)];
/// Accounts of one domain.
const DOMAIN: usize = 10;

fn tier(accounts: usize) -> Tier {
    let upstream = Arc::new(Upstream::default());
    let sizes: Vec<u64> = SIZES.iter().flat_map(|(size, n)| std::iter::repeat_n(*size, *n)).collect();
    let mut shared = Arc::new(Bucket::new(Axis::TokensPerMinute, 4_000_000));
    let member = |i: usize| {
        let tokens = sizes[i % sizes.len()];
        if i.is_multiple_of(DOMAIN * DOMAIN) {
            shared = Arc::new(Bucket::new(Axis::TokensPerMinute, 4_000_000));
        }
        let mut given = vec![
            Arc::new(Bucket::new(Axis::RequestsPerMinute, tokens / 100)),
            Arc::new(Bucket::new(Axis::TokensPerMinute, tokens)),
        ];
        if (i / DOMAIN).is_multiple_of(DOMAIN) {
            given.push(Arc::clone(&shared));
        }
        let slot = Slot::new(SlotId(i as u32), 0, Vec::new(), Standing::Active);
        Member::new(Arc::new(slot), Arc::new(Lane::new(given, Arc::clone(&upstream))))
    };
    Tier::new((0..accounts).map(member).collect())
}

/// Nanoseconds on a processor.
struct CpuTime(WallTime);

impl Measurement for CpuTime {
    type Intermediate = u64;
    type Value = u64;

    fn start(&self) -> u64 {
        let now = clock_gettime(ClockId::ThreadCPUTime);
        now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
    }

    fn end(&self, start: u64) -> u64 {
        self.start() - start
    }

    fn add(&self, a: &u64, b: &u64) -> u64 {
        a + b
    }

    fn zero(&self) -> u64 {
        0
    }

    fn to_f64(&self, value: &u64) -> f64 {
        *value as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        self.0.formatter()
    }
}

fn pick(c: &mut Criterion<CpuTime>) {
    let mut group = c.benchmark_group("pick, admit, settle");
    for (name, keyed) in [("free", false), ("by key", true)] {
        for accounts in [1, 5_000, 50_000] {
            let tier = tier(accounts);
            let (mut draws, mut now, mut picked, mut refused) =
                (Draws::new(7), At::from_millis(1_000), 0u64, 0u64);
            group.bench_function(BenchmarkId::new(name, accounts), |b| {
                b.iter(|| {
                    // More than a single small account needs for one call to come back.
                    now = now.plus_ms(1_000);
                    let affinity = keyed.then(|| draws.next() >> 50);
                    let need = Need { input: 900, output: 100, affinity, ..Need::default() };
                    match black_box(tier.pick(&need, draws.next(), now)) {
                        Choice::Picked(chosen) => {
                            picked += 1;
                            let used = Used { input: 20, cached: 0, output: 10 };
                            chosen.permit.end(
                                Some(used),
                                Verdict::Good { ttft: Some((300_000_000, 900)) },
                                now,
                            );
                        }
                        Choice::Wait(_) => refused += 1,
                    }
                });
            });
            assert!(refused * 100 <= picked, "the figure would mix in refusals: {refused} beside {picked}");
        }
    }
    group.finish();
}

criterion_group!(name = benches; config = Criterion::default().with_measurement(CpuTime(WallTime)); targets = pick);
criterion_main!(benches);

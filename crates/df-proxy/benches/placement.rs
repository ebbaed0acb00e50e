//! Where calls land: a simulation of 5,000 unequal accounts beside other ways of choosing, on one trace:
//! `cargo bench -p df-proxy --bench placement`, with a number of calls as its argument if given.
//!
//! 60 % of the accounts take 40,000 tokens a minute, 30 % take 400,000, 10 % take 4,000,000. Prompts are log-normal with a
//! mean of 10,000 tokens (sigma 1.2), calls arrive at random at a share of all capacity, and each lasts two seconds and
//! one more per 5,000 tokens. No caches, no failures, limits known exactly. All ways have the same buckets. The others get
//! three more picks for a refused call. Least busy is by calls in flight; two choices drawn evenly take the one with more
//! tokens left. Above full load every account begins empty.

#![expect(clippy::print_stdout, reason = "a bench prints its table")]

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use df_proxy::select::{
    At, Axis, Bucket, Choice, Draws, Lane, Member, Need, Permit, Slot, SlotId, Standing, Tier, Upstream,
    Used, Verdict,
};

const ACCOUNTS: usize = 5_000;
const SIZES: [(u64, usize); 3] = [(40_000, 6), (400_000, 3), (4_000_000, 1)];
const MEAN_PROMPT: f64 = 10_000.0;
const SIGMA: f64 = 1.2;
const DEFAULT_CALLS: usize = 1_200_000;
/// Picks after the first that a refused call gets.
const TRIES: u32 = 3;

struct Call {
    at: At,
    tokens: u64,
}

fn normal(draws: &mut Draws) -> f64 {
    // Box and Muller; the first number is never 0.
    let unit = |draws: &mut Draws| ((draws.next() >> 11) as f64 + 1.0) / (1u64 << 53) as f64;
    (-2.0 * unit(draws).ln()).sqrt() * (std::f64::consts::TAU * unit(draws)).cos()
}

fn capacity() -> u64 {
    let per_ten: u64 = SIZES.iter().map(|(size, n)| size * *n as u64).sum();
    per_ten * (ACCOUNTS / 10) as u64
}

/// Calls of `load` times the capacity, Poisson in time.
fn trace(calls: usize, load: f64) -> Vec<Call> {
    let mut draws = Draws::new(11);
    let mu = MEAN_PROMPT.ln() - SIGMA * SIGMA / 2.0;
    let largest = SIZES[SIZES.len() - 1].0;
    let gap_ns = MEAN_PROMPT * 60e9 / (capacity() as f64 * load);
    let mut at = At::from_millis(1_000).0 as f64;
    (0..calls)
        .map(|_| {
            let unit = ((draws.next() >> 11) as f64 + 1.0) / (1u64 << 53) as f64;
            at -= unit.ln() * gap_ns;
            let tokens = (mu + SIGMA * normal(&mut draws)).exp() as u64;
            Call { at: At(at as u64), tokens: tokens.clamp(1, largest) }
        })
        .collect()
}

fn size(i: usize) -> u64 {
    let mut sizes = SIZES.iter().flat_map(|(size, n)| std::iter::repeat_n(*size, *n));
    sizes.nth(i % 10).unwrap_or_default()
}

fn buckets() -> Vec<Arc<Bucket>> {
    (0..ACCOUNTS).map(|i| Arc::new(Bucket::new(Axis::TokensPerMinute, size(i)))).collect()
}

fn members(buckets: &[Arc<Bucket>]) -> Vec<Member> {
    let upstream = Arc::new(Upstream::default());
    let member = |(i, bucket): (usize, &Arc<Bucket>)| {
        let slot = Slot::new(SlotId(i as u32), 0, Vec::new(), Standing::Active);
        Member::new(Arc::new(slot), Arc::new(Lane::new(vec![Arc::clone(bucket)], Arc::clone(&upstream))))
    };
    buckets.iter().enumerate().map(member).collect()
}

#[derive(Clone, Copy)]
enum Way {
    RoundRobin,
    LeastBusy,
    UniformTwo,
    Tier,
}

/// Whom a way names for each try, and the one tier that admits for all of them.
struct Chooser {
    way: Way,
    tier: Tier,
    members: Vec<Member>,
    buckets: Vec<Arc<Bucket>>,
    turn: usize,
    draws: Draws,
}

impl Chooser {
    fn new(way: Way) -> Self {
        let buckets = buckets();
        let members = members(&buckets);
        Self { way, tier: Tier::new(members.clone()), members, buckets, turn: 0, draws: Draws::new(3) }
    }

    /// Leaves every account with nothing, as after a long time of too many calls.
    fn drain(&self, now: At) {
        for i in 0..ACCOUNTS {
            let need = Need { input: size(i), only: Some(SlotId(i as u32)), ..Need::default() };
            drop(self.tier.pick(&need, 0, now));
        }
    }

    /// The permit, if there is one, and whether the first choice was granted.
    fn place(&mut self, call: &Call) -> (Option<Permit>, bool) {
        let need = Need { input: call.tokens, ..Need::default() };
        if matches!(self.way, Way::Tier) {
            return match self.tier.pick(&need, self.draws.next(), call.at) {
                Choice::Picked(picked) => (Some(picked.permit), picked.rounds == 1),
                Choice::Wait(_) => (None, false),
            };
        }
        for attempt in 0..=TRIES {
            let only = Some(SlotId(self.named(call.at) as u32));
            if let Choice::Picked(picked) = self.tier.pick(&Need { only, ..need }, 0, call.at) {
                return (Some(picked.permit), attempt == 0);
            }
        }
        (None, false)
    }

    fn named(&mut self, now: At) -> usize {
        self.turn = (self.turn + 1) % ACCOUNTS;
        let busy = |i: usize| self.members[i].slot.in_flight();
        match self.way {
            Way::RoundRobin | Way::Tier => self.turn,
            // Of equals the next in turn, or the first account would have all.
            Way::LeastBusy => {
                (0..ACCOUNTS).map(|i| (i + self.turn) % ACCOUNTS).min_by_key(|i| busy(*i)).unwrap_or(0)
            }
            Way::UniformTwo => {
                let (a, b) = (self.draws.below(ACCOUNTS), self.draws.below(ACCOUNTS));
                let room = |i: usize| self.buckets[i].headroom(now) * self.buckets[i].limit() as f32;
                if room(a) >= room(b) { a } else { b }
            }
        }
    }
}

#[derive(Default)]
struct Outcome {
    first_refused: usize,
    lost: usize,
    /// In the second half.
    delivered: u64,
    span_ns: u64,
}

fn run(way: Way, trace: &[Call], load: f64) -> Outcome {
    let mut chooser = Chooser::new(way);
    if load > 1.0 {
        chooser.drain(trace[0].at);
    }
    let mut outcome = Outcome::default();
    let mut ends: BinaryHeap<Reverse<(At, usize)>> = BinaryHeap::new();
    let mut open: Vec<Option<(Permit, u64)>> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    let half = At(trace[0].at.0 + (trace[trace.len() - 1].at.0 - trace[0].at.0) / 2);
    for call in trace {
        while let Some(Reverse((at, i))) = ends.peek().copied().filter(|Reverse((at, _))| *at <= call.at) {
            ends.pop();
            free.push(i);
            if let Some((permit, tokens)) = open[i].take() {
                let used = Used { input: tokens, cached: 0, output: 0 };
                permit.end(Some(used), Verdict::Good { ttft: None }, at);
            }
        }
        let (permit, first) = chooser.place(call);
        outcome.first_refused += usize::from(!first);
        let Some(permit) = permit else {
            outcome.lost += 1;
            continue;
        };
        if call.at >= half {
            outcome.delivered += call.tokens;
        }
        let end = call.at.plus_ms(2_000 + call.tokens / 5);
        let i = free.pop().unwrap_or_else(|| {
            open.push(None);
            open.len() - 1
        });
        open[i] = Some((permit, call.tokens));
        ends.push(Reverse((end, i)));
    }
    outcome.span_ns = trace[trace.len() - 1].at.0 - half.0;
    outcome
}

fn main() {
    let calls = std::env::args().filter_map(|arg| arg.parse().ok()).next().unwrap_or(DEFAULT_CALLS);
    println!("{ACCOUNTS} accounts, {calls} calls; shares of calls, and of the capacity in the second half\n");
    println!("| way | load | first pick refused | not placed | capacity delivered |");
    println!("|---|---|---|---|---|");
    for load in [0.85, 0.95, 1.3] {
        let trace = trace(calls, load);
        for (name, way) in [
            ("round-robin", Way::RoundRobin),
            ("least busy", Way::LeastBusy),
            ("two choices, even", Way::UniformTwo),
            ("this proxy", Way::Tier),
        ] {
            let outcome = run(way, &trace, load);
            let share = |n: usize| n as f64 * 100.0 / calls as f64;
            let all = capacity() as f64 * outcome.span_ns as f64 / 60e9;
            println!(
                "| {name} | {:.0} % | {:.4} % | {:.4} % | {:.1} % |",
                load * 100.0,
                share(outcome.first_refused),
                share(outcome.lost),
                outcome.delivered as f64 * 100.0 / all
            );
        }
    }
}

//! Picks against a linear scan over exact buckets, and the rules of order.

use proptest::prelude::*;

use super::model::ExactBucket;
use super::*;

/// Rounding that the model does not have.
const SLACK_NS: u64 = 100_000;

#[derive(Debug, Clone)]
enum Op {
    Pass(u64),
    Pick { input: u64, output: u64, random: u64, key: Option<u64>, exclude: Vec<u32> },
    Cool(u32, u64),
}

#[derive(Debug, Clone)]
struct Plan {
    /// Per domain: tokens a minute.
    domains: Vec<u64>,
    /// Per account: its domain, and requests a minute of its own.
    accounts: Vec<(usize, u64)>,
    ops: Vec<Op>,
}

fn plan() -> impl Strategy<Value = Plan> {
    let op = prop_oneof![
        1 => (0u64..5_000_000_000).prop_map(Op::Pass),
        6 => (1u64..4_000, 0u64..2_000, any::<u64>(), any::<Option<u64>>(), prop::collection::vec(0u32..40, 0..4))
            .prop_map(|(input, output, random, key, exclude)| Op::Pick { input, output, random, key, exclude }),
        1 => (0u32..40, 0u64..20_000).prop_map(|(i, ms)| Op::Cool(i, ms)),
    ];
    let domains = prop::collection::vec(500u64..20_000, 1..12);
    let accounts = prop::collection::vec((any::<usize>(), 1u64..20), 1..40);
    (domains, accounts, prop::collection::vec(op, 1..120)).prop_map(|(domains, mut accounts, ops)| {
        accounts.iter_mut().for_each(|(domain, _)| *domain %= domains.len());
        Plan { domains, accounts, ops }
    })
}

struct Reference {
    domains: Vec<ExactBucket>,
    requests: Vec<ExactBucket>,
    cooled: Vec<u64>,
    plan: Plan,
}

impl Reference {
    fn new(plan: &Plan) -> Self {
        let exact = |limit: u64| ExactBucket::new(limit, limit, Axis::TokensPerMinute.window_ns(), START.0);
        Self {
            domains: plan.domains.iter().map(|limit| exact(*limit)).collect(),
            requests: plan.accounts.iter().map(|(_, limit)| exact(*limit)).collect(),
            cooled: vec![0; plan.accounts.len()],
            plan: plan.clone(),
        }
    }

    fn fits(&self, i: usize, need: &Need<'_>, now: u64, slack: u128) -> bool {
        let domain = &self.domains[self.plan.accounts[i].0];
        !need.exclude.contains(&SlotId(i as u32))
            && self.cooled[i] <= now
            && self.requests[i].fits(1, slack)
            && domain.fits(need.input + need.output, slack)
    }

    /// The first moment at which anybody could take the call, if nothing else happened.
    fn earliest(&self, need: &Need<'_>) -> Option<u64> {
        let one = |i: usize| {
            let domain = self.domains[self.plan.accounts[i].0].earliest(need.input + need.output)?;
            Some(domain.max(self.requests[i].earliest(1)?).max(self.cooled[i]))
        };
        let asked = (0..self.cooled.len()).filter(|i| !need.exclude.contains(&SlotId(*i as u32)));
        asked.filter_map(one).min()
    }

    fn advance(&mut self, now: u64) {
        self.domains.iter_mut().chain(&mut self.requests).for_each(|bucket| bucket.advance(now));
    }
}

fn tier(plan: &Plan) -> (Tier, Vec<Member>) {
    let bucket = |axis, limit: &u64| Arc::new(Bucket::new(axis, *limit));
    let domains: Vec<_> = plan.domains.iter().map(|limit| bucket(Axis::TokensPerMinute, limit)).collect();
    let members: Vec<Member> = (0..)
        .zip(&plan.accounts)
        .map(|(i, (domain, requests))| {
            let given = vec![Arc::clone(&domains[*domain]), bucket(Axis::RequestsPerMinute, requests)];
            member_of(i, given, Vec::new(), &Arc::default())
        })
        .collect();
    (Tier::new(members.clone()), members)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Who is picked could take the call; if nobody is, nobody surely could; and no wait is longer than it must be.
    #[test]
    fn picks_agree_with_a_scan_of_everybody(plan in plan()) {
        let (tier, members) = tier(&plan);
        let mut reference = Reference::new(&plan);
        let (mut now, mut calls) = (START, 0);
        for op in &plan.ops {
            match op {
                Op::Pass(ns) => {
                    now = At(now.0 + ns);
                    reference.advance(now.0);
                }
                Op::Cool(i, ms) => {
                    let i = *i as usize % members.len();
                    members[i].slot.gate().cooling.cool(now.plus_ms(*ms), Cause::Rate);
                    if let Some((until, _)) = members[i].slot.cooling(now) {
                        reference.cooled[i] = until.0;
                    }
                }
                Op::Pick { input, output, random, key, exclude } => {
                    let exclude: Vec<SlotId> = exclude.iter().map(|i| SlotId(*i)).collect();
                    let need = Need { input: *input, output: *output, affinity: *key, only: None, exclude: &exclude };
                    match tier.pick(&need, *random, now) {
                        Choice::Picked(picked) => {
                            let i = picked.slot.id().0 as usize;
                            prop_assert!(reference.fits(i, &need, now.0, SLACK_NS.into()), "{i} cannot take it");
                            calls += 1;
                            reference.requests[i].take(calls, 1);
                            reference.domains[plan.accounts[i].0].take(calls, input + output);
                            drop(picked.permit);
                        }
                        Choice::Wait(wait) => {
                            let free = (0..members.len()).find(|i| reference.fits(*i, &need, now.0, 0));
                            prop_assert_eq!(free, None);
                            if let Some(earliest) = reference.earliest(&need) {
                                let until = wait.until.expect("somebody will be free");
                                prop_assert!(now < until && until.0 <= earliest + SLACK_NS, "{until:?} {earliest}");
                            }
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_call_too_large_for_everybody_never_waits() {
    let tier = Tier::new((0..20).map(|i| member(i, &[(Axis::InputTokensPerMinute, 100)])).collect());
    let wait = waits(tier.pick(&Need { input: 101, ..Need::default() }, 1, START));
    assert_eq!(wait.until, None);
    assert!(wait.whys.only(Why::TooLarge));
}

#[test]
fn equals_go_in_order_and_busier_ones_later() {
    let tier = Tier::new((0..3).map(|i| member(i, &[])).collect());
    let ids: Vec<u32> = (0..6)
        .map(|random| picked(tier.pick(&Need::default(), random, START)))
        .map(|p| {
            let id = p.slot.id().0;
            std::mem::forget(p);
            id
        })
        .collect();
    assert_eq!(ids, [0, 1, 2, 0, 1, 2]);
}

#[test]
fn a_cheaper_account_goes_first_until_it_is_nearly_full() {
    let dear =
        Member::new(Arc::new(Slot::new(SlotId(0), 2, Vec::new(), Standing::Active)), member(0, &[]).lane);
    let cheap = Slot::new(SlotId(1), 1, Vec::new(), Standing::Active);
    let limit = Arc::new(Bucket::new(Axis::RequestsPerMinute, 10));
    let cheap = Member::new(Arc::new(cheap), Arc::new(Lane::new(vec![limit], Arc::default())));
    let tier = Tier::new(vec![dear, cheap]);
    let ids: Vec<u32> =
        (0..10).map(|random| picked(tier.pick(&Need::default(), random, START)).slot.id().0).collect();
    assert_eq!(ids, [1, 1, 1, 1, 1, 1, 1, 1, 0, 0]);
}

#[test]
fn a_key_keeps_its_place_until_that_is_hot() {
    let tier = Tier::new((0..100).map(|i| member(i, &[])).collect());
    let ask = |random| picked(tier.pick(&Need { affinity: Some(77), ..Need::default() }, random, START));
    let place = ask(0).slot.id();
    assert!((1..50).all(|random| ask(random).slot.id() == place));
    let open: Vec<Picked> = (0..40).map(ask).collect();
    let most = (0..100).map(|i| open.iter().filter(|p| p.slot.id() == SlotId(i)).count()).max().unwrap();
    assert!((4..=12).contains(&most), "{most} of 40 calls with one key are in one place");
}

#[test]
fn a_given_account_or_none() {
    let tier = Tier::new((0..20).map(|i| member(i, &[(Axis::Concurrency, 1)])).collect());
    let need = Need { only: Some(SlotId(7)), ..Need::default() };
    let open = picked(tier.pick(&need, 3, START));
    assert_eq!(open.slot.id(), SlotId(7));
    assert!(waits(tier.pick(&need, 3, START)).until.is_some());
    assert_eq!(waits(tier.pick(&Need { only: Some(SlotId(99)), ..need }, 3, START)).seen, 0);
}

#[test]
fn what_a_pick_looks_at_does_not_grow_with_the_tier() {
    let mean = |n: u32| {
        let tier = Tier::new((0..n).map(|i| member(i, &[(Axis::TokensPerMinute, 40_000)])).collect());
        let need = Need { input: 1_000, ..Need::default() };
        let seen: usize = (0..2_000).map(|random| picked(tier.pick(&need, random, START)).seen).sum();
        seen as f64 / 2_000.0
    };
    assert!(mean(100) < 2.5 && mean(20_000) < 2.5);
    let full = Tier::new((0..1_000).map(|i| member(i, &[(Axis::TokensPerMinute, 10)])).collect());
    assert!(waits(full.pick(&Need { input: 11, ..Need::default() }, 1, START)).seen <= 80);
}

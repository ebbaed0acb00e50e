//! Whom each failure concerns, and how it comes back.

use super::*;

const WAIT_MS: u64 = 10_000;

struct Two {
    tier: Tier,
    members: Vec<Member>,
}

/// Two accounts that pay from one purse and ask one upstream, with a shared limit of requests.
fn two() -> Two {
    let (purse, upstream) = (Arc::new(Gate::default()), Arc::default());
    let org = Arc::new(Bucket::new(Axis::RequestsPerMinute, 1_000));
    let members: Vec<Member> =
        (0..2).map(|i| member_of(i, vec![Arc::clone(&org)], vec![Arc::clone(&purse)], &upstream)).collect();
    Two { tier: Tier::new(members.clone()), members }
}

impl Two {
    /// Asks the first account and ends the call with `verdict`.
    fn end(&self, verdict: Verdict, now: At) {
        let need = Need { only: Some(SlotId(0)), ..Need::default() };
        picked(self.tier.pick(&need, 0, now)).permit.end(Some(Used::default()), verdict, now);
    }

    fn why(&self, i: u32, now: At) -> Option<Whys> {
        match self.tier.pick(&Need { only: Some(SlotId(i)), ..Need::default() }, 0, now) {
            Choice::Picked(picked) => {
                picked.permit.cancel();
                None
            }
            Choice::Wait(wait) => Some(wait.whys),
        }
    }
}

#[test]
fn each_verdict_concerns_what_failed_and_nothing_else() {
    let rate = |axis| Verdict::Rate { axis, wait_ms: WAIT_MS };
    for (verdict, first, second) in [
        (Verdict::Credential { wait_ms: WAIT_MS }, Some(Why::Credential), None),
        (Verdict::Billing { wait_ms: WAIT_MS }, Some(Why::Billing), Some(Why::Billing)),
        (rate(Some(Axis::RequestsPerMinute)), Some(Why::Rate), Some(Why::Rate)),
        (rate(Some(Axis::TokensPerMinute)), Some(Why::Rate), None),
        (rate(None), Some(Why::Rate), None),
        (Verdict::NoModel { wait_ms: WAIT_MS }, Some(Why::Model), None),
        (Verdict::Overloaded { wait_ms: None }, None, None),
        (Verdict::Broken, None, None),
        (Verdict::Nothing, None, None),
        (Verdict::Good { ttft: None }, None, None),
    ] {
        let two = two();
        two.end(verdict, START);
        let only = |whys: Option<Whys>, why: Option<Why>| match (whys, why) {
            (Some(whys), Some(why)) => whys.only(why),
            (whys, why) => whys.is_none() && why.is_none(),
        };
        assert!(only(two.why(0, START), first), "{verdict:?}");
        assert!(only(two.why(1, START), second), "{verdict:?}");
        assert_eq!(two.why(0, START.plus_ms(WAIT_MS)), None, "{verdict:?} ends");
    }
}

#[test]
fn an_unnamed_429_is_laid_to_the_bucket_that_is_nearly_empty() {
    let two = two();
    for _ in 0..600 {
        drop(picked(two.tier.pick(&Need::default(), 1, START)));
    }
    two.end(Verdict::Rate { axis: None, wait_ms: WAIT_MS }, START);
    assert!(
        two.why(1, START).is_some_and(|whys| whys.only(Why::Rate)),
        "the account beside it lives on it too"
    );
}

#[test]
fn an_overloaded_model_rests_for_everybody_and_no_account_is_blamed() {
    let two = two();
    (0..10).for_each(|_| two.end(Verdict::Overloaded { wait_ms: None }, START));
    for i in 0..2 {
        assert!(two.why(i, START).is_some_and(|whys| whys.only(Why::Broken)));
        assert_eq!(two.members[i as usize].slot.cooling(START), None);
    }
    // One probe, and nobody beside it.
    let later = START.plus_ms(5_000);
    let probe = picked(two.tier.pick(&Need::default(), 0, later));
    assert!(two.why(1, later).is_some());
    // It fails: out for twice as long.
    probe.permit.end(None, Verdict::Overloaded { wait_ms: None }, later);
    assert!(two.why(0, later.plus_ms(9_999)).is_some());
    let again = later.plus_ms(10_000);
    let probe = picked(two.tier.pick(&Need::default(), 0, again));
    probe.permit.end(None, Verdict::Good { ttft: None }, again);
    assert_eq!(two.why(1, again), None);
    assert!(two.members[0].lane.upstream().gate.breaker.share(again).is_ok_and(|share| share < 0.2));
    assert_eq!(two.members[0].lane.upstream().gate.breaker.share(again.plus_ms(60_000)), Ok(1.0));
}

#[test]
fn an_account_that_keeps_breaking_rests_alone() {
    let two = two();
    (0..5).for_each(|_| two.end(Verdict::Broken, START));
    assert!(two.why(0, START).is_some() && two.why(1, START).is_none());
}

#[test]
fn a_probe_that_shows_nothing_makes_way_for_another() {
    let two = two();
    two.end(Verdict::Credential { wait_ms: WAIT_MS }, START);
    let later = START.plus_ms(WAIT_MS);
    let need = Need { only: Some(SlotId(0)), ..Need::default() };
    let probe = picked(two.tier.pick(&need, 0, later));
    assert!(two.why(0, later).is_some());
    drop(probe);
    assert!(two.why(0, later).is_none());
}

#[test]
fn one_who_returns_gets_a_growing_share_beside_another() {
    let two = two();
    two.end(Verdict::Credential { wait_ms: WAIT_MS }, START);
    let later = START.plus_ms(WAIT_MS);
    two.end(Verdict::Good { ttft: None }, later);
    let share = |now: At| {
        let first = |random: &u64| {
            let choice = picked(two.tier.pick(&Need::default(), *random, now));
            let id = choice.slot.id();
            choice.permit.cancel();
            id == SlotId(0)
        };
        (0..300).filter(first).count()
    };
    let (at_once, half_way, full) =
        (share(later), share(later.plus_ms(30_000)), share(later.plus_ms(60_000)));
    assert!(
        (5..70).contains(&at_once) && at_once < half_way && half_way < full,
        "{at_once} {half_way} {full}"
    );
}

#[test]
fn slow_down_halves_what_is_open_and_grows_again() {
    let two = two();
    let open: Vec<Picked> =
        (0..20).map(|random| picked(two.tier.pick(&Need::default(), random, START))).collect();
    two.end(Verdict::SlowDown { wait_ms: 0 }, START);
    let upstream = two.members[0].lane.upstream();
    assert_eq!(upstream.ceiling(START), Some(11));
    assert!(two.why(1, START).is_some_and(|whys| whys.only(Why::Rate)));
    drop(open);
    assert!(two.why(1, START).is_none());
    let quarter = 15 * 60_000;
    assert_eq!(upstream.ceiling(START.plus_ms(quarter)), Some(16));
    assert_eq!(upstream.ceiling(START.plus_ms(4 * quarter)), None);
}

#[test]
fn failures_never_look_fast() {
    let two = two();
    two.end(Verdict::Broken, START);
    picked(two.tier.pick(&Need { only: Some(SlotId(1)), ..Need::default() }, 0, START)).permit.end(
        None,
        Verdict::Good { ttft: Some((2_000_000_000, 0)) },
        START,
    );
    assert_eq!(picked(two.tier.pick(&Need::default(), 0, START)).slot.id(), SlotId(1));
}

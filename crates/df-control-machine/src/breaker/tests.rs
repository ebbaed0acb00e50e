use super::*;

const AT: Timestamp = Timestamp(1_000_000);
const CLAIMED: Timestamp = Timestamp(990_000);

fn open(at: u64, trips: u32) -> Breaker {
    Breaker::Open { until: Timestamp(at).plus(cool_off(trips)), trips }
}

#[test]
fn every_pair_of_state_and_event_leads_where_the_table_says() {
    use BreakerEvent as E;
    let closed = |failures| Breaker::Closed { failures };
    let half = |trips| Breaker::HalfOpen { since: CLAIMED, trips };
    let shut = Breaker::Open { until: Timestamp(7), trips: 3 };
    let again = Breaker::Open { until: AT, trips: 3 };
    let table = [
        (closed(0), [closed(0), closed(1), closed(0)], closed(0)),
        (closed(OPEN_AFTER - 1), [closed(0), open(AT.0, 1), closed(OPEN_AFTER - 1)], closed(OPEN_AFTER - 1)),
        (shut, [closed(0), shut, shut], Breaker::HalfOpen { since: AT, trips: 3 }),
        (half(3), [closed(0), open(AT.0, 4), again], Breaker::HalfOpen { since: AT, trips: 3 }),
    ];
    for (from, want, claimed) in table {
        for (event, want) in [E::Worked, E::Failed, E::Unknown].into_iter().zip(want) {
            assert_eq!(from.after(event, CLAIMED, AT), want, "{from:?} {event:?}");
        }
        assert_eq!(from.claimed(AT), claimed, "{from:?}");
    }
}

/// An attempt from before it opened, ended while the probe is out.
#[test]
fn only_the_probe_ends_the_wait_for_the_probe() {
    let half = Breaker::HalfOpen { since: CLAIMED, trips: 2 };
    for older in [Timestamp(CLAIMED.0 - 1), Timestamp(CLAIMED.0 + 1)] {
        assert_eq!(half.after(BreakerEvent::Unknown, older, AT), half);
        assert_eq!(half.after(BreakerEvent::Failed, older, AT), half);
        assert_eq!(half.after(BreakerEvent::Worked, older, AT), Breaker::default());
    }
    assert_eq!(half.after(BreakerEvent::Failed, CLAIMED, AT), open(AT.0, 3));
}

#[test]
fn five_failures_in_a_row_open_it_and_fewer_do_not() {
    let fail = |b: Breaker| b.after(BreakerEvent::Failed, CLAIMED, AT);
    let four = (0..4).fold(Breaker::default(), |b, _| fail(b));
    assert!(four.admits(AT));
    assert!(
        fail(fail(four.after(BreakerEvent::Worked, CLAIMED, AT))).admits(AT),
        "one that worked starts the count anew"
    );
    let five = fail(four);
    assert!(!five.admits(AT) && !five.admits(Timestamp(AT.0 + COOL_OFF.0 - 1)));
    assert!(five.admits(AT.plus(COOL_OFF)));
}

#[test]
fn cool_offs_double_up_to_the_longest() {
    let waits: Vec<u64> = (1..8).map(|trips| cool_off(trips).0 / 1_000).collect();
    assert_eq!(waits, [30, 60, 120, 240, 480, 600, 600]);
    assert_eq!(cool_off(u32::MAX), MAX_COOL_OFF);
}

#[test]
fn half_open_lets_one_through_and_never_stays_shut() {
    let probing = open(AT.0, 1).claimed(AT.plus(COOL_OFF));
    let claimed = AT.plus(COOL_OFF);
    assert!(!probing.admits(claimed), "one probe at a time");
    assert!(probing.admits(claimed.plus(MAX_COOL_OFF)), "a probe nobody reports");
    assert!(probing.admits(Timestamp(1)), "the clock went back");
    assert!(open(AT.0, 9).admits(Timestamp(1)), "the clock went back");
}

#[test]
fn only_failures_of_the_runtime_count_as_such() {
    let sick: Vec<&str> = FailureKind::ALL
        .iter()
        .filter(|kind| BreakerEvent::of(**kind) == BreakerEvent::Failed)
        .map(|kind| kind.as_str())
        .collect();
    assert_eq!(sick, ["agent_crash", "tool_failure", "infrastructure"]);
}

proptest::proptest! {
    /// Whatever happens, work is let in again at once, or when the longest cool-off after the last event is over.
    #[test]
    fn it_always_lets_work_in_again(events in proptest::collection::vec((0usize..4, 0u64..2_000_000), 0..64)) {
        let (mut breaker, mut at, mut last) = (Breaker::default(), 0, Timestamp(0));
        for (event, now) in events {
            at = now;
            breaker = match BreakerEvent::ALL.get(event) {
                Some(event) => breaker.after(*event, last, Timestamp(at)),
                None => {
                    last = Timestamp(at);
                    breaker.claimed(last)
                }
            };
        }
        let at = Timestamp(at);
        proptest::prop_assert!(breaker.admits(at) || breaker.admits(at.plus(MAX_COOL_OFF)), "{breaker:?} {at:?}");
    }
}

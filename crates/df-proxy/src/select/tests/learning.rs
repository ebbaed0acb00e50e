//! What providers say of their limits.

use smallvec::smallvec;

use super::*;

const AXIS: Axis = Axis::RequestsPerMinute;

fn heard(limit: Option<u64>, remaining: Option<u64>) -> Heard {
    Heard { signals: smallvec![Signal { axis: AXIS, limit, remaining }], shut_for_ms: None }
}

/// How many calls a lane takes at once.
fn room(lane: &Lane, now: At) -> usize {
    let taken: Vec<_> = std::iter::from_fn(|| lane.take(&Need::default(), now).ok()).take(5_000).collect();
    taken.iter().for_each(|holding| lane.undo(holding));
    taken.len()
}

#[test]
fn an_unknown_limit_is_learnt_from_the_first_answer() {
    let lane = member(0, &[]).lane;
    assert_eq!(room(&lane, START), 5_000);
    lane.hear(&heard(Some(60), Some(10)), START);
    assert_eq!(room(&lane, START), 10);
    assert_eq!(room(&lane, START.plus_ms(5_000)), 15);
    assert!(lane.upstream().take_stale() && !lane.upstream().take_stale());
    // Nothing can be made of a rest without a limit.
    let other = member(1, &[]).lane;
    other.hear(&heard(None, Some(0)), START);
    assert_eq!(room(&other, START), 5_000);
}

#[test]
fn tighter_counts_at_once_and_wider_by_a_tenth_a_window() {
    let lane = member(0, &[(AXIS, 1_000)]).lane;
    lane.hear(&heard(Some(100), None), START);
    assert_eq!(room(&lane, START), 100);
    for (after_ms, expect) in [(1, 110), (2, 110), (60_001, 121), (60_002, 121)] {
        let now = START.plus_ms(after_ms);
        lane.hear(&heard(Some(1_000), None), now);
        assert_eq!(room(&lane, now), expect);
    }
}

#[test]
fn what_is_owed_survives_a_change_of_the_limit() {
    let lane = member(0, &[(AXIS, 1_000)]).lane;
    let _open: Vec<_> = (0..80).map(|_| lane.take(&Need::default(), START).unwrap()).collect();
    lane.hear(&heard(Some(100), None), START);
    assert_eq!(room(&lane, START), 20);
}

#[test]
fn less_left_than_thought_counts_and_more_is_believed_slowly() {
    let lane = member(0, &[(AXIS, 100)]).lane;
    lane.hear(&heard(None, Some(3)), START);
    assert_eq!(room(&lane, START), 3);
    lane.hear(&heard(None, Some(90)), START);
    assert_eq!(room(&lane, START), 13);
    lane.hear(&heard(None, Some(90)), START);
    assert_eq!(room(&lane, START), 13, "once a window");
}

#[test]
fn more_left_is_believed_only_after_what_is_in_flight() {
    let lane = member(0, &[(AXIS, 100)]).lane;
    let open: Vec<_> = (0..50).map(|_| lane.take(&Need::default(), START).unwrap()).collect();
    // The provider may not have counted any of the fifty yet.
    lane.hear(&heard(None, Some(100)), START);
    assert_eq!(room(&lane, START), 50);
    drop(open);
}

#[test]
fn a_shared_bucket_learns_for_all_who_share_it() {
    let org = Arc::new(Bucket::new(AXIS, 1_000));
    let two: Vec<Member> =
        (0..2).map(|i| member_of(i, vec![Arc::clone(&org)], Vec::new(), &Arc::default())).collect();
    two[0].lane.hear(&heard(Some(50), None), START);
    assert_eq!(room(&two[1].lane, START), 50);
}

#[test]
fn a_lie_shuts_out_for_ten_minutes_at_most() {
    let lane = member(0, &[]).lane;
    lane.hear(&Heard { shut_for_ms: Some(u64::MAX), ..Heard::default() }, START);
    assert_eq!(lane.rate_limited(START), Some(START.plus_ms(600_000)));
}

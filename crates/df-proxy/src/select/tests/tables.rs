//! Draws by weight, places of keys, members that come and go.

use super::super::alias::Alias;
use super::super::maglev::Maglev;
use super::*;

#[test]
fn draws_follow_the_weights() {
    let weights = [1u64, 10, 100, 400, 0, 489];
    let alias = Alias::new(&weights);
    let mut draws = Draws::new(5);
    let mut seen = [0u64; 6];
    (0..200_000).for_each(|_| seen[alias.draw(draws.next())] += 1);
    for (seen, weight) in seen.iter().zip(weights) {
        let expect = weight * 200;
        assert!(seen.abs_diff(expect) <= expect / 10 + 60, "{seen} of {expect}");
    }
    assert_eq!(Alias::new(&[]).draw(9), 0);
}

#[test]
fn a_member_that_goes_takes_few_keys_of_others_along() {
    let all: Vec<(SlotId, u64)> = (0..200).map(|i| (SlotId(i), [40, 400, 4_000][i as usize % 3])).collect();
    let without: Vec<_> = all.iter().copied().filter(|(id, _)| id.0 != 5).collect();
    let (before, after) = (Maglev::new(&all), Maglev::new(&without));
    let place = |table: &Maglev, ids: &[(SlotId, u64)], key| ids[table.find(key).unwrap()].0;
    let (mut moved, mut its_own) = (0, 0);
    for key in 0..20_000 {
        let was = place(&before, &all, key);
        if was == SlotId(5) {
            its_own += 1;
        } else if place(&after, &without, key) != was {
            moved += 1;
        }
    }
    assert!(its_own > 0 && moved < 1_000, "{moved} of 20,000 keys moved without need");
}

#[test]
fn keys_fall_by_weight() {
    let ids: Vec<(SlotId, u64)> = (0..30).map(|i| (SlotId(i), if i < 15 { 100 } else { 300 })).collect();
    let table = Maglev::new(&ids);
    let heavy = (0..10_000).filter(|key| table.find(*key).unwrap() >= 15).count();
    assert!((7_000..8_000).contains(&heavy), "{heavy} of 10,000 on three quarters of the weight");
}

#[test]
fn members_come_and_go_without_a_pause() {
    let tier = Tier::new((0..100).map(|i| member(i, &[])).collect());
    let late = member(100, &[]);
    tier.add(&late);
    assert!(tier.has(SlotId(100)) && tier.len() == 101);
    let drawn = |tier: &Tier| {
        (0..2_000).any(|random| picked(tier.pick(&Need::default(), random, START)).slot.id() == SlotId(100))
    };
    assert!(drawn(&tier));
    late.slot.set_standing(Standing::Draining);
    assert!(!drawn(&tier));
    late.slot.set_standing(Standing::Active);
    tier.rebuild();
    assert!(drawn(&tier) && tier.len() == 101);
    late.slot.set_standing(Standing::Retired);
    tier.rebuild();
    assert_eq!(tier.len(), 100);
    (200..400).for_each(|i| tier.add(&member(i, &[])));
    assert_eq!(tier.len(), 300);
}

#[test]
fn those_who_share_a_limit_share_its_weight() {
    let org = Arc::new(Bucket::new(Axis::TokensPerMinute, 100_000));
    let twenty = (0..20).map(|i| member_of(i, vec![Arc::clone(&org)], Vec::new(), &Arc::default()));
    let alone = (20..40).map(|i| member(i, &[(Axis::TokensPerMinute, 100_000)]));
    let tier = Tier::new(twenty.chain(alone).collect());
    let shared = (0..2_000).filter(|random| {
        let choice = picked(tier.pick(&Need::default(), *random, START));
        choice.permit.lane().upstream().ceiling(START).is_none() && choice.slot.id().0 < 20
    });
    assert!(shared.count() < 300);
}

//! Maglev hashing (Eisenbud et al., NSDI 2016) by weight: a key keeps its place while others come and go.

use super::{SlotId, mix64};

/// Places per member: the share of a member is exact to about one part in so many.
const PLACES_PER_MEMBER: usize = 8;
/// Sizes are primes, so that every step visits every place.
const SIZES: [usize; 13] =
    [67, 251, 509, 1_021, 4_093, 16_381, 40_009, 65_521, 131_071, 262_139, 400_009, 524_287, 1_048_573];

#[derive(Debug, Default)]
pub(super) struct Maglev {
    places: Box<[u32]>,
}

impl Maglev {
    pub(super) fn new(members: &[(SlotId, u64)]) -> Self {
        if members.is_empty() {
            return Self::default();
        }
        let wanted = members.len() * PLACES_PER_MEMBER;
        let size = SIZES.iter().copied().find(|size| *size >= wanted).unwrap_or(SIZES[SIZES.len() - 1]);
        let most = members.iter().map(|(_, weight)| *weight).max().unwrap_or(1).max(1) as f64;
        let mut walks: Vec<Walk> = members.iter().map(|member| Walk::new(*member, most, size)).collect();
        let (mut places, mut left) = (vec![u32::MAX; size], size);
        // In each round a member takes a place if its weight says it is due; the heaviest is due in every round.
        for round in 1.. {
            for (i, walk) in walks.iter_mut().enumerate() {
                if f64::from(round) * walk.weight < walk.due {
                    continue;
                }
                walk.due += 1.0;
                let free = walk.next_free(&places, size);
                places[free] = i as u32;
                left -= 1;
                if left == 0 {
                    return Self { places: places.into() };
                }
            }
        }
        Self { places: places.into() }
    }

    /// The position of the member for `key`.
    pub(super) fn find(&self, key: u64) -> Option<usize> {
        let size = self.places.len() as u64;
        let i = if size == 0 { return None } else { mix64(key) % size };
        self.places.get(i as usize).map(|member| *member as usize)
    }
}

/// A member's own order of all places.
struct Walk {
    at: usize,
    step: usize,
    weight: f64,
    due: f64,
}

impl Walk {
    fn new((id, weight): (SlotId, u64), most: f64, size: usize) -> Self {
        let hash = mix64(u64::from(id.0));
        Self {
            at: (hash % size as u64) as usize,
            step: (mix64(hash) % (size as u64 - 1)) as usize + 1,
            weight: weight as f64 / most,
            due: 0.0,
        }
    }

    fn next_free(&mut self, places: &[u32], size: usize) -> usize {
        loop {
            let at = self.at;
            self.at = (self.at + self.step) % size;
            if places[at] == u32::MAX {
                return at;
            }
        }
    }
}

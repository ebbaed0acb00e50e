use std::sync::Arc;

use super::*;

mod buckets;
mod gates;
mod learning;
mod model;
mod picks;
mod tables;

pub(super) const START: At = At::from_millis(1_000_000);

/// An account with these limits, at an upstream of its own.
fn member(id: u32, limits: &[(Axis, u64)]) -> Member {
    let given = limits.iter().map(|(axis, limit)| Arc::new(Bucket::new(*axis, *limit))).collect();
    member_of(id, given, Vec::new(), &Arc::default())
}

fn member_of(id: u32, given: Vec<Arc<Bucket>>, purses: Vec<Arc<Gate>>, upstream: &Arc<Upstream>) -> Member {
    let slot = Slot::new(SlotId(id), 0, purses, Standing::Active);
    Member::new(Arc::new(slot), Arc::new(Lane::new(given, Arc::clone(upstream))))
}

#[track_caller]
fn picked(choice: Choice) -> Picked {
    match choice {
        Choice::Picked(picked) => picked,
        Choice::Wait(wait) => panic!("nobody was picked: {wait:?}"),
    }
}

#[track_caller]
fn waits(choice: Choice) -> Wait {
    match choice {
        Choice::Picked(picked) => panic!("{:?} was picked", picked.slot.id()),
        Choice::Wait(wait) => wait,
    }
}

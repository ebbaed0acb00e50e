//! Accounts that stand in for each other: a snapshot that picks read without a lock.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::alias::Alias;
use super::maglev::Maglev;
use super::{Draws, Lane, Slot, SlotId};

/// Most members that wait outside the tables for the next rebuild; one more causes it.
const MAX_ADDED: usize = 64;

/// An account with the lane for the tier's model.
#[derive(Debug, Clone)]
pub struct Member {
    pub slot: Arc<Slot>,
    pub lane: Arc<Lane>,
}

impl Member {
    pub const fn new(slot: Arc<Slot>, lane: Arc<Lane>) -> Self {
        Self { slot, lane }
    }
}

/// The tables over a fixed list of members.
#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) members: Box<[Member]>,
    /// Mean weight / weight: how much one call in flight weighs there.
    pub(super) burden: Box<[f32]>,
    alias: Alias,
    maglev: Maglev,
    by_id: Box<[(SlotId, u32)]>,
    weight: u64,
}

impl Tables {
    fn new(members: Vec<Member>) -> Self {
        let weights: Vec<u64> = members.iter().map(|m| m.lane.capacity()).collect();
        let weight = weights.iter().fold(0u64, |sum, w| sum.saturating_add(*w));
        let mean = weight as f64 / members.len().max(1) as f64;
        let mut by_id: Vec<(SlotId, u32)> =
            members.iter().enumerate().map(|(i, m)| (m.slot.id(), i as u32)).collect();
        by_id.sort_unstable();
        let ids: Vec<(SlotId, u64)> =
            members.iter().map(|m| m.slot.id()).zip(weights.iter().copied()).collect();
        Self {
            burden: weights.iter().map(|w| (mean / (*w).max(1) as f64) as f32).collect(),
            alias: Alias::new(&weights),
            maglev: Maglev::new(&ids),
            members: members.into(),
            by_id: by_id.into(),
            weight,
        }
    }
}

/// What one pick sees: the tables, and a few members that came since.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    tables: Arc<Tables>,
    added: Vec<Member>,
    added_weight: u64,
}

impl Snapshot {
    fn new(members: Vec<Member>) -> Self {
        Self { tables: Arc::new(Tables::new(members)), ..Self::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.tables.members.len() + self.added.len()
    }

    pub(super) fn member(&self, i: usize) -> Option<(&Member, f32)> {
        match self.tables.members.get(i) {
            Some(member) => Some((member, self.tables.burden[i])),
            None => self.added.get(i - self.tables.members.len()).map(|member| (member, 1.0)),
        }
    }

    /// A position by weight.
    pub(super) fn draw(&self, draws: &mut Draws) -> usize {
        if self.added_weight > 0 {
            let all = u128::from(self.tables.weight) + u128::from(self.added_weight);
            let at = (u128::from(draws.next()) * all) >> 64;
            if at < u128::from(self.added_weight) {
                return self.tables.members.len() + draws.below(self.added.len());
            }
        }
        self.tables.alias.draw(draws.next())
    }

    /// The position that `key` names.
    pub(super) fn place(&self, key: u64) -> Option<usize> {
        self.tables.maglev.find(key)
    }

    pub(super) fn find(&self, id: SlotId) -> Option<usize> {
        let by_id = &self.tables.by_id;
        let known = by_id.binary_search_by_key(&id, |(id, _)| *id).ok().map(|i| by_id[i].1 as usize);
        known.or_else(|| {
            let added = self.added.iter().position(|m| m.slot.id() == id)?;
            Some(self.tables.members.len() + added)
        })
    }

    fn members(&self) -> impl Iterator<Item = &Member> {
        self.tables.members.iter().chain(&self.added)
    }
}

/// See the module.
#[derive(Debug)]
pub struct Tier {
    snapshot: ArcSwap<Snapshot>,
}

impl Tier {
    pub fn new(members: Vec<Member>) -> Self {
        Self { snapshot: ArcSwap::from_pointee(Snapshot::new(members)) }
    }

    pub(super) fn read(&self) -> arc_swap::Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    pub fn len(&self) -> usize {
        self.read().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn has(&self, id: SlotId) -> bool {
        self.read().find(id).is_some()
    }

    /// One more member: drawn from at once, named by keys after the next rebuild. The tables stay as they are.
    pub fn add(&self, member: &Member) {
        if self.read().added.len() >= MAX_ADDED {
            self.rebuild();
        }
        self.snapshot.rcu(|old| Snapshot {
            tables: Arc::clone(&old.tables),
            added: old.added.iter().chain([member]).cloned().collect(),
            added_weight: old.added_weight.saturating_add(member.lane.capacity()),
        });
    }

    /// Computes the tables anew from what is known now, without retired members. Off the path of calls.
    pub fn rebuild(&self) {
        self.snapshot
            .rcu(|old| Snapshot::new(old.members().filter(|m| !m.slot.is_retired()).cloned().collect()));
    }
}

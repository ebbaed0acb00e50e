//! A few tasks side by side, with what can be said of them together.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use df_contract::{LeaseKind, TaskSlug, TaskState, Timestamp};

use crate::record::TaskRecord;
use crate::task::is_ended;

/// Most tasks of one chunk; a fuller one is cut in two.
pub(super) const CHUNK: usize = 32;

/// A task, and who waits for it.
#[derive(Clone)]
pub(super) struct Slot {
    pub(super) task: Arc<TaskRecord>,
    /// Every task that depends on it. May name one that does so no more.
    pub(super) dependents: Arc<BTreeSet<TaskSlug>>,
}

/// Tasks in the order of their slugs.
#[derive(Clone, Default)]
pub(super) struct Chunk {
    slots: Vec<Slot>,
    /// Made when it is first asked for after a change.
    census: OnceLock<Census>,
}

/// What decisions ask of tasks together. Taken of each chunk anew when something in it has changed, so it cannot
/// drift from them; that of all is the sum.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Census {
    /// The first wave of which something has not ended.
    pub open_wave: Option<u32>,
    /// The first wave of which something waits for others.
    pub(super) pending_wave: Option<u32>,
    pub last_wave: u32,
    pub merges: Merges,
    /// Tasks that failed for good and that the job does not go on without.
    pub failed: u32,
    /// The kinds that there are, one bit each.
    pub(super) kinds: u8,
    /// The change that is to be merged first of those that are ready, and where it is.
    pub(super) next_merge: Option<(Timestamp, Reverse<u32>, (usize, usize))>,
}

/// How many merges stand how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Merges {
    /// Not ended; those at work among them.
    pub open: u32,
    pub leased: u32,
    pub succeeded: u32,
    /// Failed, cancelled or skipped.
    pub lost: u32,
}

const fn bit(kind: LeaseKind) -> u8 {
    match kind {
        LeaseKind::Intake => 1,
        LeaseKind::Agent => 2,
        LeaseKind::Integrate => 4,
        LeaseKind::Validate => 8,
        LeaseKind::Deliver => 16,
    }
}

fn least<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    one.into_iter().chain(other).min()
}

impl Census {
    /// Whether there is a task of this kind.
    pub fn has(&self, kind: LeaseKind) -> bool {
        self.kinds & bit(kind) != 0
    }

    fn count(&mut self, task: &TaskRecord, within: usize) {
        super::looked();
        self.kinds |= bit(task.kind);
        self.last_wave = self.last_wave.max(task.wave);
        if task.wave > 0 && !is_ended(task.state) {
            self.open_wave = least(self.open_wave, Some(task.wave));
        }
        if task.state == TaskState::Pending {
            self.pending_wave = least(self.pending_wave, Some(task.wave));
        }
        self.failed += u32::from(task.state == TaskState::Failed && !task.tolerated);
        if task.kind != LeaseKind::Integrate {
            return;
        }
        match task.state {
            TaskState::Pending | TaskState::Ready | TaskState::Leased => self.merges.open += 1,
            TaskState::Succeeded => self.merges.succeeded += 1,
            TaskState::Failed | TaskState::Cancelled | TaskState::Skipped => self.merges.lost += 1,
        }
        self.merges.leased += u32::from(task.state == TaskState::Leased);
        if task.state == TaskState::Ready {
            let first = (task.not_before, Reverse(task.rank), (0, within));
            self.next_merge = least(self.next_merge, Some(first));
        }
    }

    /// Adds that of the chunk at `at`.
    pub(super) fn add(&mut self, other: &Census, at: usize) {
        self.open_wave = least(self.open_wave, other.open_wave);
        self.pending_wave = least(self.pending_wave, other.pending_wave);
        self.last_wave = self.last_wave.max(other.last_wave);
        self.merges.open += other.merges.open;
        self.merges.leased += other.merges.leased;
        self.merges.succeeded += other.merges.succeeded;
        self.merges.lost += other.merges.lost;
        self.failed += other.failed;
        self.kinds |= other.kinds;
        let first = other.next_merge.map(|(due, rank, (_, within))| (due, rank, (at, within)));
        self.next_merge = least(self.next_merge, first);
    }
}

impl Chunk {
    pub(super) fn of(slots: Vec<Slot>) -> Self {
        Self { slots, census: OnceLock::new() }
    }

    pub(super) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    pub(super) fn slots_mut(&mut self) -> &mut Vec<Slot> {
        self.census = OnceLock::new();
        &mut self.slots
    }

    pub(super) fn find(&self, slug: &TaskSlug) -> Result<usize, usize> {
        self.slots.binary_search_by(|slot| slot.task.slug.cmp(slug))
    }

    pub(super) fn census(&self) -> &Census {
        self.census.get_or_init(|| {
            let mut census = Census::default();
            for (within, slot) in self.slots.iter().enumerate() {
                census.count(&slot.task, within);
            }
            census
        })
    }
}

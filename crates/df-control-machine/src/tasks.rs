//! The tasks of a job, shared until they change: a command that touches one task copies that one.

mod chunk;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use df_contract::{LeaseKind, TaskSlug, TaskState};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::record::TaskRecord;
use chunk::{CHUNK, Chunk, Slot};
pub use chunk::{Census, Merges};

/// Tasks by slug, in order.
///
/// Chunks of tasks behind shared pointers: a clone costs one pointer, a change a chunk and the list of chunks, and two
/// that come from each other are compared where they differ. Who waits for a task is kept beside it, and each chunk
/// knows what decisions ask of it ([`Census`]). So a command costs as much in a job of a thousand tasks as in one of ten:
/// it looks at what it changes, at what waits for that, and once at each chunk.
#[derive(Clone, Default)]
pub struct Tasks {
    /// None is empty; ordered by slug, within and among each other.
    chunks: Arc<Vec<Arc<Chunk>>>,
    len: usize,
    /// Who waits for tasks that are not there.
    dangling: Arc<BTreeMap<TaskSlug, Arc<BTreeSet<TaskSlug>>>>,
    /// Made when it is first asked for after a change.
    census: OnceLock<Census>,
}

#[cfg(test)]
thread_local! {
    static LOOKS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// Says that a task is looked at: a test asserts how often that is.
fn looked() {
    #[cfg(test)]
    LOOKS.set(LOOKS.get() + 1);
}

/// How often this thread has looked at a task.
#[cfg(test)]
pub(crate) fn looks() -> u64 {
    LOOKS.get()
}

impl Tasks {
    /// The chunk in which `slug` is, or would be.
    fn chunk_of(&self, slug: &TaskSlug) -> usize {
        let begins = |chunk: &Arc<Chunk>| chunk.slots().first().is_some_and(|first| first.task.slug <= *slug);
        self.chunks.partition_point(begins).saturating_sub(1)
    }

    fn find(&self, slug: &TaskSlug) -> Option<(usize, usize)> {
        let at = self.chunk_of(slug);
        Some((at, self.chunks.get(at)?.find(slug).ok()?))
    }

    fn slot(&self, slug: &TaskSlug) -> Option<&Slot> {
        looked();
        let (at, within) = self.find(slug)?;
        self.chunks.get(at)?.slots().get(within)
    }

    fn slot_mut(&mut self, slug: &TaskSlug) -> Option<&mut Slot> {
        looked();
        let (at, within) = self.find(slug)?;
        self.chunk_mut(at)?.get_mut(within)
    }

    fn chunk_mut(&mut self, at: usize) -> Option<&mut Vec<Slot>> {
        self.census = OnceLock::new();
        Arc::make_mut(&mut self.chunks).get_mut(at).map(|chunk| Arc::make_mut(chunk).slots_mut())
    }

    pub fn get(&self, slug: &TaskSlug) -> Option<&TaskRecord> {
        self.slot(slug).map(|slot| slot.task.as_ref())
    }

    /// The task to change; copied first when an earlier record still shares it. Its slug must stay what it is, and what
    /// it depends on is changed by [`Tasks::depend`].
    pub fn get_mut(&mut self, slug: &TaskSlug) -> Option<&mut TaskRecord> {
        self.slot_mut(slug).map(|slot| Arc::make_mut(&mut slot.task))
    }

    /// Lets a task wait for these and for nothing else.
    pub fn depend(&mut self, slug: &TaskSlug, on: BTreeSet<TaskSlug>) {
        on.iter().for_each(|on| self.link(on, slug));
        if let Some(task) = self.get_mut(slug) {
            task.depends_on = on;
        }
    }

    fn link(&mut self, on: &TaskSlug, dependent: &TaskSlug) {
        let dependents = match self.slot_mut(on) {
            Some(slot) => &mut slot.dependents,
            None => Arc::make_mut(&mut self.dangling).entry(on.clone()).or_default(),
        };
        Arc::make_mut(dependents).insert(dependent.clone());
    }

    /// The tasks that depend on `slug`.
    pub fn dependents(&self, slug: &TaskSlug) -> impl Iterator<Item = &TaskRecord> {
        let dependents = self.slot(slug).into_iter().flat_map(|slot| slot.dependents.iter());
        dependents.filter_map(|one| self.get(one)).filter(move |task| task.depends_on.contains(slug))
    }

    pub fn contains_key(&self, slug: &TaskSlug) -> bool {
        self.find(slug).is_some()
    }

    /// Adds a task under its own slug, or puts it in the place of the one that is there.
    pub fn insert(&mut self, slug: TaskSlug, task: TaskRecord) {
        assert!(slug == task.slug, "a task is kept under its own slug");
        let on = task.depends_on.clone();
        match self.slot_mut(&slug) {
            Some(slot) => slot.task = Arc::new(task),
            None => self.add(task),
        }
        on.iter().for_each(|on| self.link(on, &slug));
    }

    fn add(&mut self, task: TaskRecord) {
        let waiting = self.dangling.contains_key(&task.slug);
        let dependents = waiting.then(|| Arc::make_mut(&mut self.dangling).remove(&task.slug)).flatten();
        let at = self.chunk_of(&task.slug);
        let within = self.chunks.get(at).map_or(0, |chunk| chunk.find(&task.slug).unwrap_or_else(|to| to));
        let slot = Slot { task: Arc::new(task), dependents: dependents.unwrap_or_default() };
        self.len += 1;
        let Some(slots) = self.chunk_mut(at) else {
            Arc::make_mut(&mut self.chunks).push(Arc::new(Chunk::of(vec![slot])));
            return;
        };
        slots.insert(within, slot);
        if slots.len() > CHUNK {
            let rest = slots.split_off(slots.len() / 2);
            Arc::make_mut(&mut self.chunks).insert(at + 1, Arc::new(Chunk::of(rest)));
        }
    }

    /// What can be said of all tasks together.
    pub fn census(&self) -> &Census {
        self.census.get_or_init(|| {
            let mut census = Census::default();
            self.chunks.iter().enumerate().for_each(|(at, chunk)| census.add(chunk.census(), at));
            census
        })
    }

    /// The change that is to be merged first of those that are ready.
    pub fn next_merge(&self) -> Option<&TaskSlug> {
        let (_, _, (at, within)) = self.census().next_merge?;
        Some(&self.chunks.get(at)?.slots().get(within)?.task.slug)
    }

    /// Tasks of the waves up to `wave` that wait for others.
    pub fn pending(&self, wave: u32) -> impl Iterator<Item = &TaskRecord> {
        let waits = move |task: &&TaskRecord| task.state == TaskState::Pending && task.wave <= wave;
        self.among(move |census| census.pending_wave.is_some_and(|first| first <= wave)).filter(waits)
    }

    /// Tasks that failed for good and that the job does not go on without.
    pub fn failed(&self) -> impl Iterator<Item = &TaskRecord> {
        let failed = |task: &&TaskRecord| task.state == TaskState::Failed && !task.tolerated;
        self.among(|census| census.failed > 0).filter(failed)
    }

    pub fn of_kind(&self, kind: LeaseKind) -> impl Iterator<Item = &TaskRecord> {
        self.among(move |census| census.has(kind)).filter(move |task| task.kind == kind)
    }

    /// The tasks of the chunks of which `worth` says so.
    fn among(&self, worth: impl Fn(&Census) -> bool) -> impl Iterator<Item = &TaskRecord> {
        let chunks = self.chunks.iter().filter(move |chunk| worth(chunk.census()));
        chunks.flat_map(|chunk| chunk.slots()).inspect(|_| looked()).map(|slot| slot.task.as_ref())
    }

    fn all(&self) -> impl Iterator<Item = &Arc<TaskRecord>> {
        self.chunks.iter().flat_map(|chunk| chunk.slots()).inspect(|_| looked()).map(|slot| &slot.task)
    }

    pub fn values(&self) -> impl Iterator<Item = &TaskRecord> {
        self.all().map(AsRef::as_ref)
    }

    pub fn keys(&self) -> impl Iterator<Item = &TaskSlug> {
        self.all().map(|task| &task.slug)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&TaskSlug, &TaskRecord)> {
        self.all().map(|task| (&task.slug, task.as_ref()))
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The tasks that differ from `before`, each with what it was. What is still shared is not compared.
    pub fn changed_since<'a>(
        &'a self,
        before: &'a Tasks,
    ) -> impl Iterator<Item = (&'a TaskRecord, Option<&'a TaskRecord>)> {
        let (now, then) = (&self.chunks[..], &before.chunks[..]);
        let shared = |(one, other): &(&Arc<Chunk>, &Arc<Chunk>)| Arc::ptr_eq(one, other);
        let first = now.iter().zip(then).take_while(shared).count();
        let (now, then) = (&now[first..], &then[first..]);
        let last = now.iter().rev().zip(then.iter().rev()).take_while(shared).count();
        let (now, then) = (&now[..now.len() - last], &then[..then.len() - last]);
        let known: BTreeSet<*const Chunk> = then.iter().map(Arc::as_ptr).collect();
        let chunks = now.iter().filter(move |chunk| !known.contains(&Arc::as_ptr(chunk)));
        chunks.flat_map(|chunk| chunk.slots()).filter_map(|slot| {
            let task = &slot.task;
            match before.slot(&task.slug).map(|old| &old.task) {
                Some(old) if Arc::ptr_eq(old, task) || old == task => None,
                old => Some((task.as_ref(), old.map(AsRef::as_ref))),
            }
        })
    }

    /// Whether what is kept beside the tasks is what they themselves say.
    pub(crate) fn is_sound(&self) -> bool {
        let anew: Tasks = self.values().cloned().collect();
        let known = |task: &TaskRecord| {
            task.depends_on
                .iter()
                .filter(|on| self.contains_key(on))
                .all(|on| self.slot(on).is_some_and(|slot| slot.dependents.contains(&task.slug)))
        };
        let place = |tasks: &Tasks| tasks.next_merge().cloned();
        let plain = |tasks: &Tasks| Census { next_merge: None, ..*tasks.census() };
        self.values().all(known) && plain(self) == plain(&anew) && place(self) == place(&anew)
    }
}

/// However they are cut into chunks.
impl PartialEq for Tasks {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.chunks, &other.chunks)
            || (self.len == other.len
                && self.all().zip(other.all()).all(|(one, other)| Arc::ptr_eq(one, other) || one == other))
    }
}

impl Eq for Tasks {}

impl std::fmt::Debug for Tasks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl FromIterator<TaskRecord> for Tasks {
    fn from_iter<I: IntoIterator<Item = TaskRecord>>(tasks: I) -> Self {
        let sorted: BTreeMap<TaskSlug, TaskRecord> =
            tasks.into_iter().map(|task| (task.slug.clone(), task)).collect();
        let mut dependents: BTreeMap<TaskSlug, BTreeSet<TaskSlug>> = BTreeMap::new();
        for task in sorted.values() {
            for on in &task.depends_on {
                dependents.entry(on.clone()).or_default().insert(task.slug.clone());
            }
        }
        let mut of = |slug: &TaskSlug| Arc::new(dependents.remove(slug).unwrap_or_default());
        let slots: Vec<Slot> = sorted
            .into_values()
            .map(|task| Slot { dependents: of(&task.slug), task: Arc::new(task) })
            .collect();
        let chunks = slots.chunks(CHUNK).map(|slots| Arc::new(Chunk::of(slots.to_vec()))).collect();
        let dangling = dependents.into_iter().map(|(on, waiting)| (on, Arc::new(waiting))).collect();
        Self {
            chunks: Arc::new(chunks),
            len: slots.len(),
            dangling: Arc::new(dangling),
            census: OnceLock::new(),
        }
    }
}

/// As a map by slug.
impl Serialize for Tasks {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Tasks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let map = BTreeMap::<TaskSlug, TaskRecord>::deserialize(deserializer)?;
        match map.iter().find(|(slug, task)| **slug != task.slug) {
            Some((slug, _)) => Err(serde::de::Error::custom(format!("`{slug}` holds another task"))),
            None => Ok(map.into_values().collect()),
        }
    }
}

impl std::ops::Index<&TaskSlug> for Tasks {
    type Output = TaskRecord;

    /// # Panics
    /// When there is no such task.
    fn index(&self, slug: &TaskSlug) -> &TaskRecord {
        match self.get(slug) {
            Some(task) => task,
            None => panic!("there is no task `{slug}`"),
        }
    }
}

#[cfg(test)]
mod tests;

//! The tasks of a job, shared until they change: a command that touches one task copies that one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use df_contract::TaskSlug;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::record::TaskRecord;

/// Most tasks of one chunk; a fuller one is cut in two.
const CHUNK: usize = 32;

type Chunk = Arc<Vec<Arc<TaskRecord>>>;

/// Tasks by slug, in order.
///
/// Chunks of tasks behind shared pointers: a clone costs one pointer, a change a chunk and the list of chunks, and two
/// that come from each other are compared where they differ. So a command costs as much in a job of a thousand tasks as
/// in one of ten, but for what it looks at.
#[derive(Clone, Default)]
pub struct Tasks {
    /// None is empty; ordered by slug, within and among each other.
    chunks: Arc<Vec<Chunk>>,
    len: usize,
}

impl Tasks {
    /// The chunk in which `slug` is, or would be.
    fn chunk_of(&self, slug: &TaskSlug) -> usize {
        self.chunks
            .partition_point(|chunk| chunk.first().is_some_and(|first| first.slug <= *slug))
            .saturating_sub(1)
    }

    fn find(&self, slug: &TaskSlug) -> Option<(usize, usize)> {
        let at = self.chunk_of(slug);
        let within = self.chunks.get(at)?.binary_search_by(|task| task.slug.cmp(slug)).ok()?;
        Some((at, within))
    }

    fn shared(&self, slug: &TaskSlug) -> Option<&Arc<TaskRecord>> {
        let (at, within) = self.find(slug)?;
        self.chunks.get(at)?.get(within)
    }

    pub fn get(&self, slug: &TaskSlug) -> Option<&TaskRecord> {
        self.shared(slug).map(AsRef::as_ref)
    }

    /// The task to change; copied first when an earlier record still shares it. Its slug must stay what it is.
    pub fn get_mut(&mut self, slug: &TaskSlug) -> Option<&mut TaskRecord> {
        let (at, within) = self.find(slug)?;
        let chunk = Arc::make_mut(&mut self.chunks).get_mut(at)?;
        Arc::make_mut(chunk).get_mut(within).map(Arc::make_mut)
    }

    pub fn contains_key(&self, slug: &TaskSlug) -> bool {
        self.find(slug).is_some()
    }

    /// Adds a task under its own slug, or puts it in the place of the one that is there.
    pub fn insert(&mut self, slug: TaskSlug, task: TaskRecord) {
        assert!(slug == task.slug, "a task is kept under its own slug");
        let at = self.chunk_of(&task.slug);
        let chunks = Arc::make_mut(&mut self.chunks);
        let Some(chunk) = chunks.get_mut(at).map(Arc::make_mut) else {
            chunks.push(Arc::new(vec![Arc::new(task)]));
            self.len += 1;
            return;
        };
        match chunk.binary_search_by(|other| other.slug.cmp(&task.slug)) {
            Ok(within) => chunk[within] = Arc::new(task),
            Err(within) => {
                chunk.insert(within, Arc::new(task));
                self.len += 1;
                if chunk.len() > CHUNK {
                    let rest = chunk.split_off(chunk.len() / 2);
                    chunks.insert(at + 1, Arc::new(rest));
                }
            }
        }
    }

    fn all(&self) -> impl Iterator<Item = &Arc<TaskRecord>> {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
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
        let known: BTreeSet<*const Vec<Arc<TaskRecord>>> = before.chunks.iter().map(Arc::as_ptr).collect();
        let chunks = self.chunks.iter().filter(move |chunk| !known.contains(&Arc::as_ptr(chunk)));
        chunks.flat_map(|chunk| chunk.iter()).filter_map(|task| match before.shared(&task.slug) {
            Some(old) if Arc::ptr_eq(old, task) || old == task => None,
            old => Some((task.as_ref(), old.map(AsRef::as_ref))),
        })
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
        let sorted: BTreeMap<TaskSlug, Arc<TaskRecord>> =
            tasks.into_iter().map(|task| (task.slug.clone(), Arc::new(task))).collect();
        let all: Vec<Arc<TaskRecord>> = sorted.into_values().collect();
        let chunks: Vec<Chunk> = all.chunks(CHUNK).map(|chunk| Arc::new(chunk.to_vec())).collect();
        Self { chunks: Arc::new(chunks), len: all.len() }
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

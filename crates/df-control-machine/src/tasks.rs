//! The tasks of a job, shared until they change: a command that touches one task copies that one.

use std::collections::BTreeMap;
use std::sync::Arc;

use df_contract::TaskSlug;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::record::TaskRecord;

/// Tasks by slug, in order. A clone costs a pointer; the first change after it costs a pointer per task and a copy of
/// the task.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tasks(Arc<Vec<Arc<TaskRecord>>>);

impl Tasks {
    /// Where the task is, or where it would be.
    fn place(&self, slug: &TaskSlug) -> Result<usize, usize> {
        self.0.binary_search_by(|task| task.slug.cmp(slug))
    }

    pub fn get(&self, slug: &TaskSlug) -> Option<&TaskRecord> {
        self.place(slug).ok().map(|at| self.0[at].as_ref())
    }

    /// The task to change; copied first when an earlier record still shares it. Its slug is not to be changed.
    pub fn get_mut(&mut self, slug: &TaskSlug) -> Option<&mut TaskRecord> {
        let at = self.place(slug).ok()?;
        Arc::make_mut(&mut self.0).get_mut(at).map(Arc::make_mut)
    }

    pub fn contains_key(&self, slug: &TaskSlug) -> bool {
        self.place(slug).is_ok()
    }

    /// Takes in `task` under its own slug, in the place of one that is there.
    pub fn insert(&mut self, slug: TaskSlug, task: TaskRecord) {
        assert!(slug == task.slug, "a task is kept under its own slug");
        let (place, tasks) = (self.place(&slug), Arc::make_mut(&mut self.0));
        match place {
            Ok(at) => tasks[at] = Arc::new(task),
            Err(at) => tasks.insert(at, Arc::new(task)),
        }
    }

    pub fn values(&self) -> impl Iterator<Item = &TaskRecord> {
        self.0.iter().map(AsRef::as_ref)
    }

    pub fn keys(&self) -> impl Iterator<Item = &TaskSlug> {
        self.0.iter().map(|task| &task.slug)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&TaskSlug, &TaskRecord)> {
        self.0.iter().map(|task| (&task.slug, task.as_ref()))
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The tasks that differ from `before`, each with what it was. What is still shared is not compared.
    pub fn changed_since<'a>(
        &'a self,
        before: &'a Tasks,
    ) -> impl Iterator<Item = (&'a TaskRecord, Option<&'a TaskRecord>)> {
        // Both are in order, and hardly ever does a task go: the places differ by what came in between.
        let mut at = 0;
        self.0.iter().filter_map(move |task| {
            while before.0.get(at).is_some_and(|old| !Arc::ptr_eq(old, task) && old.slug < task.slug) {
                at += 1;
            }
            match before.0.get(at).filter(|old| Arc::ptr_eq(old, task) || old.slug == task.slug) {
                Some(old) if Arc::ptr_eq(old, task) || old == task => None,
                old => Some((task.as_ref(), old.map(AsRef::as_ref))),
            }
        })
    }
}

impl FromIterator<TaskRecord> for Tasks {
    /// Of two tasks with one slug the later stays.
    fn from_iter<I: IntoIterator<Item = TaskRecord>>(tasks: I) -> Self {
        let by_slug: BTreeMap<TaskSlug, Arc<TaskRecord>> =
            tasks.into_iter().map(|task| (task.slug.clone(), Arc::new(task))).collect();
        Self(Arc::new(by_slug.into_values().collect()))
    }
}

impl std::ops::Index<&TaskSlug> for Tasks {
    type Output = TaskRecord;

    fn index(&self, slug: &TaskSlug) -> &TaskRecord {
        match self.place(slug) {
            Ok(at) => &self.0[at],
            Err(_) => panic!("there is no task `{slug}`"),
        }
    }
}

// As a map by slug.
impl Serialize for Tasks {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Tasks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let tasks = BTreeMap::<TaskSlug, TaskRecord>::deserialize(deserializer)?;
        Ok(tasks.into_values().collect())
    }
}

#[cfg(test)]
mod tests {
    use df_contract::{LeaseKind, Role};

    use super::*;

    fn task(slug: &str, title: &str) -> TaskRecord {
        let slug = slug.parse().unwrap();
        TaskRecord::new(slug, LeaseKind::Agent, Role::Backend, title.to_owned(), [].into())
    }

    fn tasks(slugs: &[&str]) -> Tasks {
        slugs.iter().map(|slug| task(slug, "old")).collect()
    }

    proptest::proptest! {
        #[test]
        fn changes_are_those_a_plain_comparison_finds(
            before in proptest::collection::btree_set("[a-f]", 0..6),
            changed in proptest::collection::btree_map("[a-f]", "[on]", 0..6),
        ) {
            let before: Tasks = before.iter().map(|slug| task(slug, "o")).collect();
            let mut after = before.clone();
            for (slug, title) in &changed {
                let new = task(slug, title);
                after.insert(new.slug.clone(), new);
            }
            let found: Vec<_> = after.changed_since(&before).collect();
            let want: Vec<_> = after
                .values()
                .map(|new| (new, before.get(&new.slug)))
                .filter(|(new, old)| *old != Some(*new))
                .collect();
            proptest::prop_assert_eq!(found, want);
        }
    }

    #[test]
    fn a_change_copies_one_task_and_leaves_the_earlier_record_alone() {
        let before = tasks(&["c", "a", "b"]);
        let mut after = before.clone();
        after.get_mut(&"b".parse().unwrap()).unwrap().title = "new".to_owned();
        assert_eq!(before[&"b".parse().unwrap()].title, "old");
        assert!(Arc::ptr_eq(&before.0[0], &after.0[0]) && !Arc::ptr_eq(&before.0[1], &after.0[1]));
        assert_eq!(after.keys().map(TaskSlug::as_str).collect::<Vec<_>>(), ["a", "b", "c"]);
    }

    #[test]
    fn the_wire_form_is_a_map_by_slug() {
        let all = tasks(&["b", "a"]);
        let text = serde_json::to_value(&all).unwrap();
        assert_eq!(text.as_object().unwrap().keys().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(serde_json::from_value::<Tasks>(text).unwrap(), all);
    }
}

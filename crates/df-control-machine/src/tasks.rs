//! The tasks of a job, shared until they change: a command that touches one task copies that one.

use std::collections::BTreeMap;
use std::sync::Arc;

use df_contract::TaskSlug;
use serde::{Deserialize, Serialize};

use crate::record::TaskRecord;

/// Tasks by slug. A clone costs a pointer per task.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tasks(BTreeMap<TaskSlug, Arc<TaskRecord>>);

impl Tasks {
    pub fn get(&self, slug: &TaskSlug) -> Option<&TaskRecord> {
        self.0.get(slug).map(AsRef::as_ref)
    }

    /// The task to change; copied first when an earlier record still shares it.
    pub fn get_mut(&mut self, slug: &TaskSlug) -> Option<&mut TaskRecord> {
        self.0.get_mut(slug).map(Arc::make_mut)
    }

    pub fn contains_key(&self, slug: &TaskSlug) -> bool {
        self.0.contains_key(slug)
    }

    pub fn insert(&mut self, slug: TaskSlug, task: TaskRecord) {
        self.0.insert(slug, Arc::new(task));
    }

    pub fn values(&self) -> impl Iterator<Item = &TaskRecord> {
        self.0.values().map(AsRef::as_ref)
    }

    pub fn keys(&self) -> impl Iterator<Item = &TaskSlug> {
        self.0.keys()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&TaskSlug, &TaskRecord)> {
        self.0.iter().map(|(slug, task)| (slug, task.as_ref()))
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
        self.0.iter().filter_map(|(slug, task)| match before.0.get(slug) {
            Some(old) if Arc::ptr_eq(old, task) || old == task => None,
            old => Some((task.as_ref(), old.map(AsRef::as_ref))),
        })
    }
}

impl FromIterator<TaskRecord> for Tasks {
    fn from_iter<I: IntoIterator<Item = TaskRecord>>(tasks: I) -> Self {
        Self(tasks.into_iter().map(|task| (task.slug.clone(), Arc::new(task))).collect())
    }
}

impl std::ops::Index<&TaskSlug> for Tasks {
    type Output = TaskRecord;

    fn index(&self, slug: &TaskSlug) -> &TaskRecord {
        &self.0[slug]
    }
}

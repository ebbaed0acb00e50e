//! What the audit log and the ledger must say of many jobs, whatever befell them.

use std::collections::{BTreeMap, BTreeSet};

use df_contract::{FailureKind, JobId, Plan, TaskSlug};
use df_control_audit::{AuditRecord, ExportLine};
use df_testkit::TestFactory;

/// The audit log, job by job in the order of its records.
pub(crate) struct Books(BTreeMap<JobId, Vec<AuditRecord>>);

impl Books {
    pub(crate) fn of(factory: &TestFactory) -> Self {
        let mut jobs: BTreeMap<JobId, Vec<AuditRecord>> = BTreeMap::new();
        for line in factory.audit() {
            if let ExportLine::Record(record) = line {
                jobs.entry(record.job).or_default().push(record);
            }
        }
        Self(jobs)
    }

    pub(crate) fn records(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    fn of_tasks(&self) -> impl Iterator<Item = (&AuditRecord, &TaskSlug)> {
        let records = self.0.values().flatten().filter(|r| r.body["kind"] == "task");
        records.filter_map(|r| r.slug.as_ref().map(|slug| (r, slug)))
    }

    /// Events of tasks, by name.
    pub(crate) fn events(&self, event: &str) -> usize {
        self.of_tasks().filter(|(r, _)| r.body["event"] == event).count()
    }

    /// Attempts that ended in failure, by kind: their causes begin with it.
    pub(crate) fn failures(&self) -> BTreeMap<FailureKind, usize> {
        let mut found = BTreeMap::new();
        for (record, _) in self.of_tasks() {
            let cause = record.body["cause"].as_str().unwrap_or_default();
            let kind = FailureKind::ALL.iter().find(|k| cause.starts_with(&format!("{}: ", k.as_str())));
            if let Some(kind) = kind {
                *found.entry(*kind).or_insert(0) += 1;
            }
        }
        found
    }

    /// Each task was accepted from a lease, once at most under each, and after a success only when it was begun anew.
    /// Answers how many results were accepted.
    pub(crate) fn accepted_once(&self) -> usize {
        let mut states: BTreeMap<(JobId, &TaskSlug), &str> = BTreeMap::new();
        let mut accepted = BTreeSet::new();
        for (record, slug) in self.of_tasks() {
            let (from, to) = (record.body["from"].as_str().unwrap(), record.body["to"].as_str().unwrap());
            let place = format!("{} {slug}, record {}", record.job, record.seq);
            if let Some(state) = states.insert((record.job, slug), to) {
                assert_eq!(state, from, "{place}: a step that does not follow from the one before");
            }
            if to == "SUCCEEDED" {
                assert_eq!(from, "LEASED", "{place}: a result without a lease");
                let epoch = record.epoch.unwrap();
                assert!(
                    accepted.insert((record.job, slug, epoch)),
                    "{place}: a second result of one attempt"
                );
            }
        }
        accepted.len()
    }

    /// Whenever a task of `plan` was claimed, the changes of all that it builds on were in the job branch. Answers how
    /// many claims were looked at.
    pub(crate) fn parents_first(&self, job: JobId, plan: &Plan) -> usize {
        let parents: BTreeMap<&str, Vec<String>> = plan
            .tasks
            .iter()
            .map(|t| (t.slug.as_str(), t.depends_on.iter().map(|p| format!("integrate.{p}")).collect()))
            .collect();
        let (mut states, mut claims) = (BTreeMap::new(), 0);
        for record in self.0.get(&job).into_iter().flatten().filter(|r| r.body["kind"] == "task") {
            let slug = record.slug.as_ref().map_or("", TaskSlug::as_str);
            if let (true, Some(parents)) = (record.body["event"] == "claimed", parents.get(slug)) {
                claims += 1;
                for parent in parents {
                    let state = states.get(parent.as_str()).copied();
                    assert_eq!(state, Some("SUCCEEDED"), "{job}: {slug} was begun before {parent}");
                }
            }
            states.insert(slug, record.body["to"].as_str().unwrap());
        }
        claims
    }
}

//! The log as JSON lines, for a verifier that has neither the daemon nor its database.
//!
//! Per job: its records, oldest first, then one line with what the tables say now.

use std::collections::BTreeMap;

use df_contract::{Digest, JobId, JobState, TaskSlug, TaskState};
use serde::{Deserialize, Serialize};

use crate::fold::{JobFold, TaskFold, verify_job};
use crate::registry::{RegistryError, RegistryRecord, RegistryState, verify_registry};
use crate::{AuditError, AuditRecord, Lifecycle};

/// What the tables say of one job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Current {
    pub job: JobId,
    pub state: JobState,
    pub resume_to: Option<JobState>,
    pub version: u64,
    /// Number and hash of the last record, as the job's row has them.
    pub audit_seq: u64,
    pub audit_head: Digest,
    /// State and epoch of every task.
    pub tasks: BTreeMap<TaskSlug, (TaskState, u64)>,
}

/// One line of an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "snake_case")]
pub enum ExportLine {
    Record(AuditRecord),
    Current(Current),
    /// A row that cannot be read, or that contradicts itself.
    Unreadable {
        job: JobId,
        why: String,
    },
    /// Of the registry of agents, oldest first.
    Agents(RegistryRecord),
    /// What the tables say of the registry, after its records.
    AgentsNow(RegistryState),
    /// A row of the registry that cannot be read, or that was not signed as it stands.
    AgentsUnreadable {
        why: String,
    },
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    #[error(transparent)]
    Log(#[from] AuditError),
    #[error("{job}: the log leads to {log}, the tables say {tables}")]
    Differs { job: JobId, log: String, tables: String },
    #[error("{job} has {records} records but no row in the tables")]
    NoRow { job: JobId, records: u64 },
    #[error("{job}: {why}")]
    Unreadable { job: JobId, why: String },
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error("registry of agents: {0}")]
    RegistryTables(String),
}

/// What a verification covered and what it found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verified {
    pub jobs: u64,
    pub records: u64,
    pub findings: Vec<Finding>,
}

/// Verifies a whole export. One broken job does not hide another; the first fault of each is told.
pub fn verify_export(lines: impl IntoIterator<Item = ExportLine>, lifecycle: &Lifecycle) -> Verified {
    let mut verified = Verified::default();
    let mut chain: Vec<AuditRecord> = Vec::new();
    let mut registry: Vec<RegistryRecord> = Vec::new();
    for line in lines {
        match line {
            ExportLine::Record(record) => {
                verified.records += 1;
                if chain.first().is_some_and(|first| first.job != record.job) {
                    orphan(&mut chain, &mut verified);
                }
                chain.push(record);
            }
            ExportLine::Unreadable { job, why } => {
                verified.findings.push(Finding::Unreadable { job, why });
            }
            ExportLine::Agents(record) => {
                verified.records += 1;
                registry.push(record);
            }
            ExportLine::AgentsNow(tables) => {
                verified.findings.extend(check_registry(&registry, &tables));
                registry.clear();
            }
            ExportLine::AgentsUnreadable { why } => verified.findings.push(Finding::RegistryTables(why)),
            ExportLine::Current(current) => {
                verified.jobs += 1;
                if chain.first().is_some_and(|first| first.job != current.job) {
                    orphan(&mut chain, &mut verified);
                }
                verified.findings.extend(check(&chain, &current, lifecycle));
                chain.clear();
            }
        }
    }
    orphan(&mut chain, &mut verified);
    if !registry.is_empty() {
        let why = format!("{} records, and nothing of the tables", registry.len());
        verified.findings.push(Finding::RegistryTables(why));
    }
    verified
}

fn check_registry(log: &[RegistryRecord], tables: &RegistryState) -> Vec<Finding> {
    let state = match verify_registry(log) {
        Ok(state) => state,
        Err(broken) => return vec![broken.into()],
    };
    let mut found = Vec::new();
    let mut compare = |what: &str, same: bool| {
        if !same {
            found.push(Finding::RegistryTables(format!("the {what} are not what the log leads to")));
        }
    };
    compare("number and hash of the last record", state.last == tables.last);
    compare("agents and their versions", state.agents == tables.agents);
    compare("pins", state.pins == tables.pins);
    compare("kept keys", state.signers == tables.signers);
    found
}

fn orphan(chain: &mut Vec<AuditRecord>, verified: &mut Verified) {
    if let Some(first) = chain.first() {
        verified.findings.push(Finding::NoRow { job: first.job, records: chain.len() as u64 });
    }
    chain.clear();
}

fn check(chain: &[AuditRecord], current: &Current, lifecycle: &Lifecycle) -> Vec<Finding> {
    let fold = match verify_job(chain, lifecycle) {
        Ok(fold) => fold,
        Err(broken) => return vec![broken.into()],
    };
    let mut found = Vec::new();
    let mut compare = |log: String, tables: String| {
        if log != tables {
            found.push(Finding::Differs { job: current.job, log, tables });
        }
    };
    compare(
        format!("{} records ending in {}", fold.tip.seq, fold.tip.head),
        format!("{} records ending in {}", current.audit_seq, current.audit_head),
    );
    compare(
        job_text(fold.state, fold.resume_to, fold.version),
        job_text(Some(current.state), current.resume_to, current.version),
    );
    for slug in fold.tasks.keys().chain(current.tasks.keys().filter(|s| !fold.tasks.contains_key(*s))) {
        let tables = current.tasks.get(slug).map(|(state, epoch)| TaskFold { state: *state, epoch: *epoch });
        compare(task_text(slug, task_of(&fold, slug)), task_text(slug, tables));
    }
    found
}

fn task_of(fold: &JobFold, slug: &TaskSlug) -> Option<TaskFold> {
    fold.tasks.get(slug).copied()
}

fn job_text(state: Option<JobState>, resume_to: Option<JobState>, version: u64) -> String {
    let name = |s: Option<JobState>| s.map_or("nothing", JobState::as_str);
    format!("{} (resuming to {}) at version {version}", name(state), name(resume_to))
}

fn task_text(slug: &TaskSlug, task: Option<TaskFold>) -> String {
    match task {
        Some(task) => format!("task {slug} in {} under epoch {}", task.state, task.epoch),
        None => format!("no task {slug}"),
    }
}

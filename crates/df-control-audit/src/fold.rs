//! From the records back to the states: what the tables must say if nobody wrote past the log.

use std::collections::BTreeMap;

use df_contract::{JobState, TaskSlug, TaskState};
use serde::Deserialize;

use crate::chain::{Tip, follow};
use crate::{AuditError, AuditRecord};

/// One step of a job.
pub type JobStep = fn(JobState, Option<JobState>, &str) -> Result<(JobState, Option<JobState>), String>;
/// One step of a task.
pub type TaskStep = fn(TaskState, u64, &str) -> Result<(TaskState, u64), String>;

/// The two step functions of the life cycles, as df-control-machine has them. Events go by their wire names.
#[derive(Debug, Clone, Copy)]
pub struct Lifecycle {
    /// State, where it resumes to, event → the same after it, or why not.
    pub job: JobStep,
    /// State, epoch, event → the same after it, or why not.
    pub task: TaskStep,
}

/// A task as the log leaves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskFold {
    pub state: TaskState,
    pub epoch: u64,
}

/// A job as the log leaves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobFold {
    pub tip: Tip,
    pub version: u64,
    /// Absent until the record of the submission.
    pub state: Option<JobState>,
    pub resume_to: Option<JobState>,
    pub tasks: BTreeMap<TaskSlug, TaskFold>,
}

/// The bodies that move something. All others leave the states alone.
#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Move {
    Submitted {},
    Job {
        event: String,
        from: JobState,
        to: JobState,
        resume_to: Option<JobState>,
    },
    TaskCreated {
        state: TaskState,
    },
    Task {
        event: String,
        from: TaskState,
        to: TaskState,
    },
    #[serde(other)]
    Nothing,
}

/// Checks links, hashes, numbers and versions of one job's records, oldest first; returns the end of the chain.
pub fn verify_chain<'a>(records: impl IntoIterator<Item = &'a AuditRecord>) -> Result<Tip, AuditError> {
    let (mut tip, mut before) = (Tip::empty(), None);
    for record in records {
        tip = follow(&tip, before, record)?;
        before = Some(record);
    }
    Ok(tip)
}

/// [`verify_chain`], and folds the states: every recorded transition must be one the life cycles have.
pub fn verify_job<'a>(
    records: impl IntoIterator<Item = &'a AuditRecord>,
    lifecycle: &Lifecycle,
) -> Result<JobFold, AuditError> {
    let (mut fold, mut before) = (JobFold::empty(), None);
    for record in records {
        fold.tip = follow(&fold.tip, before, record)?;
        fold.version = record.version;
        fold.step(record, lifecycle)?;
        before = Some(record);
    }
    Ok(fold)
}

impl JobFold {
    fn empty() -> Self {
        Self { tip: Tip::empty(), version: 0, state: None, resume_to: None, tasks: BTreeMap::new() }
    }

    fn step(&mut self, record: &AuditRecord, lifecycle: &Lifecycle) -> Result<(), AuditError> {
        let wrong = |why: String| AuditError::Step { job: record.job, seq: record.seq, why };
        let body = Move::deserialize(&record.body).map_err(|e| wrong(format!("unreadable body: {e}")))?;
        match body {
            Move::Submitted {} if self.state.is_some() => Err(wrong("submitted a second time".into())),
            Move::Submitted {} => {
                self.state = Some(JobState::Draft);
                Ok(())
            }
            Move::Job { event, from, to, resume_to } => {
                let now = self.state.ok_or_else(|| wrong("the job was not submitted".into()))?;
                if now != from {
                    return Err(wrong(format!("says it left {from}, but the job was in {now}")));
                }
                let reached = (lifecycle.job)(now, self.resume_to, &event).map_err(wrong)?;
                if reached != (to, resume_to) {
                    return Err(wrong(format!("says {event} led to {to}; it leads to {}", reached.0)));
                }
                (self.state, self.resume_to) = (Some(to), resume_to);
                Ok(())
            }
            Move::TaskCreated { state } => self.create(record, state),
            Move::Task { event, from, to } => self.task_step(record, lifecycle, &event, from, to),
            Move::Nothing => Ok(()),
        }
    }

    fn create(&mut self, record: &AuditRecord, state: TaskState) -> Result<(), AuditError> {
        let (slug, wrong) = about(record)?;
        if !matches!(state, TaskState::Pending | TaskState::Ready) || record.epoch != Some(0) {
            return Err(wrong("a task begins in PENDING or READY with epoch 0".into()));
        }
        match self.tasks.insert(slug.clone(), TaskFold { state, epoch: 0 }) {
            Some(_) => Err(wrong("created a second time".into())),
            None => Ok(()),
        }
    }

    fn task_step(
        &mut self,
        record: &AuditRecord,
        lifecycle: &Lifecycle,
        event: &str,
        from: TaskState,
        to: TaskState,
    ) -> Result<(), AuditError> {
        let (slug, wrong) = about(record)?;
        let task = self.tasks.get_mut(slug).ok_or_else(|| wrong("was never created".into()))?;
        if task.state != from {
            return Err(wrong(format!("says it left {from}, but the task was in {}", task.state)));
        }
        let (state, epoch) = (lifecycle.task)(task.state, task.epoch, event).map_err(&wrong)?;
        if state != to || record.epoch != Some(epoch) {
            let said = record.epoch.unwrap_or(0);
            return Err(wrong(format!(
                "says {event} led to {to} under epoch {said}; it leads to {state} under {epoch}"
            )));
        }
        *task = TaskFold { state, epoch };
        Ok(())
    }
}

fn about(record: &AuditRecord) -> Result<(&TaskSlug, impl Fn(String) -> AuditError), AuditError> {
    let (job, seq) = (record.job, record.seq);
    let slug =
        record.slug.as_ref().ok_or_else(|| AuditError::Step { job, seq, why: "names no task".into() })?;
    Ok((slug, move |why| AuditError::TaskStep { job, seq, slug: slug.clone(), why }))
}

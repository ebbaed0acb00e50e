//! A job's rows: its own, its documents' and its tasks'.

use df_contract::{JobId, JobState, TaskState, Timestamp};
use df_control_audit::Tip;
use df_control_machine::{TaskRecord, Tasks};
use rusqlite::params;
use std::sync::Arc;

use super::Sqlite;
use super::cells::{from_json, int, json, parsed, time, unsigned, word};
use super::documents::{assembled, body_of, changed};
use crate::StoreError;
use crate::row::JobRow;
use crate::rows::{Kept, moved};

impl Sqlite {
    pub(super) fn job_read(&self, id: JobId) -> Kept<Option<JobRow>> {
        let sql = "SELECT body, state, version, audit_seq, audit_head, event_seq FROM jobs WHERE id = ?1";
        let found = self.one("reading a job", sql, [id.to_string()], |row| {
            let (body, state): (String, _) = (row.get(0)?, word(row, 1, JobState::parse)?);
            let tip = Tip { seq: unsigned(row, 3)?, head: parsed(row, 4)? };
            Ok((body, (state, unsigned(row, 2)?), tip, unsigned(row, 5)?))
        })?;
        let Some((body, columns, tip, event_seq)) = found else { return Ok(None) };
        let sql = "SELECT name, body FROM documents WHERE job = ?1";
        let documents =
            self.many("reading documents", sql, [id.to_string()], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let unreadable = |why: String| StoreError::Row { table: "jobs", why: format!("{id}: {why}") };
        let mut record = assembled(&body, &documents).map_err(|e| unreadable(e.to_string()))?;
        if (record.state, record.version) != columns {
            return Err(unreadable("columns and body differ".to_owned()));
        }
        record.tasks = self.tasks(id)?;
        Ok(Some(JobRow { record: Arc::new(record), tip, event_seq }))
    }

    pub(super) fn job_insert(&self, row: &JobRow) -> Kept<()> {
        let record = &row.record;
        self.write(
            "inserting a job",
            "INSERT INTO jobs (id, tenant, submitter, title, state, version, priority, created_at, updated_at,
                 audit_seq, audit_head, event_seq, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
            params![
                record.id.to_string(),
                record.tenant.as_str(),
                record.submitter,
                record.spec.title,
                record.state.as_str(),
                int(record.version),
                record.priority,
                time(record.created_at),
                time(record.updated_at),
                int(row.tip.seq),
                row.tip.head.as_str(),
                int(row.event_seq),
                body_of(record)?,
            ],
        )
        .map(drop)
    }

    pub(super) fn job_update(&self, before: &JobRow, after: &JobRow) -> Kept<()> {
        let record = &after.record;
        let written = self.write(
            "updating a job",
            "UPDATE jobs SET state = ?1, version = ?2, updated_at = ?3, audit_seq = ?4, audit_head = ?5,
                 event_seq = ?6, body = ?7, priority = ?8
             WHERE id = ?9 AND version = ?10",
            params![
                record.state.as_str(),
                int(record.version),
                time(record.updated_at),
                int(after.tip.seq),
                after.tip.head.as_str(),
                int(after.event_seq),
                body_of(record)?,
                record.priority,
                record.id.to_string(),
                int(before.record.version),
            ],
        )?;
        if written == 1 { Ok(()) } else { Err(moved(record.id)) }
    }

    /// Writes the documents that differ from what `before` had.
    pub(super) fn documents_write(&self, before: Option<&JobRow>, after: &JobRow) -> Kept<()> {
        let job = after.record.id.to_string();
        for (name, body) in changed(before.map(|row| row.record.as_ref()), &after.record)? {
            match body {
                Some(body) => {
                    let sql = "INSERT INTO documents (job, name, body) VALUES (?1, ?2, ?3)
                         ON CONFLICT (job, name) DO UPDATE SET body = excluded.body";
                    self.write("writing a document", sql, params![job, name, body])?
                }
                None => {
                    let sql = "DELETE FROM documents WHERE job = ?1 AND name = ?2";
                    self.write("removing a document", sql, params![job, name])?
                }
            };
        }
        Ok(())
    }

    pub(super) fn task_insert(&self, job: JobId, task: &TaskRecord) -> Kept<()> {
        self.write(
            "inserting a task",
            "INSERT INTO tasks (job, slug, kind, state, epoch, session, not_before, deadline, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            params![
                job.to_string(),
                task.slug.as_str(),
                task.kind.as_str(),
                task.state.as_str(),
                int(task.epoch),
                task.session.map(|id| id.to_string()),
                time(task.not_before),
                task.deadline.map(time),
                json(task, "tasks")?,
            ],
        )
        .map(drop)
    }

    /// A new lease starts its progress anew.
    pub(super) fn task_update(&self, job: JobId, before: &TaskRecord, task: &TaskRecord) -> Kept<()> {
        let leased = (task.state == TaskState::Leased && task.epoch != before.epoch)
            .then_some(task.leased_at.unwrap_or(Timestamp(0)));
        let written = self.write(
            "updating a task",
            "UPDATE tasks SET state = ?1, epoch = ?2, session = ?3, not_before = ?4, deadline = ?5, body = ?6,
                 last_progress = coalesce(?7, last_progress), progress_next = iif(?7 IS NULL, progress_next, 0)
             WHERE job = ?8 AND slug = ?9 AND epoch = ?10",
            params![
                task.state.as_str(),
                int(task.epoch),
                task.session.map(|id| id.to_string()),
                time(task.not_before),
                task.deadline.map(time),
                json(task, "tasks")?,
                leased.map(time),
                job.to_string(),
                task.slug.as_str(),
                int(before.epoch),
            ],
        )?;
        if written == 1 { Ok(()) } else { Err(moved(format_args!("{job} {}", task.slug))) }
    }

    fn tasks(&self, job: JobId) -> Kept<Tasks> {
        let sql = "SELECT body, state, epoch FROM tasks WHERE job = ?1";
        let rows = self.many("reading tasks", sql, [job.to_string()], |row| {
            let task: TaskRecord = from_json(row, 0)?;
            Ok((task, word(row, 1, TaskState::parse)?, unsigned(row, 2)?))
        })?;
        let checked = rows.into_iter().map(|(task, state, epoch)| {
            if task.state == state && task.epoch == epoch {
                return Ok(task);
            }
            let why = format!("{job} {}: columns and body differ", task.slug);
            Err(StoreError::Row { table: "tasks", why })
        });
        checked.collect()
    }
}

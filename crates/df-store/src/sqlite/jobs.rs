//! A job's rows: its own, its documents' and its tasks'.

use df_contract::{JobId, JobState, TaskSlug, TaskState, Timestamp};
use df_control_audit::Tip;
use df_control_machine::place::Line;
use df_control_machine::{JobRecord, TaskRecord, Tasks};
use rusqlite::params;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::Sqlite;
use super::cells::{from_json, int, json, parsed, time, unsigned, word};
use super::documents::{assembled, body_of, changed};
use crate::StoreError;
use crate::queue::{Placement, placement, urgency_of};
use crate::row::JobRow;
use crate::rows::{Kept, Rows as _, moved};

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

    /// Writes the tasks that differ, and where the others stand when that has changed.
    pub(super) fn tasks_write(&self, before: Option<&JobRecord>, after: &JobRecord) -> Kept<()> {
        let none = Tasks::default();
        let known = before.map_or(&none, |record| &record.tasks);
        let changed: Vec<_> = after.tasks.changed_since(known).collect();
        let line = Line::of(after);
        for (task, old) in &changed {
            let place = placement(after, &line, task)?;
            match old {
                None => self.task_insert(after, task, &place)?,
                Some(old) => self.task_update(after.id, old, task, &place)?,
            }
        }
        let Some(before) = before else { return Ok(()) };
        if before.priority != after.priority {
            // What is written with this command stands there already.
            let by = urgency_of(after).saturating_sub(urgency_of(before));
            let written: Vec<&str> = changed.iter().map(|(task, _)| task.slug.as_str()).collect();
            let sql = "UPDATE tasks SET urgency = urgency + ?2
                 WHERE job = ?1 AND slug NOT IN (SELECT value FROM json_each(?3))";
            let values = params![after.id.to_string(), by, json(&written, "tasks")?];
            self.write("moving a job in its queues", sql, values)?;
        }
        let (was, written) = (Line::of(before), changed.iter().map(|(task, _)| &task.slug).collect());
        self.stand(&was, &line, after, &written)
    }

    /// Lets tasks that did not change themselves stand in line, or not: all of them when the job's state has changed,
    /// else only the change that may be merged next.
    fn stand(
        &self,
        was: &Line<'_>,
        line: &Line<'_>,
        after: &JobRecord,
        written: &BTreeSet<&TaskSlug>,
    ) -> Kept<()> {
        let moved: Vec<&TaskRecord> = if was.state() == line.state() {
            [was.merge(), line.merge()]
                .into_iter()
                .flatten()
                .filter_map(|slug| after.tasks.get(slug))
                .collect()
        } else {
            after.tasks.values().collect()
        };
        for task in moved.into_iter().filter(|task| !written.contains(&task.slug)) {
            let stands = line.has(task);
            if stands != was.has(task) {
                let sql = "UPDATE tasks SET claimable = ?3 WHERE job = ?1 AND slug = ?2";
                let values = params![after.id.to_string(), task.slug.as_str(), stands];
                self.write("moving a task into or out of its queue", sql, values)?;
            }
        }
        Ok(())
    }

    /// Says of every task of an open job where it stands. For databases from before tasks stood in queues.
    pub(super) fn tasks_place(&self) -> Kept<()> {
        for job in self.jobs_active()? {
            let record = match self.job_read(job) {
                Ok(row) => row.map(|row| row.record),
                Err(error) if error.is_of_one_row() => {
                    tracing::error!(%job, error = %error, "a job is not placed, its rows are damaged");
                    None
                }
                Err(error) => return Err(error),
            };
            let Some(record) = record else { continue };
            let line = Line::of(&record);
            for task in record.tasks.values() {
                self.task_update(job, task, task, &placement(&record, &line, task)?)?;
            }
            let sql = "UPDATE tasks SET tenant = ?2 WHERE job = ?1";
            self.write("placing tasks", sql, params![job.to_string(), record.tenant.as_str()])?;
        }
        Ok(())
    }

    fn task_insert(&self, record: &JobRecord, task: &TaskRecord, place: &Placement) -> Kept<()> {
        self.write(
            "inserting a task",
            "INSERT INTO tasks (job, slug, kind, state, epoch, session, not_before, deadline, body, queue, urgency,
                 rank, claimable, agent, runtime, tenant)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
            params![
                record.id.to_string(),
                task.slug.as_str(),
                task.kind.as_str(),
                task.state.as_str(),
                int(task.epoch),
                task.session.map(|id| id.to_string()),
                time(task.not_before),
                task.deadline.map(time),
                json(task, "tasks")?,
                place.queue,
                place.urgency,
                place.rank,
                place.claimable,
                place.runner.as_ref().map(|runner| runner.agent.as_str()),
                place.runner.as_ref().map(|runner| runner.runtime.as_str()),
                record.tenant.as_str(),
            ],
        )
        .map(drop)
    }

    /// A new lease starts its progress anew.
    fn task_update(&self, job: JobId, before: &TaskRecord, task: &TaskRecord, place: &Placement) -> Kept<()> {
        let leased = (task.state == TaskState::Leased && task.epoch != before.epoch)
            .then_some(task.leased_at.unwrap_or(Timestamp(0)));
        let written = self.write(
            "updating a task",
            "UPDATE tasks SET state = ?1, epoch = ?2, session = ?3, not_before = ?4, deadline = ?5, body = ?6,
                 last_progress = coalesce(?7, last_progress), progress_next = iif(?7 IS NULL, progress_next, 0),
                 queue = ?11, urgency = ?12, rank = ?13, claimable = ?14, agent = ?15, runtime = ?16
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
                place.queue,
                place.urgency,
                place.rank,
                place.claimable,
                place.runner.as_ref().map(|runner| runner.agent.as_str()),
                place.runner.as_ref().map(|runner| runner.runtime.as_str()),
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

//! What an export needs: the log as it is, the columns as they are, and whatever of either cannot be read.

use std::collections::BTreeMap;

use df_contract::{JobId, JobState, TaskSlug, TaskState};
use df_control_audit::{AuditRecord, Current, ExportLine};

use super::cells::{parsed, unsigned, word};
use super::{Sqlite, failed};
use crate::rows::{Kept, Rows as _};

impl Sqlite {
    /// Every job that has a row or a record, in order.
    pub(crate) fn export_jobs(&self) -> Kept<Vec<JobId>> {
        let sql = "SELECT id FROM jobs UNION SELECT job FROM audit ORDER BY 1";
        self.many("listing jobs to export", sql, [], |row| parsed(row, 0))
    }

    /// The job's records, then what the tables say. What cannot be read is a line of its own, so that one damaged row
    /// does not hide the rest.
    pub(crate) fn export(&self, job: JobId) -> Kept<Vec<ExportLine>> {
        let transaction = self.connection.unchecked_transaction().map_err(failed("beginning to export"))?;
        let mut lines = Vec::new();
        let unreadable = |why: String| ExportLine::Unreadable { job, why };
        let sql = "SELECT record, seq FROM audit WHERE job = ?1 ORDER BY seq";
        let records: Vec<(String, u64)> = self
            .many("exporting records", sql, [job.to_string()], |row| Ok((row.get(0)?, unsigned(row, 1)?)))?;
        for (text, seq) in records {
            match serde_json::from_str::<AuditRecord>(&text) {
                Ok(record) if (record.job, record.seq) == (job, seq) => {
                    lines.push(ExportLine::Record(record))
                }
                Ok(_) => lines.push(unreadable(format!("record {seq} is filed under another place"))),
                Err(error) => lines.push(unreadable(format!("record {seq}: {error}"))),
            }
        }
        // The bodies are what decisions are made on: they must say what the columns say.
        let resume_to = match self.job(job) {
            Ok(row) => row.and_then(|row| row.record.resume_to),
            Err(error) => {
                lines.push(unreadable(error.to_string()));
                None
            }
        };
        if let Some(mut current) = self.export_columns(job)? {
            current.resume_to = resume_to;
            lines.push(ExportLine::Current(current));
        }
        transaction.commit().map_err(failed("ending to export"))?;
        Ok(lines)
    }

    fn export_columns(&self, job: JobId) -> Kept<Option<Current>> {
        let sql = "SELECT id, state, version, audit_seq, audit_head FROM jobs WHERE id = ?1";
        let current = self.one("exporting a job", sql, [job.to_string()], |row| {
            Ok(Current {
                job: parsed(row, 0)?,
                state: word(row, 1, JobState::parse)?,
                resume_to: None,
                version: unsigned(row, 2)?,
                audit_seq: unsigned(row, 3)?,
                audit_head: parsed(row, 4)?,
                tasks: BTreeMap::new(),
            })
        })?;
        let Some(mut current) = current else { return Ok(None) };
        let sql = "SELECT slug, state, epoch FROM tasks WHERE job = ?1";
        let tasks: Vec<(TaskSlug, (TaskState, u64))> =
            self.many("exporting tasks", sql, [job.to_string()], |row| {
                Ok((parsed(row, 0)?, (word(row, 1, TaskState::parse)?, unsigned(row, 2)?)))
            })?;
        current.tasks = tasks.into_iter().collect();
        Ok(Some(current))
    }
}

//! The statements of reconcilers.

use std::collections::BTreeSet;

use df_contract::{Digest, JobId, TenantId, Timestamp};
use rusqlite::{Row, params};

use super::Sqlite;
use super::cells::{instant, parsed, time};
use crate::StoreError;
use crate::row::MAX_PAGE;
use crate::rows::Kept;
use crate::upkeep::{DueJob, KeptAs, OpenJob, Upkeep, take_named};

/// Word for word the condition of the index `jobs_open`, or the index is not used.
pub(super) const OPEN: &str = "state NOT IN ('REJECTED', 'COMPLETED', 'FAILED', 'CANCELLED')";

fn open_job(row: &Row<'_>) -> rusqlite::Result<OpenJob> {
    Ok((parsed(row, 0)?, parsed(row, 1)?))
}

fn due_job(row: &Row<'_>) -> rusqlite::Result<DueJob> {
    Ok((instant(row, 0)?, parsed(row, 1)?))
}

impl Upkeep for Sqlite {
    fn job_due_write(&mut self, job: JobId, due: Option<Timestamp>) -> Kept<()> {
        let sql = "UPDATE jobs SET due_at = ?2 WHERE id = ?1";
        self.write("setting a job's timer", sql, params![job.to_string(), due.map(time)]).map(drop)
    }

    fn jobs_due(&self, now: Timestamp, after: Option<DueJob>, limit: u32) -> Kept<Vec<DueJob>> {
        let (at, job) = after.map_or((-1, String::new()), |(at, job)| (time(at), job.to_string()));
        let sql = "SELECT due_at, id FROM jobs
             WHERE due_at IS NOT NULL AND due_at <= ?1 AND (due_at, id) > (?2, ?3)
             ORDER BY due_at, id LIMIT ?4";
        self.many("listing due jobs", sql, params![time(now), at, job, limit.min(MAX_PAGE)], due_job)
    }

    fn jobs_open(&self, after: Option<&OpenJob>, limit: u32) -> Kept<Vec<OpenJob>> {
        let (tenant, job) = after.map_or((String::new(), String::new()), |(tenant, job)| {
            (tenant.as_str().to_owned(), job.to_string())
        });
        let sql = format!(
            "SELECT tenant, id FROM jobs WHERE {OPEN} AND (tenant, id) > (?1, ?2) ORDER BY tenant, id LIMIT ?3"
        );
        self.many("listing open jobs", &sql, params![tenant, job, limit.min(MAX_PAGE)], open_job)
    }

    fn jobs_open_count(&self, tenant: Option<&TenantId>) -> Kept<u64> {
        let of = tenant.map_or("", |_| " AND tenant = ?1");
        let sql = format!("SELECT count(*) FROM jobs WHERE {OPEN}{of}");
        let params: Vec<&str> = tenant.iter().map(|tenant| tenant.as_str()).collect();
        let count: Option<i64> =
            self.one("counting open jobs", &sql, rusqlite::params_from_iter(params), |row| row.get(0))?;
        Ok(count.and_then(|n| u64::try_from(n).ok()).unwrap_or(0))
    }

    fn outbox_forget(&mut self, before: Timestamp, limit: u32) -> Kept<u64> {
        let sql = "DELETE FROM outbox WHERE id IN (SELECT id FROM outbox
             WHERE done_at IS NOT NULL AND done_at < ?1 ORDER BY done_at LIMIT ?2)";
        let gone = self.write("forgetting effects", sql, params![time(before), limit.min(MAX_PAGE)])?;
        Ok(gone as u64)
    }

    fn blobs_named(
        &self,
        among: &mut BTreeSet<Digest>,
        after: Option<JobId>,
        limit: u32,
    ) -> Kept<Option<JobId>> {
        let after = after.map_or(String::new(), |job| job.to_string());
        let sql = "SELECT id, body FROM jobs WHERE id > ?1 ORDER BY id LIMIT ?2";
        let page: Vec<(JobId, String)> =
            self.many("reading jobs for blobs", sql, params![after, limit.min(MAX_PAGE)], |row| {
                Ok((parsed(row, 0)?, row.get(1)?))
            })?;
        for (job, body) in &page {
            take_named(among, body);
            let sql = "SELECT body FROM tasks WHERE job = ?1 UNION ALL
                 SELECT body FROM documents WHERE job = ?1 UNION ALL
                 SELECT digest FROM kept_blobs WHERE job = ?1";
            let texts: Vec<String> =
                self.many("reading a job for blobs", sql, [job.to_string()], |row| row.get(0))?;
            texts.iter().for_each(|text| take_named(among, text));
        }
        Ok(page.last().map(|(job, _)| *job))
    }

    fn blobs_keep(&mut self, job: JobId, kept_as: KeptAs, digests: &[Digest]) -> Kept<()> {
        if digests.is_empty() {
            return Ok(());
        }
        // Under another word than its digest it is not found as evidence, and a sweep reads it all the same.
        let word = match kept_as {
            KeptAs::Evidence => "",
            KeptAs::Tree => "tree:",
        };
        let all = serde_json::to_string(digests);
        let all = all.map_err(|e| StoreError::Row { table: "kept_blobs", why: e.to_string() })?;
        let sql = "INSERT OR IGNORE INTO kept_blobs (job, digest) SELECT ?1, ?2 || value FROM json_each(?3)";
        self.write("keeping blobs", sql, params![job.to_string(), word, all]).map(drop)
    }

    fn blob_kept(&self, job: JobId, digest: &Digest) -> Kept<bool> {
        let sql = "SELECT 1 FROM kept_blobs WHERE job = ?1 AND digest = ?2";
        let found =
            self.one("looking for a kept blob", sql, params![job.to_string(), digest.as_str()], |_| Ok(()))?;
        Ok(found.is_some())
    }
}

#[cfg(test)]
mod tests {
    use df_contract::JobState;
    use df_control_machine::job::is_terminal;

    use super::*;

    #[test]
    fn open_means_what_the_state_machine_says() {
        for state in JobState::ALL {
            assert_eq!(OPEN.contains(&format!("'{state}'")), is_terminal(*state), "{state}");
        }
    }

    #[test]
    fn pages_and_timers_use_their_indexes() {
        let dir = tempfile::tempdir().unwrap();
        let store = Sqlite::open(dir.path()).unwrap();
        let plan = |sql: &str| {
            let mut asked = store.connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let rows: Vec<String> =
                asked.query_map([], |row| row.get(3)).unwrap().collect::<Result<_, _>>().unwrap();
            rows.join("; ")
        };
        let open = format!(
            "SELECT tenant, id FROM jobs WHERE {OPEN} AND (tenant, id) > ('a', 'b') ORDER BY tenant, id"
        );
        assert!(plan(&open).contains("jobs_open") && !plan(&open).contains("TEMP B-TREE"), "{}", plan(&open));
        let due = "SELECT due_at, id FROM jobs WHERE due_at IS NOT NULL AND due_at <= 5 ORDER BY due_at, id";
        assert!(plan(due).contains("jobs_by_due") && !plan(due).contains("TEMP B-TREE"), "{}", plan(due));
    }
}

//! The statements. Each says what it finds or keeps; none decides.

use std::collections::BTreeMap;

use df_contract::api::JobSummary;
use df_contract::{
    CommandId, Digest, JobEventView, JobId, JobState, KeyId, SessionId, TaskSlug, TaskState, Timestamp,
};
use df_control_audit::AuditRecord;
use df_control_machine::Effect;
use df_control_machine::job::is_terminal;
use rusqlite::{OptionalExtension as _, Params, Row, params};

use super::cells::{from_json, instant, int, json, parsed, time, unsigned, word};
use super::{Sqlite, failed};
use crate::row::{
    CommandRow, JobFilter, JobRow, KeyRow, LeaseRow, MAX_PAGE, OutboxRow, Outcome, ProgressCount, SessionRow,
};
use crate::rows::{Kept, Rows, moved};

/// Statements made by this thread, for the test that they do not grow.
#[cfg(test)]
pub(crate) fn statements() -> u64 {
    STATEMENTS.get()
}

#[cfg(test)]
thread_local! {
    static STATEMENTS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

fn count() {
    #[cfg(test)]
    STATEMENTS.set(STATEMENTS.get() + 1);
}

pub(super) type Read<T> = fn(&Row<'_>) -> rusqlite::Result<T>;

impl Sqlite {
    pub(super) fn one<T>(
        &self,
        what: &'static str,
        sql: &str,
        params: impl Params,
        read: Read<T>,
    ) -> Kept<Option<T>> {
        count();
        let run = || self.connection.prepare_cached(sql)?.query_row(params, read).optional();
        run().map_err(failed(what))
    }

    pub(super) fn many<T>(
        &self,
        what: &'static str,
        sql: &str,
        params: impl Params,
        read: Read<T>,
    ) -> Kept<Vec<T>> {
        count();
        let run = || -> rusqlite::Result<Vec<T>> {
            self.connection.prepare_cached(sql)?.query_map(params, read)?.collect()
        };
        run().map_err(failed(what))
    }

    /// Returns how many rows it touched.
    pub(super) fn write(&self, what: &'static str, sql: &str, params: impl Params) -> Kept<usize> {
        count();
        let run = || self.connection.prepare_cached(sql)?.execute(params);
        run().map_err(failed(what))
    }
}

fn summary(row: &Row<'_>) -> rusqlite::Result<JobSummary> {
    Ok(JobSummary {
        id: parsed(row, 0)?,
        title: row.get(1)?,
        tenant: parsed(row, 2)?,
        submitter: row.get(3)?,
        state: word(row, 4, JobState::parse)?,
        priority: row.get(5)?,
        created_at: instant(row, 6)?,
        updated_at: instant(row, 7)?,
    })
}

const LEASE: &str =
    "t.job, t.slug, t.state, t.epoch, t.session, t.deadline, t.last_progress, t.progress_next";

fn lease(row: &Row<'_>) -> rusqlite::Result<LeaseRow> {
    let session: Option<String> = row.get(4)?;
    let deadline: Option<i64> = row.get(5)?;
    Ok(LeaseRow {
        job: parsed(row, 0)?,
        slug: parsed(row, 1)?,
        state: word(row, 2, TaskState::parse)?,
        epoch: unsigned(row, 3)?,
        session: session.map(|_| parsed(row, 4)).transpose()?,
        deadline: deadline.map(|_| instant(row, 5)).transpose()?,
        last_progress: instant(row, 6)?,
        progress_next: unsigned(row, 7)?,
    })
}

/// `'A', 'B'` of our own words, for lists that never vary within a call.
fn quoted<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words.map(|word| format!("'{word}'")).collect::<Vec<_>>().join(", ")
}

impl Rows for Sqlite {
    fn command(&self, id: CommandId) -> Kept<Option<CommandRow>> {
        let sql = "SELECT digest, job, version, state FROM commands WHERE id = ?1";
        self.one("reading a command", sql, [id.to_string()], |row| {
            let (version, state) = (unsigned(row, 2)?, word(row, 3, JobState::parse)?);
            Ok(CommandRow {
                digest: parsed(row, 0)?,
                outcome: Outcome { job: parsed(row, 1)?, version, state },
            })
        })
    }

    fn command_insert(&mut self, id: CommandId, row: &CommandRow) -> Kept<()> {
        let (outcome, digest) = (&row.outcome, row.digest.as_str());
        self.write(
            "inserting a command",
            "INSERT INTO commands (id, digest, job, version, state) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![
                id.to_string(),
                digest,
                outcome.job.to_string(),
                int(outcome.version),
                outcome.state.as_str()
            ],
        )
        .map(drop)
    }

    fn job(&self, id: JobId) -> Kept<Option<JobRow>> {
        self.job_read(id)
    }

    fn job_write(&mut self, before: Option<&JobRow>, after: &JobRow) -> Kept<()> {
        match before {
            None => self.job_insert(after)?,
            Some(before) => self.job_update(before, after)?,
        }
        self.documents_write(before, after)?;
        self.tasks_write(before.map(|row| row.record.as_ref()), &after.record)
    }

    fn job_list(&self, filter: &JobFilter) -> Kept<Vec<JobSummary>> {
        self.many(
            "listing jobs",
            "SELECT id, title, tenant, submitter, state, priority, created_at, updated_at FROM jobs
             WHERE (?1 IS NULL OR tenant = ?1) AND (?2 IS NULL OR state = ?2)
               AND (?3 IS NULL OR (created_at, id) < (SELECT created_at, id FROM jobs WHERE id = ?3)
                    OR NOT EXISTS (SELECT 1 FROM jobs WHERE id = ?3))
             ORDER BY created_at DESC, id DESC LIMIT ?4",
            params![
                filter.tenant.as_ref().map(|tenant| tenant.as_str()),
                filter.state.map(JobState::as_str),
                filter.after.map(|id| id.to_string()),
                filter.limit.min(MAX_PAGE),
            ],
            summary,
        )
    }

    fn jobs_active(&self) -> Kept<Vec<JobId>> {
        let states = quoted(JobState::ALL.iter().filter(|s| !is_terminal(**s)).map(|s| s.as_str()));
        let sql = format!("SELECT id FROM jobs WHERE state IN ({states}) ORDER BY created_at, id");
        self.many("listing active jobs", &sql, [], |row| parsed(row, 0))
    }

    fn job_count_by_state(&self) -> Kept<BTreeMap<JobState, u64>> {
        let sql = "SELECT state, count(*) FROM jobs GROUP BY state";
        let counts = self
            .many("counting jobs", sql, [], |row| Ok((word(row, 0, JobState::parse)?, unsigned(row, 1)?)))?;
        Ok(counts.into_iter().collect())
    }

    fn audit_insert(&mut self, record: &AuditRecord) -> Kept<()> {
        self.write(
            "appending to the audit log",
            "INSERT INTO audit (job, seq, record) VALUES (?1, ?2, ?3)",
            params![record.job.to_string(), int(record.seq), json(record, "audit")?],
        )
        .map(drop)
    }

    fn audit(&self, job: JobId) -> Kept<Vec<AuditRecord>> {
        let sql = "SELECT record FROM audit WHERE job = ?1 ORDER BY seq";
        self.many("reading the audit log", sql, [job.to_string()], |row| from_json(row, 0))
    }

    fn event_insert(&mut self, event: &JobEventView) -> Kept<()> {
        self.write(
            "appending an event",
            "INSERT INTO events (job, seq, at, event) VALUES (?1, ?2, ?3, ?4)",
            params![event.job.to_string(), int(event.seq), time(event.at), json(&event.event, "events")?],
        )
        .map(drop)
    }

    fn events(&self, job: JobId, after: u64, limit: u32) -> Kept<Vec<JobEventView>> {
        let sql = "SELECT job, seq, at, event FROM events WHERE job = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3";
        self.many("reading events", sql, params![job.to_string(), int(after), limit.min(MAX_PAGE)], |row| {
            let (seq, at) = (unsigned(row, 1)?, instant(row, 2)?);
            Ok(JobEventView { job: parsed(row, 0)?, seq, at, event: from_json(row, 3)? })
        })
    }

    fn outbox_insert(&mut self, job: JobId, effect: &Effect, at: Timestamp) -> Kept<()> {
        self.write(
            "appending to the outbox",
            "INSERT INTO outbox (job, effect, created_at) VALUES (?1, ?2, ?3)",
            params![job.to_string(), json(effect, "outbox")?, time(at)],
        )
        .map(drop)
    }

    fn outbox_due(&self, after: u64, limit: u32) -> Kept<Vec<OutboxRow>> {
        let sql = "SELECT id, job, effect, created_at FROM outbox WHERE done_at IS NULL AND id > ?1 ORDER BY id LIMIT ?2";
        self.many("reading the outbox", sql, params![int(after), limit.min(MAX_PAGE)], |row| {
            let (id, created_at) = (unsigned(row, 0)?, instant(row, 3)?);
            Ok(OutboxRow { id, job: parsed(row, 1)?, effect: from_json(row, 2)?, created_at })
        })
    }

    fn outbox_done(&mut self, id: u64, at: Timestamp) -> Kept<()> {
        let sql = "UPDATE outbox SET done_at = ?2 WHERE id = ?1 AND done_at IS NULL";
        self.write("marking an effect as done", sql, params![int(id), time(at)]).map(drop)
    }

    fn lease(&self, job: JobId, slug: &TaskSlug) -> Kept<Option<LeaseRow>> {
        let sql = format!("SELECT {LEASE} FROM tasks t WHERE t.job = ?1 AND t.slug = ?2");
        self.one("reading a lease", &sql, params![job.to_string(), slug.as_str()], lease)
    }

    fn leases_held(&self, session: SessionId) -> Kept<u32> {
        let sql = "SELECT count(*) FROM tasks WHERE state = 'LEASED' AND session = ?1";
        let count = self.one("counting leases", sql, [session.to_string()], |row| row.get(0))?;
        Ok(count.unwrap_or(0))
    }

    fn leases_of(&self, session: SessionId, limit: u32) -> Kept<Vec<LeaseRow>> {
        let sql = format!(
            "SELECT {LEASE} FROM tasks t WHERE t.state = 'LEASED' AND t.session = ?1 ORDER BY t.job, t.slug LIMIT ?2"
        );
        self.many("listing a session's leases", &sql, params![session.to_string(), limit], lease)
    }

    fn leases_ended(&self, now: Timestamp, stalled: Timestamp, limit: u32) -> Kept<Vec<LeaseRow>> {
        let sql = format!(
            "SELECT {LEASE} FROM tasks t LEFT JOIN sessions s ON s.id = t.session
             WHERE t.state = 'LEASED'
               AND (s.id IS NULL OR s.expires_at <= ?1 OR t.deadline <= ?1 OR t.last_progress <= ?2)
             ORDER BY t.job, t.slug LIMIT ?3"
        );
        self.many("looking for ended leases", &sql, params![time(now), time(stalled), limit], lease)
    }

    fn progress_count(&self, job: JobId) -> Kept<ProgressCount> {
        let sql = "SELECT event_seq, progress_kept FROM jobs WHERE id = ?1";
        let read: Read<ProgressCount> =
            |row| Ok(ProgressCount { event_seq: unsigned(row, 0)?, kept: unsigned(row, 1)? });
        self.one("counting progress", sql, [job.to_string()], read)?.ok_or_else(|| moved(job))
    }

    fn count_write(&mut self, job: JobId, count: ProgressCount) -> Kept<()> {
        let sql = "UPDATE jobs SET event_seq = ?2, progress_kept = ?3 WHERE id = ?1";
        let values = params![job.to_string(), int(count.event_seq), int(count.kept)];
        let written = self.write("counting progress", sql, values)?;
        if written == 1 { Ok(()) } else { Err(moved(job)) }
    }

    fn progress_write(&mut self, lease: &LeaseRow) -> Kept<()> {
        let job = lease.job.to_string();
        let written = self.write(
            "keeping progress",
            "UPDATE tasks SET last_progress = ?4, progress_next = ?5
             WHERE job = ?1 AND slug = ?2 AND epoch = ?3 AND state = 'LEASED'",
            params![
                job,
                lease.slug.as_str(),
                int(lease.epoch),
                time(lease.last_progress),
                int(lease.progress_next)
            ],
        )?;
        if written == 1 { Ok(()) } else { Err(moved(format_args!("{job} {}", lease.slug))) }
    }

    fn session(&self, id: SessionId) -> Kept<Option<SessionRow>> {
        let sql = "SELECT body FROM sessions WHERE id = ?1";
        self.one("reading a session", sql, [id.to_string()], |row| from_json(row, 0))
    }

    fn session_write(&mut self, row: &SessionRow) -> Kept<()> {
        self.write(
            "writing a session",
            "INSERT INTO sessions (id, expires_at, body) VALUES (?1, ?2, ?3)
             ON CONFLICT (id) DO UPDATE SET expires_at = excluded.expires_at, body = excluded.body",
            params![row.id.to_string(), time(row.expires_at), json(row, "sessions")?],
        )
        .map(drop)
    }

    fn session_delete(&mut self, id: SessionId) -> Kept<()> {
        self.write("forgetting a session", "DELETE FROM sessions WHERE id = ?1", [id.to_string()]).map(drop)
    }

    fn sessions(&self) -> Kept<Vec<SessionRow>> {
        self.many("listing sessions", "SELECT body FROM sessions ORDER BY id", [], |row| from_json(row, 0))
    }

    fn key_insert(&mut self, row: &KeyRow) -> Kept<()> {
        self.write(
            "inserting a key",
            "INSERT INTO keys (id, hash, revoked, body) VALUES (?1, ?2, ?3, ?4)",
            params![row.id.to_string(), row.hash.as_str(), row.revoked, json(row, "keys")?],
        )
        .map(drop)
    }

    fn key_by_hash(&self, hash: &Digest) -> Kept<Option<KeyRow>> {
        self.one("looking for a key", "SELECT body, revoked FROM keys WHERE hash = ?1", [hash.as_str()], key)
    }

    fn keys(&self) -> Kept<Vec<KeyRow>> {
        self.many("listing keys", "SELECT body, revoked FROM keys ORDER BY id", [], key)
    }

    fn key_revoke(&mut self, id: KeyId) -> Kept<bool> {
        let sql = "UPDATE keys SET revoked = 1 WHERE id = ?1";
        Ok(self.write("revoking a key", sql, [id.to_string()])? == 1)
    }

    fn meta(&self, name: &str) -> Kept<Option<String>> {
        self.one("reading meta", "SELECT value FROM meta WHERE name = ?1", [name], |row| row.get(0))
    }

    fn meta_write(&mut self, name: &str, value: &str) -> Kept<()> {
        let sql = "INSERT INTO meta (name, value) VALUES (?1, ?2)
             ON CONFLICT (name) DO UPDATE SET value = excluded.value";
        self.write("writing meta", sql, [name, value]).map(drop)
    }
}

fn key(row: &Row<'_>) -> rusqlite::Result<KeyRow> {
    Ok(KeyRow { revoked: row.get(1)?, ..from_json(row, 0)? })
}

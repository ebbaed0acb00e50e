//! The audit log out of the database, read-only: while the daemon runs, or when none does.

use std::path::Path;

use df_contract::JobId;
use df_control_audit::ExportLine;

use crate::StoreError;
use crate::sqlite::Sqlite;

/// Lines of one whole log, the registry of agents first, then job by job; each job is read from one unchanging state of the database.
pub struct AuditExport {
    database: Sqlite,
    jobs: std::vec::IntoIter<JobId>,
    /// Of what is under way, to be given out from its end.
    lines: Vec<ExportLine>,
}

impl std::fmt::Debug for AuditExport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuditExport").field("jobs_left", &self.jobs.len()).finish_non_exhaustive()
    }
}

/// Opens the store in `dir` to read its log. Takes no lock and writes nothing.
pub fn audit_export(dir: &Path) -> Result<AuditExport, StoreError> {
    let database = Sqlite::open_read_only(dir)?;
    let jobs = database.export_jobs()?.into_iter();
    let mut lines = database.export_agents()?;
    lines.reverse();
    Ok(AuditExport { database, jobs, lines })
}

impl Iterator for AuditExport {
    type Item = Result<ExportLine, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(line) = self.lines.pop() {
                return Some(Ok(line));
            }
            let job = self.jobs.next()?;
            match self.database.export(job) {
                Ok(mut lines) => {
                    lines.reverse();
                    self.lines = lines;
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

//! Load → decide → write: one command, in one transaction, with its audit records, events and effects.

use std::collections::BTreeSet;
use std::sync::Arc;

use df_contract::{Digest, JobEventView, JobId};
use df_control_audit::{Entry, Tip, append};
use df_control_machine::{AuditBody, AuditDraft, Command, CommandBody, Decided, decide};

use crate::cache::Cache;
use crate::claim::tell_breakers;
use crate::row::{CommandRow, JobRow, LeaseRow, Outcome, ProgressCount};
use crate::rows::{Kept, Rows};
use crate::upkeep::KeptAs;
use crate::{Refused, StoreError, event, upkeep};

/// One operation's view of the rows, the jobs it touched, and what happened to them.
///
/// Jobs are read and written here, beside the rows: the writer has those of late at hand.
pub(crate) struct Tx<'a> {
    pub(crate) rows: &'a mut dyn Rows,
    pub(crate) cache: &'a mut Cache,
    pub(crate) changed: BTreeSet<JobId>,
    pub(crate) events: Vec<JobEventView>,
}

impl Tx<'_> {
    pub(crate) fn job(&mut self, id: JobId) -> Kept<Option<JobRow>> {
        if let Some(row) = self.cache.get(id) {
            return Ok(Some(row));
        }
        let row = self.rows.job(id)?;
        if let Some(row) = &row {
            self.cache.put(row.clone());
        }
        Ok(row)
    }

    fn job_write(&mut self, before: Option<&JobRow>, after: JobRow) -> Kept<()> {
        self.cache.writing(after.record.id);
        self.rows.job_write(before, &after)?;
        upkeep::keep_due(self, before, &after)?;
        self.cache.put(after);
        Ok(())
    }

    pub(crate) fn progress_write(&mut self, lease: &LeaseRow, count: ProgressCount) -> Kept<()> {
        self.count_write(lease.job, count)?;
        self.rows.progress_write(lease)
    }

    pub(crate) fn count_write(&mut self, job: JobId, count: ProgressCount) -> Kept<()> {
        self.cache.events_moved(job, count.event_seq);
        self.rows.count_write(job, count)
    }
}

/// Applies `command`, or returns the outcome it had when it came first.
pub(crate) fn apply(tx: &mut Tx<'_>, command: &Command) -> Kept<Result<Outcome, Refused>> {
    let digest = digest(command)?;
    if let Some(first) = tx.rows.command(command.id)? {
        return Ok(repeated(command, &digest, first));
    }
    let before = tx.job(command.job)?;
    match decide(before.as_ref().map(|row| row.record.as_ref()), command) {
        Ok(decided) => write(tx, command, digest, before, decided).map(Ok),
        Err(rejection) => Ok(Err(rejection.into())),
    }
}

/// Binds an id to who asked for what. Not the time: a client's retry comes later.
fn digest(command: &Command) -> Kept<Digest> {
    let text = serde_json::to_vec(&(&command.actor.name, &command.body))
        .map_err(|e| StoreError::Row { table: "commands", why: e.to_string() })?;
    Ok(Digest::of(&text))
}

/// A repeated submission comes with a newly minted job id; every other command names the job it was for.
fn repeated(command: &Command, digest: &Digest, first: CommandRow) -> Result<Outcome, Refused> {
    let submits = matches!(command.body, CommandBody::Submit { .. });
    if first.digest == *digest && (submits || first.outcome.job == command.job) {
        Ok(first.outcome)
    } else {
        Err(Refused::CommandReused(command.id))
    }
}

fn write(
    tx: &mut Tx<'_>,
    command: &Command,
    digest: Digest,
    before: Option<JobRow>,
    decided: Decided,
) -> Kept<Outcome> {
    let Decided { record, audit, effects } = decided;
    let version = before.as_ref().map_or(0, |row| row.record.version) + 1;
    if record.version != version || audit.is_empty() || record.id != command.job {
        return Err(StoreError::Invariant(format!(
            "`{}` led {} to version {} with {} audit records, where {version} was due",
            command.body.name(),
            record.id,
            record.version,
            audit.len()
        )));
    }
    let (mut tip, mut event_seq) =
        before.as_ref().map_or_else(|| (Tip::empty(), 0), |row| (row.tip.clone(), row.event_seq));
    let (mut records, mut events) = (Vec::with_capacity(audit.len()), Vec::new());
    let left: Vec<Digest> = audit.iter().flat_map(|draft| blobs_of(&draft.body)).cloned().collect();
    let trees: Vec<Digest> = audit.iter().flat_map(|draft| bundles_of(&draft.body)).cloned().collect();
    for draft in audit {
        if let Some(event) = event::of(&draft, &command.actor.name) {
            event_seq += 1;
            events.push(JobEventView { job: record.id, seq: event_seq, at: command.at, event });
        }
        let sealed = append(&tip, entry(command, version, draft)?)?;
        tip = Tip { seq: sealed.seq, head: sealed.hash.clone() };
        records.push(sealed);
    }
    let outcome = Outcome { job: record.id, version, state: record.state };
    let after = JobRow { record: Arc::new(record), tip, event_seq };
    tx.job_write(before.as_ref(), after.clone())?;
    if let Some(before) = &before {
        tell_breakers(tx, before, &after, command.at)?;
    }
    tx.rows.blobs_keep(outcome.job, KeptAs::Evidence, &left)?;
    tx.rows.blobs_keep(outcome.job, KeptAs::Tree, &trees)?;
    records.iter().try_for_each(|record| tx.rows.audit_insert(record))?;
    events.iter().try_for_each(|event| tx.rows.event_insert(event))?;
    effects.iter().try_for_each(|effect| tx.rows.outbox_insert(outcome.job, effect, command.at))?;
    tx.rows.command_insert(command.id, &CommandRow { digest, outcome })?;
    tx.changed.insert(outcome.job);
    tx.events.extend(events);
    Ok(outcome)
}

/// The blobs of an attempt that a record of the log names: kept for good, though the job's record names only those of
/// the last one.
fn blobs_of(body: &AuditBody) -> Vec<&Digest> {
    if let AuditBody::Produced { trace, evidence, .. } = body {
        return trace.iter().chain(evidence).collect();
    }
    if let AuditBody::Evidence { blobs } = body {
        return blobs.iter().collect();
    }
    if let AuditBody::Traced { trace } = body { vec![trace] } else { Vec::new() }
}

/// Bundles of the trees that a record of the log names, among them those that were superseded.
fn bundles_of(body: &AuditBody) -> Vec<&Digest> {
    if let AuditBody::Produced { trees, .. } = body {
        return trees.iter().map(|tree| &tree.bundle).collect();
    }
    Vec::new()
}

fn entry(command: &Command, version: u64, draft: AuditDraft) -> Kept<Entry> {
    let body = serde_json::to_value(&draft.body)
        .map_err(|e| StoreError::Row { table: "audit", why: e.to_string() })?;
    Ok(Entry {
        job: command.job,
        at: command.at,
        actor: command.actor.name.clone(),
        role: command.actor.role,
        command_id: command.id,
        command: command.body.name().to_owned(),
        version,
        slug: draft.slug,
        epoch: draft.epoch,
        body,
    })
}

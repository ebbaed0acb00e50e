//! Sessions, progress and reaping. Whether a task may be claimed or given back is decide()'s word; here is
//! only who asks, for which task, and when.

use df_contract::lease::{HeldLease, MAX_EVIDENCE, MAX_PROGRESS_BYTES, ProgressLine, SESSION_TTL};
use df_contract::{
    CommandId, Digest, DurationMs, EventKind, JobEventView, JobId, Role, SessionId, TaskSlug, TaskState,
    Timestamp,
};
use df_control_machine::{Actor, Command, CommandBody, Rejection, ReturnCause};

use crate::row::{JobRow, LeaseRow, ProgressCount, ReapRequest, Reaped, SessionRow};
use crate::rows::Kept;
use crate::transition::{Tx, apply};
use crate::upkeep::KeptAs;
use crate::{Refused, StoreError};

/// Most leases of one session that a heartbeat looks at.
const MAX_LEASES: u32 = 256;

/// The answer to a claim may take this long to reach its worker.
const CLAIM_GRACE: DurationMs = DurationMs(10_000);

/// Most progress lines kept per job; the log itself is in the attempt's trace.
pub const MAX_PROGRESS_PER_JOB: u64 = 20_000;

/// Results that came too late are noted so many times beyond that: a job that says much is no reason to be silent about them.
pub(crate) const MAX_STALE_BEYOND: u64 = 1_000;

/// The highest number that a progress line may have: far beyond what is kept, and far from where numbers end.
const MAX_PROGRESS_NUMBER: u64 = 1 << 40;

/// The end of a session that was closed in good order.
const CLOSED: Timestamp = Timestamp(0);
/// The last progress of a lease that its worker does not know of.
const NEVER_HELD: Timestamp = Timestamp(0);

/// The session, unless it has expired.
pub(crate) fn live(tx: &Tx<'_>, id: SessionId, now: Timestamp) -> Kept<SessionRow> {
    tx.rows.session(id)?.filter(|row| now < row.expires_at).ok_or(StoreError::SessionGone(id))
}

/// Extends the session and names the leases that it believes it has and has not.
pub(crate) fn heartbeat(
    tx: &mut Tx<'_>,
    id: SessionId,
    now: Timestamp,
    held: &[HeldLease],
) -> Kept<Vec<HeldLease>> {
    let mut row = live(tx, id, now)?;
    clock_went_back(tx, &row, now)?;
    row.last_heartbeat = now;
    row.expires_at = now.plus(SESSION_TTL);
    tx.rows.session_write(&row)?;
    let lost = lost(tx.rows, id, held)?;
    stall_unknown(tx, id, now, held)?;
    Ok(lost)
}

/// What of `held` the session does not have any more.
pub(crate) fn lost(rows: &dyn crate::rows::Rows, id: SessionId, held: &[HeldLease]) -> Kept<Vec<HeldLease>> {
    let mut lost = Vec::new();
    for lease in held {
        let kept = rows.lease(lease.job, &lease.slug)?.is_some_and(|row| {
            row.state == TaskState::Leased && row.epoch == lease.epoch && row.session == Some(id)
        });
        if !kept {
            lost.push(lease.clone());
        }
    }
    Ok(lost)
}

/// A lease the worker does not name long after it was claimed is one whose answer never reached it: it counts as
/// stalled at once, so that the next round of reaping gives it to somebody else.
fn stall_unknown(tx: &mut Tx<'_>, id: SessionId, now: Timestamp, held: &[HeldLease]) -> Kept<()> {
    for mut lease in tx.rows.leases_of(id, MAX_LEASES)? {
        let known = held.iter().any(|h| h.job == lease.job && h.slug == lease.slug && h.epoch == lease.epoch);
        if !known && lease.last_progress.plus(CLAIM_GRACE) <= now {
            let count = tx.rows.progress_count(lease.job)?;
            lease.last_progress = NEVER_HELD;
            tx.progress_write(&lease, count)?;
        }
    }
    Ok(())
}

/// A session that ends later than any heartbeat could have said was kept by a clock that has gone back since. Its worker,
/// and what its leases last showed, would be waited for until the old time comes again: both are as of now instead.
/// Answers whether it was so.
fn clock_went_back(tx: &mut Tx<'_>, session: &SessionRow, now: Timestamp) -> Kept<bool> {
    let latest = now.plus(SESSION_TTL);
    if session.expires_at <= latest {
        return Ok(false);
    }
    tx.rows.session_write(&SessionRow { expires_at: latest, ..session.clone() })?;
    for mut lease in tx.rows.leases_of(session.id, MAX_LEASES)? {
        if lease.last_progress > now {
            let count = tx.rows.progress_count(lease.job)?;
            lease.last_progress = now;
            tx.progress_write(&lease, count)?;
        }
    }
    Ok(true)
}

/// Ends the session at once; the next round of reaping gives its tasks back.
pub(crate) fn close(tx: &mut Tx<'_>, id: SessionId) -> Kept<()> {
    let Some(mut row) = tx.rows.session(id)? else { return Ok(()) };
    row.expires_at = CLOSED;
    tx.rows.session_write(&row)
}

/// A job, unless its rows cannot be read: one damaged job must not hold up all others.
pub(crate) fn readable(tx: &mut Tx<'_>, job: JobId) -> Kept<Option<JobRow>> {
    match tx.job(job) {
        Err(error) if error.is_of_one_row() => {
            tracing::error!(%job, error = %error, "a job is passed over, its rows are damaged");
            Ok(None)
        }
        other => other,
    }
}

/// Appends progress of the lease held under `epoch`. Lines that came before (by their number) are skipped, so a
/// batch may be sent again.
pub(crate) fn progress(
    tx: &mut Tx<'_>,
    held: &HeldLease,
    first: u64,
    lines: &[ProgressLine],
    now: Timestamp,
) -> Kept<Result<(), Refused>> {
    let Some(mut lease) = tx.rows.lease(held.job, &held.slug)? else {
        return Ok(Err(Rejection::TaskUnknown(held.slug.clone()).into()));
    };
    if lease.state != TaskState::Leased || lease.epoch != held.epoch {
        let (held, slug) = (held.epoch, held.slug.clone());
        return Ok(Err(Rejection::Stale { slug, held, current: lease.epoch }.into()));
    }
    if first > MAX_PROGRESS_NUMBER {
        return Ok(Err(Rejection::Contract(format!("progress is not numbered {first}")).into()));
    }
    let mut count = tx.rows.progress_count(held.job)?;
    for (number, line) in (first..).zip(lines) {
        if number >= lease.progress_next {
            keep_line(tx, held, &mut count, line, now)?;
            lease.progress_next = number + 1;
        }
    }
    lease.last_progress = now;
    tx.progress_write(&lease, count)?;
    tx.changed.insert(held.job);
    Ok(Ok(()))
}

fn keep_line(
    tx: &mut Tx<'_>,
    held: &HeldLease,
    count: &mut ProgressCount,
    line: &ProgressLine,
    now: Timestamp,
) -> Kept<()> {
    match count.kept.cmp(&MAX_PROGRESS_PER_JOB) {
        std::cmp::Ordering::Less => {
            put_line(tx, held, count, format!("{}: {}", line.kind, shortened(&line.text)), now)
        }
        std::cmp::Ordering::Equal => put_line(tx, held, count, truncated(), now),
        std::cmp::Ordering::Greater => Ok(()),
    }
}

fn truncated() -> String {
    format!("truncated: only the first {MAX_PROGRESS_PER_JOB} lines of a job are kept here")
}

fn put_line(
    tx: &mut Tx<'_>,
    held: &HeldLease,
    count: &mut ProgressCount,
    line: String,
    now: Timestamp,
) -> Kept<()> {
    count.kept += 1;
    count.event_seq += 1;
    let event = EventKind::Progress { slug: held.slug.clone(), epoch: held.epoch, line };
    tx.rows.event_insert(&JobEventView { job: held.job, seq: count.event_seq, at: now, event })
}

/// Leaves a trace of a result that came too late. Nothing else of the job changes; only tasks that are there are
/// spoken of, and [`MAX_STALE_BEYOND`] more often than progress is at most.
pub(crate) fn note_stale(
    tx: &mut Tx<'_>,
    held: &HeldLease,
    trace: Option<Digest>,
    evidence: &[Digest],
    now: Timestamp,
) -> Kept<()> {
    let Some(lease) = tx.rows.lease(held.job, &held.slug)? else { return Ok(()) };
    let mut count = tx.rows.progress_count(held.job)?;
    if count.kept > MAX_PROGRESS_PER_JOB + MAX_STALE_BEYOND {
        return Ok(());
    }
    // Said before the count goes past the place where it is said.
    if count.kept == MAX_PROGRESS_PER_JOB {
        put_line(tx, held, &mut count, truncated(), now)?;
    }
    let count = ProgressCount { kept: count.kept + 1, event_seq: count.event_seq + 1 };
    let left: Vec<Digest> = trace.iter().chain(evidence.iter().take(MAX_EVIDENCE)).cloned().collect();
    tx.rows.blobs_keep(held.job, KeptAs::Evidence, &left)?;
    let (slug, current) = (held.slug.clone(), lease.epoch);
    let event = EventKind::StaleResult { slug, held: held.epoch, current, trace };
    let event = JobEventView { job: held.job, seq: count.event_seq, at: now, event };
    tx.rows.event_insert(&event)?;
    tx.count_write(held.job, count)?;
    tx.changed.insert(held.job);
    tx.events.push(event);
    Ok(())
}

fn shortened(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_PROGRESS_BYTES)]
}

/// Gives back what dead sessions hold, what ran past its deadline and what makes no progress.
pub(crate) fn reap(tx: &mut Tx<'_>, request: &ReapRequest) -> Kept<Reaped> {
    let stalled = Timestamp(request.now.0.saturating_sub(request.progress_timeout.0));
    let limit = u32::try_from(request.mints.len()).unwrap_or(u32::MAX);
    let mut reaped = Reaped::default();
    for session in tx.rows.sessions()? {
        if clock_went_back(tx, &session, request.now)? {
            tracing::warn!(session = %session.id, "the clock went back; the session ends as if its heartbeat came now");
        }
    }
    let mut mints = request.mints.iter();
    for (lease, id) in tx.rows.leases_ended(request.now, stalled, limit)?.into_iter().zip(mints.by_ref()) {
        let (cause, detail) = why_ended(tx, &lease, request.now)?;
        take_back(tx, request.now, *id, (lease.job, lease.slug, lease.epoch), (cause, detail), &mut reaped)?;
    }
    for (job, slug) in tx.rows.leases_of_disabled()? {
        let Some(epoch) = held_for_disabled(tx, job, &slug)? else { continue };
        let Some(id) = mints.next() else { break };
        let why = (ReturnCause::AgentDisabled, "the agent that worked on it was disabled");
        take_back(tx, request.now, *id, (job, slug, epoch), why, &mut reaped)?;
    }
    for session in tx.rows.sessions()? {
        if session.expires_at <= request.now && tx.rows.leases_held(session.id)? == 0 {
            tx.rows.session_delete(session.id)?;
            reaped.sessions.push(session.id);
        }
    }
    Ok(reaped)
}

fn take_back(
    tx: &mut Tx<'_>,
    now: Timestamp,
    id: CommandId,
    (job, slug, epoch): (JobId, TaskSlug, u64),
    (cause, detail): (ReturnCause, &str),
    reaped: &mut Reaped,
) -> Kept<()> {
    if readable(tx, job)?.is_none() {
        return Ok(());
    }
    let command = Command {
        id,
        job,
        actor: Actor { name: "reaper".to_owned(), role: Role::Governance },
        at: now,
        body: CommandBody::Return { slug: slug.clone(), epoch, cause, detail: detail.to_owned() },
    };
    match apply(tx, &command)? {
        Ok(_) => reaped.returned.push((job, slug, epoch, detail.to_owned())),
        Err(refused) => {
            tracing::warn!(%job, task = %slug, epoch, error = %refused, "an ended lease cannot be given back");
        }
    }
    Ok(())
}

/// The epoch under which a task is held for a version that is disabled; nothing when it is another version's.
fn held_for_disabled(tx: &mut Tx<'_>, job: JobId, slug: &TaskSlug) -> Kept<Option<u64>> {
    let Some(row) = readable(tx, job)? else { return Ok(None) };
    let record = &row.record;
    let held = record.tasks.get(slug).filter(|task| task.state == TaskState::Leased);
    let Some((task, agent)) = held.and_then(|task| Some((task, record.agent_of(task)?))) else {
        return Ok(None);
    };
    let off = tx.rows.agent_is_off(&record.tenant, &agent.name, &agent.digest)?;
    Ok(off.then_some(task.epoch))
}

fn why_ended(tx: &Tx<'_>, lease: &LeaseRow, now: Timestamp) -> Kept<(ReturnCause, &'static str)> {
    let session = lease.session.map(|id| tx.rows.session(id)).transpose()?.flatten();
    Ok(match session {
        Some(row) if row.expires_at == CLOSED => (ReturnCause::Drained, "the worker handed it back"),
        Some(row) if row.expires_at <= now => (ReturnCause::SessionEnded, "the worker's session ended"),
        None => (ReturnCause::SessionEnded, "the worker's session ended"),
        Some(_) if lease.deadline.is_some_and(|end| end <= now) => {
            (ReturnCause::Deadline, "the attempt ran past its deadline")
        }
        Some(_) if lease.last_progress == NEVER_HELD => {
            (ReturnCause::NotMade, "the lease never reached its worker")
        }
        Some(_) => (ReturnCause::Stalled, "the attempt made no progress"),
    })
}

/// Leases of every open session, for `GET /v1/system`.
pub(crate) fn sessions_with_held(rows: &dyn crate::rows::Rows) -> Kept<Vec<(SessionRow, u32)>> {
    let sessions = rows.sessions()?;
    sessions.into_iter().map(|row| rows.leases_held(row.id).map(|held| (row, held))).collect()
}

/// A lease by its task, as the daemon checks before it serves a blob or an event to its holder.
pub(crate) fn holder(
    rows: &dyn crate::rows::Rows,
    job: JobId,
    slug: &TaskSlug,
) -> Kept<Option<(u64, SessionId)>> {
    let lease = rows.lease(job, slug)?.filter(|row| row.state == TaskState::Leased);
    Ok(lease.and_then(|row| row.session.map(|session| (row.epoch, session))))
}

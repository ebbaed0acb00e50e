//! What is read from the ledger while it goes on: rows by cursor, and totals.

use df_contract::api::{Spend, UsagePage, UsageRow};
use df_contract::{AttemptId, JobId, NanoUsd, TaskSlug, TenantId, Timestamp, Tokens};
use serde::Serialize;

use super::frame::{End, Row, Total};
use super::segment::{self, Segment};
use super::sync::Shared;
use super::{LedgerError, Spender};
use crate::usage::Usage;

/// Most jobs in the totals; the newest come first.
const MAX_JOB_TOTALS: usize = 1000;

/// What an account has cost.
#[derive(Debug, Serialize)]
pub(crate) struct AccountTotal {
    pub(crate) account: String,
    pub(crate) failed_calls: u64,
    pub(crate) spend: Spend,
}

/// What a job has cost.
#[derive(Debug, Serialize)]
pub(crate) struct JobTotal {
    pub(crate) job: JobId,
    pub(crate) spend: Spend,
}

/// A row as an operator reads it.
#[derive(Debug, Serialize)]
pub(crate) struct RowView {
    pub(crate) seq: u64,
    at: Timestamp,
    tenant: TenantId,
    #[serde(flatten)]
    by: By,
    account: String,
    model: String,
    #[serde(flatten)]
    usage: Usage,
    nano_usd: NanoUsd,
    /// Of the row of the price table; absent if nothing was priced.
    #[serde(skip_serializing_if = "Option::is_none")]
    price_version: Option<String>,
    outcome: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum By {
    Grant { job: JobId, task: TaskSlug, epoch: u64, attempt: AttemptId },
    Key { key: String },
}

impl RowView {
    pub(super) fn of(row: Row) -> Self {
        let (tenant, by) = match row.payer.by {
            Spender::Grant { tenant, job, task, epoch, attempt } => {
                (tenant, By::Grant { job, task, epoch, attempt })
            }
            Spender::Key { tenant, key } => (tenant, By::Key { key }),
        };
        Self {
            seq: row.seq,
            at: row.at,
            tenant,
            by,
            account: row.payer.account,
            model: row.payer.model,
            usage: row.spent.usage,
            nano_usd: row.spent.nano_usd,
            price_version: row.spent.price.map(|version| hex::encode(version.0)),
            outcome: match row.end {
                End::Settled => "settled",
                End::Estimated => "estimated",
                End::Failed => "failed",
            },
        }
    }
}

impl Total {
    fn spend(&self) -> Spend {
        Spend {
            calls: self.calls,
            input_tokens: Tokens(self.input_tokens),
            output_tokens: Tokens(self.output_tokens),
            nano_usd: NanoUsd(self.nano_usd),
        }
    }
}

/// Durable rows after `after`, at most `limit`. Blocks on the disk.
pub(super) fn rows(shared: &Shared, after: u64, limit: usize) -> Result<Vec<Row>, LedgerError> {
    let (dir, segments, durable) = {
        let journal = shared.lock();
        let first = journal.segments.partition_point(|s| s.first_seq <= after + 1).saturating_sub(1);
        (journal.dir.clone(), journal.segments[first..].to_vec(), journal.durable_seq)
    };
    let mut rows: Vec<Row> = Vec::new();
    // A ledger that was moved here without its oldest segments begins where they end.
    let mut next = segments.first().map_or(after + 1, |oldest| oldest.first_seq.max(after + 1));
    for (at, segment) in segments.iter().enumerate() {
        let newer = segments.get(at + 1);
        let last = newer.map_or(durable, |newer| durable.min(newer.first_seq - 1));
        if rows.len() >= limit || next > last {
            continue;
        }
        let path = segment::path_of(&dir, segment.number);
        let (from, mut passed) = (segment.place_of(next), Segment::new(segment.number, segment.first_seq));
        segment::each_settlement(&path, from, |offset, row| {
            if row.seq > last {
                return false;
            }
            passed.mark(row.seq, offset);
            if row.seq == next {
                next += 1;
                rows.push(row);
            }
            rows.len() < limit && next <= last
        })?;
        if rows.len() < limit && next <= last {
            return Err(LedgerError::Damaged { path, offset: from, why: "a row that should follow" });
        }
        if from == 0 && newer.is_some() {
            keep_marks(shared, passed);
        }
    }
    Ok(rows)
}

/// What was learnt about an older segment by passing through it, so that the next page need not.
fn keep_marks(shared: &Shared, passed: Segment) {
    let mut journal = shared.lock();
    if let Some(known) = journal.segments.iter_mut().find(|s| s.number == passed.number)
        && known.marks.len() < passed.marks.len()
    {
        known.marks = passed.marks;
    }
}

/// The page that the daemon reads: what jobs used. Attempts that cost nothing and calls of standing keys are passed
/// over, but the cursor moves past them.
pub(super) fn usage(shared: &Shared, after: u64, limit: usize) -> Result<UsagePage, LedgerError> {
    let mut page = UsagePage { rows: Vec::new(), cursor: after, now: Some(crate::clock::now()) };
    for row in rows(shared, after, limit)? {
        page.cursor = row.seq;
        let (Spender::Grant { job, task, epoch, attempt, .. }, End::Settled | End::Estimated) =
            (row.payer.by, row.end)
        else {
            continue;
        };
        page.rows.push(UsageRow {
            seq: row.seq,
            at: row.at,
            job,
            task,
            epoch,
            attempt,
            account: row.payer.account,
            model: row.payer.model,
            input_tokens: row.spent.usage.all_input(),
            output_tokens: row.spent.usage.all_output(),
            nano_usd: row.spent.nano_usd,
            estimated: row.end == End::Estimated,
        });
    }
    Ok(page)
}

pub(super) fn account_totals(shared: &Shared) -> Vec<AccountTotal> {
    let journal = shared.lock();
    let all = journal.books.accounts.iter().map(|(account, total)| AccountTotal {
        account: account.clone(),
        failed_calls: total.failed,
        spend: total.spend(),
    });
    all.collect()
}

pub(super) fn job_totals(shared: &Shared) -> Vec<JobTotal> {
    let journal = shared.lock();
    let mut all: Vec<(JobId, Total)> = journal.books.jobs.iter().map(|(job, total)| (*job, *total)).collect();
    drop(journal);
    all.sort_unstable_by_key(|(_, total)| std::cmp::Reverse(total.last));
    all.truncate(MAX_JOB_TOTALS);
    all.into_iter().map(|(job, total)| JobTotal { job, spend: total.spend() }).collect()
}

//! What is read from the ledger's file: at opening, and for the admin API.

use std::collections::BTreeMap;

use df_contract::api::{Spend, UsagePage, UsageRow};
use df_contract::grant::BudgetCap;
use df_contract::{JobId, NanoUsd, TaskSlug, Timestamp, Tokens};
use rusqlite::{Connection, Row};
use serde::Serialize;

use super::file::{Held, amount_of, failed, int, levels_of, uint};
use super::{Amount, LedgerError, Payer};

/// Most jobs in the totals; the newest come first.
const MAX_JOB_TOTALS: u32 = 1000;

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

fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, LedgerError> {
    text.parse().map_err(|e: T::Err| LedgerError::Row(e.to_string()))
}

fn text(row: &Row<'_>, column: &str) -> Result<String, LedgerError> {
    row.get(column).map_err(failed("reading"))
}

fn number(row: &Row<'_>, column: &str) -> Result<u64, LedgerError> {
    row.get(column).map(uint).map_err(failed("reading"))
}

/// Runs a query and hands each row to `take`.
fn each(
    file: &Connection,
    sql: &str,
    params: &[i64],
    mut take: impl FnMut(&Row<'_>) -> Result<(), LedgerError>,
) -> Result<(), LedgerError> {
    let mut statement = file.prepare(sql).map_err(failed("reading"))?;
    let mut rows = statement.query(rusqlite::params_from_iter(params)).map_err(failed("reading"))?;
    while let Some(row) = rows.next().map_err(failed("reading"))? {
        take(row)?;
    }
    Ok(())
}

fn payer(row: &Row<'_>) -> Result<Payer, LedgerError> {
    Ok(Payer {
        tenant: parsed(&text(row, "tenant")?)?,
        job: parsed(&text(row, "job")?)?,
        task: parsed(&text(row, "task")?)?,
        epoch: number(row, "epoch")?,
        attempt: parsed(&text(row, "attempt")?)?,
        account: text(row, "account")?,
        model: text(row, "model")?,
    })
}

pub(super) fn caps(file: &Connection) -> Result<Vec<BudgetCap>, LedgerError> {
    let mut caps = Vec::new();
    each(file, "SELECT level, version, nano_usd, tokens FROM cap", &[], |row| {
        let optional = |column: &str| row.get::<_, Option<i64>>(column).map_err(failed("reading"));
        caps.push(BudgetCap {
            account: text(row, "level")?,
            version: number(row, "version")?,
            nano_usd: optional("nano_usd")?.map(|n| NanoUsd(uint(n))),
            tokens: optional("tokens")?.map(|t| Tokens(uint(t))),
        });
        Ok(())
    })?;
    Ok(caps)
}

pub(super) fn each_charge(
    file: &Connection,
    mut charge: impl FnMut(&[String], Amount),
) -> Result<(), LedgerError> {
    let sql = "SELECT levels, sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens,
               sum(nano_usd) AS nano_usd FROM usage GROUP BY levels";
    each(file, sql, &[], |row| {
        charge(&levels_of(&text(row, "levels")?)?, amount_of(row).map_err(failed("reading"))?);
        Ok(())
    })
}

pub(super) fn revocations(file: &Connection) -> Result<BTreeMap<(JobId, TaskSlug), u64>, LedgerError> {
    let mut all = BTreeMap::new();
    each(file, "SELECT job, task, epoch FROM revocation", &[], |row| {
        all.insert((parsed(&text(row, "job")?)?, parsed(&text(row, "task")?)?), number(row, "epoch")?);
        Ok(())
    })?;
    Ok(all)
}

pub(super) fn reservations(file: &Connection) -> Result<Vec<(u64, Held)>, LedgerError> {
    let mut all = Vec::new();
    each(file, "SELECT * FROM reservation ORDER BY id", &[], |row| {
        let held = Held {
            payer: payer(row)?,
            levels: levels_of(&text(row, "levels")?)?,
            amount: amount_of(row).map_err(failed("reading"))?,
        };
        all.push((number(row, "id")?, held));
        Ok(())
    })?;
    Ok(all)
}

/// Rows after `after`. Attempts that cost nothing are passed over, but the cursor moves past them.
pub(super) fn usage(file: &Connection, after: u64, limit: u32) -> Result<UsagePage, LedgerError> {
    let mut page = UsagePage { rows: Vec::new(), cursor: after, now: Some(crate::clock::now()) };
    let sql = "SELECT * FROM usage WHERE seq > ? ORDER BY seq LIMIT ?";
    each(file, sql, &[int(after), i64::from(limit)], |row| {
        page.cursor = number(row, "seq")?;
        let outcome = text(row, "outcome")?;
        if outcome == "failed" {
            return Ok(());
        }
        let (payer, amount) = (payer(row)?, amount_of(row).map_err(failed("reading"))?);
        page.rows.push(UsageRow {
            seq: page.cursor,
            at: Timestamp(number(row, "at")?),
            job: payer.job,
            task: payer.task,
            epoch: payer.epoch,
            attempt: payer.attempt,
            account: payer.account,
            model: payer.model,
            input_tokens: amount.input_tokens,
            output_tokens: amount.output_tokens,
            nano_usd: amount.nano_usd,
            estimated: outcome == "estimated",
        });
        Ok(())
    })?;
    Ok(page)
}

const TOTALS: &str = "sum(outcome <> 'failed') AS calls, sum(outcome = 'failed') AS failed,
    sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens, sum(nano_usd) AS nano_usd FROM usage";

fn spend(row: &Row<'_>) -> Result<Spend, LedgerError> {
    let amount = amount_of(row).map_err(failed("reading"))?;
    Ok(Spend {
        calls: number(row, "calls")?,
        input_tokens: amount.input_tokens,
        output_tokens: amount.output_tokens,
        nano_usd: amount.nano_usd,
    })
}

pub(super) fn account_totals(file: &Connection) -> Result<Vec<AccountTotal>, LedgerError> {
    let mut all = Vec::new();
    each(file, &format!("SELECT account, {TOTALS} GROUP BY account ORDER BY account"), &[], |row| {
        let (account, failed_calls) = (text(row, "account")?, number(row, "failed")?);
        all.push(AccountTotal { account, failed_calls, spend: spend(row)? });
        Ok(())
    })?;
    Ok(all)
}

pub(super) fn job_totals(file: &Connection) -> Result<Vec<JobTotal>, LedgerError> {
    let mut all = Vec::new();
    let sql = format!("SELECT job, {TOTALS} GROUP BY job ORDER BY max(seq) DESC LIMIT ?");
    each(file, &sql, &[i64::from(MAX_JOB_TOTALS)], |row| {
        all.push(JobTotal { job: parsed(&text(row, "job")?)?, spend: spend(row)? });
        Ok(())
    })?;
    Ok(all)
}

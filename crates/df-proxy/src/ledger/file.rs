//! The ledger's SQLite file: schema, opening, the few statements that write.

use std::path::Path;

use df_contract::grant::BudgetCap;
use df_contract::{NanoUsd, Timestamp, Tokens};
use rusqlite::{Connection, OpenFlags, Row, Transaction, params};

use super::{Amount, LedgerError, Payer};

const FORMAT: i64 = 1;

/// `usage` is append-only, and the triggers hold even against this program's own mistakes.
const SCHEMA: &str = "
CREATE TABLE cap (level TEXT PRIMARY KEY, version INTEGER NOT NULL, nano_usd INTEGER, tokens INTEGER) STRICT;
CREATE TABLE reservation (
  id INTEGER PRIMARY KEY, at INTEGER NOT NULL,
  tenant TEXT NOT NULL, job TEXT NOT NULL, task TEXT NOT NULL, epoch INTEGER NOT NULL, attempt TEXT NOT NULL,
  account TEXT NOT NULL, model TEXT NOT NULL, levels TEXT NOT NULL,
  input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL, nano_usd INTEGER NOT NULL) STRICT;
CREATE TABLE usage (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL,
  tenant TEXT NOT NULL, job TEXT NOT NULL, task TEXT NOT NULL, epoch INTEGER NOT NULL, attempt TEXT NOT NULL,
  account TEXT NOT NULL, model TEXT NOT NULL, levels TEXT NOT NULL,
  input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL, nano_usd INTEGER NOT NULL,
  outcome TEXT NOT NULL CHECK (outcome IN ('settled', 'estimated', 'failed'))) STRICT;
CREATE TABLE revocation (job TEXT NOT NULL, task TEXT NOT NULL, epoch INTEGER NOT NULL, PRIMARY KEY (job, task)) STRICT;
CREATE TRIGGER usage_is_never_changed BEFORE UPDATE ON usage BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER usage_is_never_removed BEFORE DELETE ON usage BEGIN SELECT RAISE(ABORT, 'append-only'); END;
";

pub(super) fn failed(doing: &'static str) -> impl FnOnce(rusqlite::Error) -> LedgerError {
    move |source| LedgerError::Store { doing, source }
}

/// SQLite has no unsigned integers; what does not fit is stored as its largest.
pub(super) fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn uint(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

pub(super) fn open_to_write(path: &Path) -> Result<Connection, LedgerError> {
    let mut file = Connection::open(path).map_err(failed("opening"))?;
    file.busy_timeout(std::time::Duration::from_secs(10)).map_err(failed("opening"))?;
    file.pragma_update(None, "journal_mode", "WAL").map_err(failed("opening"))?;
    sync_commits(&file, false)?;
    let format: i64 =
        file.pragma_query_value(None, "user_version", |r| r.get(0)).map_err(failed("opening"))?;
    match format {
        0 => {
            let tx = file.transaction().map_err(failed("creating"))?;
            tx.execute_batch(SCHEMA).map_err(failed("creating"))?;
            tx.pragma_update(None, "user_version", FORMAT).map_err(failed("creating"))?;
            tx.commit().map_err(failed("creating"))?;
        }
        FORMAT => {}
        newer => return Err(LedgerError::Newer(newer)),
    }
    Ok(file)
}

pub(super) fn open_to_read(path: &Path) -> Result<Connection, LedgerError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let file = Connection::open_with_flags(path, flags).map_err(failed("opening"))?;
    file.busy_timeout(std::time::Duration::from_secs(10)).map_err(failed("opening"))?;
    Ok(file)
}

/// Whether the next commits wait for the disk. In WAL mode FULL syncs the log at each commit, NORMAL does not.
pub(super) fn sync_commits(file: &Connection, sync: bool) -> Result<(), LedgerError> {
    file.pragma_update(None, "synchronous", if sync { "FULL" } else { "NORMAL" })
        .map_err(failed("setting up"))
}

/// A reservation as it stands in memory and in the file.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) payer: Payer,
    pub(super) levels: Vec<String>,
    pub(super) amount: Amount,
}

pub(super) fn put_cap(tx: &Transaction<'_>, cap: &BudgetCap) -> rusqlite::Result<usize> {
    tx.prepare_cached("INSERT OR REPLACE INTO cap (level, version, nano_usd, tokens) VALUES (?, ?, ?, ?)")?
        .execute(params![
            cap.account,
            int(cap.version),
            cap.nano_usd.map(|n| int(n.0)),
            cap.tokens.map(|t| int(t.0))
        ])
}

pub(super) fn put_reservation(
    tx: &Transaction<'_>,
    id: u64,
    at: Timestamp,
    held: &Held,
) -> rusqlite::Result<usize> {
    let p = &held.payer;
    tx.prepare_cached("INSERT INTO reservation VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")?.execute(
        params![
            int(id),
            int(at.as_millis()),
            p.tenant.as_str(),
            p.job.to_string(),
            p.task.as_str(),
            int(p.epoch),
            p.attempt.to_string(),
            p.account,
            p.model,
            levels_text(&held.levels),
            int(held.amount.input_tokens.0),
            int(held.amount.output_tokens.0),
            int(held.amount.nano_usd.0),
        ],
    )
}

/// One line of the ledger; `id` is the reservation it ends.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) id: u64,
    pub(super) at: Timestamp,
    pub(super) held: Held,
    pub(super) spent: Amount,
    pub(super) outcome: &'static str,
}

pub(super) fn put_usage(tx: &Transaction<'_>, line: &Line) -> rusqlite::Result<usize> {
    let p = &line.held.payer;
    tx.prepare_cached(
        "INSERT INTO usage (at, tenant, job, task, epoch, attempt, account, model, levels,
         input_tokens, output_tokens, nano_usd, outcome) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![
        int(line.at.as_millis()),
        p.tenant.as_str(),
        p.job.to_string(),
        p.task.as_str(),
        int(p.epoch),
        p.attempt.to_string(),
        p.account,
        p.model,
        levels_text(&line.held.levels),
        int(line.spent.input_tokens.0),
        int(line.spent.output_tokens.0),
        int(line.spent.nano_usd.0),
        line.outcome,
    ])?;
    tx.prepare_cached("DELETE FROM reservation WHERE id = ?")?.execute([int(line.id)])
}

fn levels_text(levels: &[String]) -> String {
    serde_json::Value::from(levels.to_vec()).to_string()
}

pub(super) fn levels_of(text: &str) -> Result<Vec<String>, LedgerError> {
    serde_json::from_str(text).map_err(|e| LedgerError::Row(e.to_string()))
}

pub(super) fn amount_of(row: &Row<'_>) -> rusqlite::Result<Amount> {
    Ok(Amount {
        input_tokens: Tokens(uint(row.get("input_tokens")?)),
        output_tokens: Tokens(uint(row.get("output_tokens")?)),
        nano_usd: NanoUsd(uint(row.get("nano_usd")?)),
    })
}

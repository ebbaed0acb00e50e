//! Takes over the SQLite file that earlier versions kept: caps, revocations, every row with its number, and what was
//! open.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use df_contract::{JobId, NanoUsd, TaskSlug, Timestamp, Tokens};
use rusqlite::{Connection, OpenFlags, Row as SqlRow};

use super::books::Books;
use super::budget::Cap;
use super::frame::{End, Frame, Held, Revoked, Row};
use super::{Amount, LedgerError, Payer, Spender, journal};
use crate::usage::Usage;

/// The only format of the old file.
const OLD_FORMAT: i64 = 1;
/// Frames of this many bytes go into one segment.
const SEGMENT_BYTES: usize = 64 * 1024 * 1024;

fn failed(source: rusqlite::Error) -> LedgerError {
    LedgerError::Import { source }
}

fn uint(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

fn number(row: &SqlRow<'_>, column: &str) -> Result<u64, LedgerError> {
    row.get(column).map(uint).map_err(failed)
}

fn text(row: &SqlRow<'_>, column: &str) -> Result<String, LedgerError> {
    row.get(column).map_err(failed)
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(
    row: &SqlRow<'_>,
    column: &str,
) -> Result<T, LedgerError> {
    text(row, column)?.parse().map_err(|e: T::Err| LedgerError::Row(e.to_string()))
}

/// Runs a query and hands each row to `take`.
fn each(
    file: &Connection,
    sql: &str,
    mut take: impl FnMut(&SqlRow<'_>) -> Result<(), LedgerError>,
) -> Result<(), LedgerError> {
    let mut statement = file.prepare(sql).map_err(failed)?;
    let mut rows = statement.query([]).map_err(failed)?;
    while let Some(row) = rows.next().map_err(failed)? {
        take(row)?;
    }
    Ok(())
}

fn held(row: &SqlRow<'_>, names: &mut HashMap<String, Arc<str>>) -> Result<Held, LedgerError> {
    let levels: Vec<String> =
        serde_json::from_str(&text(row, "levels")?).map_err(|e| LedgerError::Row(e.to_string()))?;
    let levels = levels.into_iter().map(|name| {
        let known = names.entry(name).or_insert_with_key(|name| name.as_str().into());
        Arc::clone(known)
    });
    let tokens = |column| number(row, column).map(Tokens);
    Ok(Held {
        at: Timestamp(number(row, "at")?),
        levels: levels.collect(),
        payer: Payer {
            by: Spender::Grant {
                tenant: parsed(row, "tenant")?,
                job: parsed(row, "job")?,
                task: parsed(row, "task")?,
                epoch: number(row, "epoch")?,
                attempt: parsed(row, "attempt")?,
            },
            account: text(row, "account")?,
            model: text(row, "model")?,
        },
        amount: Amount {
            usage: Usage::plain(tokens("input_tokens")?, tokens("output_tokens")?),
            nano_usd: NanoUsd(number(row, "nano_usd")?),
            price: None,
        },
    })
}

/// A journal as it is written from the old file.
struct Copy<'a> {
    dir: &'a Path,
    books: Books,
    /// Of the segment in hand.
    number: u64,
    bytes: Vec<u8>,
}

impl Copy<'_> {
    fn put(&mut self, frame: Frame) -> Result<(), LedgerError> {
        super::frame::put(&mut self.bytes, &frame)?;
        self.books.apply(frame).map_err(|impossible| LedgerError::Row(impossible.0.into()))?;
        if self.bytes.len() >= SEGMENT_BYTES { self.next() } else { Ok(()) }
    }

    fn next(&mut self) -> Result<(), LedgerError> {
        self.finish()?;
        self.number += 1;
        self.bytes = journal::checkpoint(&self.books, self.number)?;
        Ok(())
    }

    fn finish(&mut self) -> Result<(), LedgerError> {
        journal::begin_segment(self.dir, self.number, &self.bytes, &[]).map(drop)
    }
}

/// Writes what the file at `old` holds as a journal into the empty directory `dir`.
pub(super) fn import(old: &Path, dir: &Path) -> Result<(), LedgerError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let file = Connection::open_with_flags(old, flags).map_err(failed)?;
    // What still stands in its log goes into the file itself, which is all that is kept of it.
    let folded = |r: &SqlRow<'_>| r.get::<_, i64>(0);
    file.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], folded).map_err(failed)?;
    let format: i64 = file.pragma_query_value(None, "user_version", |r| r.get(0)).map_err(failed)?;
    if format != OLD_FORMAT {
        return Err(LedgerError::Row(format!("ledger.sqlite has the unknown format {format}")));
    }
    let books = Books::new();
    let bytes = journal::checkpoint(&books, 1)?;
    let mut copy = Copy { dir, books, number: 1, bytes };
    each(&file, "SELECT level, version, nano_usd, tokens FROM cap", |row| {
        let optional = |column: &str| row.get::<_, Option<i64>>(column).map_err(failed);
        copy.put(Frame::Cap(Cap {
            level: text(row, "level")?.into(),
            version: number(row, "version")?,
            nano_usd: optional("nano_usd")?.map(|n| NanoUsd(uint(n))),
            tokens: optional("tokens")?.map(|t| Tokens(uint(t))),
        }))
    })?;
    each(&file, "SELECT job, task, epoch FROM revocation", |row| {
        let (job, task): (JobId, TaskSlug) = (parsed(row, "job")?, parsed(row, "task")?);
        copy.put(Frame::Revoke(Revoked { job, task, epoch: number(row, "epoch")? }))
    })?;
    let mut names = HashMap::new();
    each(&file, "SELECT * FROM usage ORDER BY seq", |row| copy.usage(row, &mut names))?;
    each(&file, "SELECT * FROM reservation ORDER BY id", |row| {
        let held = held(row, &mut names)?;
        copy.put(Frame::Reserve(copy.books.next_id, held))
    })?;
    copy.finish()
}

impl Copy<'_> {
    /// A row of the old ledger as a reservation of the same amount and its settlement.
    fn usage(&mut self, row: &SqlRow<'_>, names: &mut HashMap<String, Arc<str>>) -> Result<(), LedgerError> {
        let end = match text(row, "outcome")?.as_str() {
            "settled" => End::Settled,
            "estimated" => End::Estimated,
            "failed" => End::Failed,
            other => return Err(LedgerError::Row(format!("the outcome `{other}`"))),
        };
        let seq = number(row, "seq")?;
        if seq != self.books.next_seq {
            return Err(LedgerError::Row(format!("row {seq} where {} should be", self.books.next_seq)));
        }
        let (id, held) = (self.books.next_id, held(row, names)?);
        let (at, payer, spent) = (held.at, held.payer.clone(), held.amount);
        self.put(Frame::Reserve(id, held))?;
        self.put(Frame::Settle(Row { seq, id, at, payer, spent, end }))
    }
}

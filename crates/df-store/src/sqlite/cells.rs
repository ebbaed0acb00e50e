//! Between our types and SQLite's cells.

use std::str::FromStr;

use df_contract::Timestamp;
use rusqlite::types::Type;
use rusqlite::{Error, Row};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::StoreError;
use crate::rows::Kept;

/// An unsigned number as SQLite's signed one; stops at the largest.
pub(super) fn int(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

pub(super) fn time(at: Timestamp) -> i64 {
    int(at.0)
}

pub(super) fn json<T: Serialize>(value: &T, table: &'static str) -> Kept<String> {
    serde_json::to_string(value).map_err(|e| StoreError::Row { table, why: e.to_string() })
}

fn unreadable(column: usize, why: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::FromSqlConversionFailure(column, Type::Text, Box::new(why))
}

/// A word that is none of ours.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not known")]
struct Unknown(String);

pub(super) fn parsed<T>(row: &Row<'_>, column: usize) -> Result<T, Error>
where
    T: FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    row.get_ref(column)?.as_str()?.parse().map_err(|e| unreadable(column, e))
}

pub(super) fn from_json<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> Result<T, Error> {
    serde_json::from_str(row.get_ref(column)?.as_str()?).map_err(|e| unreadable(column, e))
}

pub(super) fn word<T>(
    row: &Row<'_>,
    column: usize,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<T, Error> {
    let text = row.get_ref(column)?.as_str()?;
    parse(text).ok_or_else(|| unreadable(column, Unknown(text.to_owned())))
}

pub(super) fn unsigned(row: &Row<'_>, column: usize) -> Result<u64, Error> {
    let n: i64 = row.get(column)?;
    u64::try_from(n).map_err(|_| Error::IntegralValueOutOfRange(column, n))
}

pub(super) fn instant(row: &Row<'_>, column: usize) -> Result<Timestamp, Error> {
    unsigned(row, column).map(Timestamp)
}

//! The schema, step by step. A step is never edited once released: the next one follows it.

use rusqlite::{Connection, OptionalExtension as _};

use super::{Sqlite, failed};
use crate::StoreError;
use crate::rows::Kept;

/// In order; the first is version 1.
const STEPS: &[&str] = &[
    include_str!("../../../../schema/migrations/sqlite/0001_control.sql"),
    include_str!("../../../../schema/migrations/sqlite/0002_documents.sql"),
    include_str!("../../../../schema/migrations/sqlite/0003_agents.sql"),
    include_str!("../../../../schema/migrations/sqlite/0004_upkeep.sql"),
    include_str!("../../../../schema/migrations/sqlite/0005_schedule.sql"),
    include_str!("../../../../schema/migrations/sqlite/0006_kept_blobs.sql"),
    include_str!("../../../../schema/migrations/sqlite/0007_breakers.sql"),
    include_str!("../../../../schema/migrations/sqlite/0008_merge_numbers.sql"),
    include_str!("../../../../schema/migrations/sqlite/0009_agents_of_tenants.sql"),
];

const TABLE: &str = "CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL) STRICT";

fn known() -> u32 {
    u32::try_from(STEPS.len()).unwrap_or(u32::MAX)
}

fn found(connection: &Connection) -> Kept<u32> {
    let sql = "SELECT coalesce(max(version), 0) FROM schema_version";
    connection.query_row(sql, [], |row| row.get(0)).map_err(failed("reading the schema's version"))
}

/// The step from which on tasks stand in the queues of now, which name the version of their agent.
const PLACED: u32 = 8;

/// Brings the schema up to date, all steps in one transaction. Refuses a newer one untouched.
pub(super) fn run(engine: &Sqlite) -> Kept<()> {
    let connection = &engine.connection;
    connection.execute_batch(TABLE).map_err(failed("preparing the schema"))?;
    let from = found(connection)?;
    if from > known() {
        return Err(StoreError::Newer { found: from, known: known() });
    }
    if from == known() {
        return Ok(());
    }
    let all = connection.unchecked_transaction().map_err(failed("migrating the schema"))?;
    for (version, sql) in (1..).zip(STEPS).skip(from as usize) {
        all.execute_batch(sql).map_err(failed("migrating the schema"))?;
        let sql = "INSERT INTO schema_version (version) VALUES (?1)";
        all.execute(sql, [version]).map_err(failed("migrating the schema"))?;
    }
    if from < PLACED {
        engine.tasks_place()?;
    }
    all.commit().map_err(failed("migrating the schema"))
}

/// Whether a reader understands what is there.
pub(super) fn check(connection: &Connection) -> Kept<()> {
    let exists = connection
        .query_row("SELECT 1 FROM sqlite_schema WHERE name = 'schema_version'", [], |_| Ok(()))
        .optional()
        .map_err(failed("reading the schema"))?;
    let found = if exists.is_some() { found(connection)? } else { 0 };
    if found == known() { Ok(()) } else { Err(StoreError::Newer { found, known: known() }) }
}

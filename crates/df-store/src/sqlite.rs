//! The store in one SQLite database, for one machine.
//!
//! Write-ahead log with `synchronous=FULL`: what is acknowledged survives a power cut. One connection writes, in
//! groups; a few read. The directory belongs to one process, which holds a lock on it.

mod agents;
mod cells;
mod documents;
mod export;
mod jobs;
mod lock;
mod migrate;
mod pool;
mod queues;
mod rows;
mod upkeep;

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use crate::StoreError;
use crate::owner::Engine;
use crate::rows::{Kept, Rows};
use lock::DirLock;
pub(crate) use pool::ReadPool;
#[cfg(test)]
pub(crate) use rows::statements;

/// The database's file in the data directory.
pub(crate) const FILE: &str = "control.db";

/// How long a statement waits for another connection (a reader at a checkpoint, an export).
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Prepared statements kept per connection.
const STATEMENT_CACHE: usize = 128;

/// The rows of one connection.
pub(crate) struct Sqlite {
    connection: Connection,
    /// Held as long as the writer lives.
    _lock: Option<DirLock>,
}

fn failed(what: &'static str) -> impl FnOnce(rusqlite::Error) -> StoreError {
    move |source| StoreError::Sqlite { what, source }
}

/// Where the database of a data directory is.
fn file_in(dir: &Path) -> PathBuf {
    dir.join(FILE)
}

impl Sqlite {
    /// Opens for writing: takes the directory, creates what is missing, brings the schema up to date.
    pub(crate) fn open(dir: &Path) -> Kept<Self> {
        let create = |source| StoreError::File { what: "creating", path: dir.to_owned(), source };
        std::fs::create_dir_all(dir).map_err(create)?;
        let lock = DirLock::take(dir)?;
        let connection = Connection::open(file_in(dir)).map_err(failed("opening the database"))?;
        set_up(&connection)?;
        connection
            .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")
            .map_err(failed("setting up the write-ahead log"))?;
        let engine = Self { connection, _lock: Some(lock) };
        migrate::run(&engine)?;
        Ok(engine)
    }

    /// Opens for reading beside whoever writes, or nobody. Takes no lock.
    pub(crate) fn open_read_only(dir: &Path) -> Kept<Self> {
        let file = file_in(dir);
        if !file.exists() {
            return Err(StoreError::Missing(file));
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection =
            Connection::open_with_flags(file, flags).map_err(failed("opening the database to read"))?;
        set_up(&connection)?;
        migrate::check(&connection)?;
        Ok(Self { connection, _lock: None })
    }

    /// Runs `work` on one unchanging state of the database.
    pub(crate) fn snapshot<T>(&self, work: impl FnOnce(&dyn Rows) -> Kept<T>) -> Kept<T> {
        let transaction = self.connection.unchecked_transaction().map_err(failed("beginning to read"))?;
        let found = work(self)?;
        transaction.commit().map_err(failed("ending to read"))?;
        Ok(found)
    }

    /// Journal mode, and the level of `synchronous` (2 = FULL).
    #[cfg(test)]
    pub(crate) fn durability(&self) -> (String, i64) {
        let ask = |name| self.connection.pragma_query_value(None, name, |row| row.get(0));
        (
            ask("journal_mode").unwrap(),
            self.connection.pragma_query_value(None, "synchronous", |r| r.get(0)).unwrap(),
        )
    }

    /// Gives up durability, for tests of anything else.
    #[cfg(test)]
    pub(crate) fn hurry(&self) {
        self.batch("PRAGMA synchronous = OFF", "hurrying").unwrap();
    }

    /// Makes the disk seem full beyond so many pages.
    #[cfg(test)]
    pub(crate) fn limit_pages(&self, most: u32) {
        let found: u32 =
            self.connection.query_row(&format!("PRAGMA max_page_count = {most}"), [], |r| r.get(0)).unwrap();
        assert_eq!(found, most);
    }

    fn batch(&self, sql: &str, what: &'static str) -> Kept<()> {
        self.connection.execute_batch(sql).map_err(failed(what))
    }
}

fn set_up(connection: &Connection) -> Kept<()> {
    connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
    connection.busy_timeout(BUSY_TIMEOUT).map_err(failed("setting the busy timeout"))?;
    // recursive_triggers: REPLACE must not delete an audit record behind its trigger's back.
    connection
        .execute_batch(
            "PRAGMA foreign_keys = ON; PRAGMA recursive_triggers = ON; PRAGMA trusted_schema = OFF;",
        )
        .map_err(failed("setting up the connection"))
}

impl Engine for Sqlite {
    fn begin(&mut self) -> Kept<()> {
        self.batch("BEGIN IMMEDIATE", "beginning a group")
    }
    fn op_begin(&mut self) -> Kept<()> {
        self.batch("SAVEPOINT op", "beginning an operation")
    }
    fn op_keep(&mut self) -> Kept<()> {
        self.batch("RELEASE op", "keeping an operation")
    }
    fn op_undo(&mut self) -> Kept<()> {
        self.batch("ROLLBACK TO op; RELEASE op", "undoing an operation")
    }
    fn commit(&mut self) -> Kept<()> {
        self.batch("COMMIT", "committing a group")
    }
    fn rollback(&mut self) {
        // After some errors SQLite has rolled back by itself.
        if !self.connection.is_autocommit()
            && let Err(error) = self.batch("ROLLBACK", "rolling back a group")
        {
            tracing::error!(error = %error, "a failed group of writes cannot be rolled back");
        }
    }
    fn as_rows(&mut self) -> &mut dyn Rows {
        self
    }
}

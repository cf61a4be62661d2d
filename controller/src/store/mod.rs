//! The only place that speaks SQL: runs and everything that was recorded about them.
//!
//! Statements are plain SQL with numbered parameters, so that they run on PostgreSQL as they are.

mod accounts;
mod artifacts;
mod audit_log;
mod calendars;
mod files;
mod frames;
mod imports;
mod judgements;
mod matrix;
mod migrations;
mod mutes;
mod notes;
mod notifications;
mod queue;
mod records;
mod renaming;
mod results;
mod runs;
mod schedules;
mod sessions;
mod standings;
mod step_results;
mod suites;
mod tokens;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

pub(crate) use accounts::Unchanged;
pub use audit_log::ActFilter;
pub(crate) use files::{Change, Draft, summary_of};
pub(crate) use imports::IMPORT_STEP;
pub(crate) use judgements::Judgement;
pub(crate) use notes::Subject;
#[cfg(test)]
pub(crate) use notifications::arranged;
pub(crate) use notifications::{
    DeliveryFilter, Due, Fault, MissedOccurrences, NewDelivery, NewEvent, Outcome, StandingRow, StoredChannel,
    StoredRule, Tally, Tried,
};
pub use runs::RunFilter;
pub(crate) use runs::{moment, now};
pub(crate) use schedules::{NewOccurrence, StoredSchedule, Unsettled};
pub(crate) use sessions::StoredSession;
pub(crate) use step_results::StoredResult;
pub(crate) use suites::StoredSuiteRun;

/// Connections that read at the same time.
const READERS: u32 = 4;
/// How long a statement waits for another process (a backup, a curious person) to let go of the database.
const BUSY: Duration = Duration::from_secs(10);

/// The store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database refused or could not be reached.
    #[error("could not {doing}: {source}")]
    Database {
        /// What was attempted.
        doing: &'static str,
        /// What the database said.
        source: sqlx::Error,
    },
    /// The database's tables could not be brought up to date.
    #[error("could not bring the store's tables up to date: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// Something stored could not be read back.
    #[error("the store holds a {what} that cannot be read: {why}")]
    Broken {
        /// What kind of thing.
        what: &'static str,
        /// Why it cannot be read.
        why: String,
    },
}

impl StoreError {
    /// For `map_err`: a failure of the database while doing something.
    fn database(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Database { doing, source }
    }

    /// For `map_err`: something stored that cannot be read back.
    pub(crate) fn broken<E: std::fmt::Display>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::Broken { what, why: error.to_string() }
    }
}

/// Runs and what was recorded about them, on disk.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    reader: SqlitePool,
    /// One connection: SQLite has one writer at a time, and waiting here is fairer than retrying there.
    writer: SqlitePool,
}

impl Store {
    /// Opens (or makes) the database in `file` and brings its tables up to date.
    pub(crate) async fn open(file: &Path) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .foreign_keys(true)
            .busy_timeout(BUSY);
        let doing = "open the database";
        let writer = SqlitePoolOptions::new().max_connections(1).connect_with(options.clone()).await;
        let writer = writer.map_err(StoreError::database(doing))?;
        migrations::migrator().run(&writer).await?;
        let reader = SqlitePoolOptions::new().max_connections(READERS).connect_with(options.read_only(true)).await;
        let reader = reader.map_err(StoreError::database(doing))?;
        Ok(Self { reader, writer })
    }

    /// Where a data directory has its database.
    pub(crate) fn file_in(data_dir: &Path) -> PathBuf {
        data_dir.join("kennel.db")
    }

    /// Opens the database in `file` as it is, beside the Kennel that owns it, to read and never to write.
    pub(crate) async fn open_to_read(file: &Path) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new().filename(file).read_only(true).busy_timeout(BUSY);
        let reader = SqlitePoolOptions::new().max_connections(1).connect_with(options).await;
        let reader = reader.map_err(StoreError::database("open the database"))?;
        Ok(Self { writer: reader.clone(), reader })
    }

    /// Closes every connection; what was written is on disk.
    pub(crate) async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }
}

/// A count as the database keeps it.
fn integer(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A count as it was before the database kept it.
fn count(stored: i64) -> u64 {
    u64::try_from(stored).unwrap_or_default()
}

fn to_json<T: Serialize>(what: &'static str, value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(StoreError::broken(what))
}

fn from_json<T: DeserializeOwned>(what: &'static str, text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(StoreError::broken(what))
}

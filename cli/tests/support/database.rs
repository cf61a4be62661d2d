//! The database of a data directory, from outside: to look at what is kept, and to let time pass while Kennel is down.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "every test binary uses its own part")]

use std::path::Path;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _, Row as _};

/// A connection of its own, on a runtime of its own.
pub struct Database {
    runtime: tokio::runtime::Runtime,
    connection: Option<SqliteConnection>,
}

impl Database {
    /// Opens the database in a data directory.
    pub fn open(dir: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let options = SqliteConnectOptions::new()
            .filename(dir.join("kennel.db"))
            .busy_timeout(std::time::Duration::from_secs(10));
        let connection = runtime.block_on(options.connect()).unwrap();
        Self { runtime, connection: Some(connection) }
    }

    /// Runs a statement and answers how many rows it changed.
    pub fn execute(&mut self, sql: &str) -> u64 {
        let connection = self.connection.as_mut().unwrap();
        let done = self.runtime.block_on(sqlx::query(sqlx::AssertSqlSafe(sql.to_owned())).execute(connection));
        done.unwrap_or_else(|error| panic!("{sql}: {error}")).rows_affected()
    }

    /// The rows of a query whose columns are texts; one that is null is empty.
    pub fn rows(&mut self, sql: &str) -> Vec<Vec<String>> {
        let connection = self.connection.as_mut().unwrap();
        let rows = self.runtime.block_on(sqlx::query(sqlx::AssertSqlSafe(sql.to_owned())).fetch_all(connection));
        let rows = rows.unwrap_or_else(|error| panic!("{sql}: {error}"));
        let text = |row: &sqlx::sqlite::SqliteRow, at| row.get::<Option<String>, _>(at).unwrap_or_default();
        rows.iter().map(|row| (0..row.len()).map(|at| text(row, at)).collect()).collect()
    }

    /// The number that a query answers.
    pub fn count(&mut self, sql: &str) -> i64 {
        let connection = self.connection.as_mut().unwrap();
        let row = self.runtime.block_on(sqlx::query(sqlx::AssertSqlSafe(sql.to_owned())).fetch_one(connection));
        row.unwrap_or_else(|error| panic!("{sql}: {error}")).get(0)
    }

    /// Lets minutes pass for schedules, while Kennel is down: everything that was decided moves into the past.
    pub fn minutes_pass(&mut self, minutes: u32) {
        // Far away first: moments are keys, and two of them must not meet on the way.
        let moved = |field: &str, by: &str| format!("{field} = strftime('%Y-%m-%dT%H:%M:%SZ', {field}, {by})");
        self.execute(&format!("UPDATE occurrences SET {}", moved("due_at", "'+1000 years'")));
        let back = format!("'-1000 years', '-{minutes} minutes'");
        self.execute(&format!("UPDATE occurrences SET {}", moved("due_at", &back)));
        self.execute(&format!("UPDATE schedules SET {}", moved("handled_at", &format!("'-{minutes} minutes'"))));
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            let _ = self.runtime.block_on(connection.close());
        }
    }
}

//! What a store of the user dimension keeps beside its rows while a migration is under way: notes by name, the failure
//! log of writes that the other side does not have yet, and differences that were seen.

use serde::{Deserialize, Serialize};
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::StoreError;
use super::placeholders::places;
use crate::ids::OrderId;

/// Repeatable.
macro_rules! notes_table {
    () => {
        "
CREATE TABLE IF NOT EXISTS migration (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"
    };
}

/// Repeatable. What the role keeps that does the work.
pub(crate) const NOTES: &str = notes_table!();

/// Repeatable. Only a system with an old table has it: nobody else pays for its indexes.
pub(crate) const SCHEMA: &str = concat!(
    notes_table!(),
    "
CREATE TABLE IF NOT EXISTS failure_log (
  log_id IDENTITY, order_id BIGINT NOT NULL, failures BIGINT NOT NULL
);
CREATE INDEX IF NOT EXISTS failure_log_by_order ON failure_log (order_id);
CREATE TABLE IF NOT EXISTS differences (
  order_id BIGINT PRIMARY KEY, at_ms BIGINT NOT NULL, what TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS orders_by_id ON orders (order_id);
CREATE INDEX IF NOT EXISTS events_by_order ON events (order_id);
CREATE INDEX IF NOT EXISTS payments_by_order ON payments (order_id);
CREATE INDEX IF NOT EXISTS refunds_by_order ON refunds (order_id);
CREATE INDEX IF NOT EXISTS tasks_by_order ON tasks (order_id);
CREATE INDEX IF NOT EXISTS outbox_by_message ON outbox (message_id);
"
);

/// A note.
pub(crate) async fn read(
    executor: impl sqlx::Executor<'_, Database = sqlx::Any>,
    name: &str,
) -> Result<Option<String>, StoreError> {
    let found = sqlx::query_scalar("SELECT value FROM migration WHERE name = $1").bind(name.to_owned());
    Ok(found.fetch_optional(executor).await?)
}

/// Keeps a note.
pub(crate) async fn write(connection: &mut AnyConnection, name: &str, value: &str) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO migration (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
    )
    .bind(name.to_owned())
    .bind(value.to_owned())
    .execute(connection)
    .await?;
    Ok(())
}

/// Notes, in the transaction of a change, that the other side does not have it. `failures` is 0 while nobody has tried.
pub(crate) async fn log(connection: &mut AnyConnection, orders: &[OrderId], failures: i64) -> Result<(), StoreError> {
    if orders.is_empty() {
        return Ok(());
    }
    let values = (2..orders.len() + 2).map(|n| format!("(${n}, $1)")).collect::<Vec<_>>().join(", ");
    let statement = format!("INSERT INTO failure_log (order_id, failures) VALUES {values}");
    let mut insert = sqlx::query(AssertSqlSafe(statement)).bind(failures);
    for order_id in orders {
        insert = insert.bind(order_id.0);
    }
    insert.execute(connection).await?;
    Ok(())
}

/// The rows of some orders in the failure log: (row, order).
pub(crate) async fn logged(
    connection: &mut AnyConnection,
    orders: &[OrderId],
) -> Result<Vec<(i64, OrderId)>, StoreError> {
    if orders.is_empty() {
        return Ok(Vec::new());
    }
    let statement = format!("SELECT log_id, order_id FROM failure_log WHERE order_id IN ({})", places(1, orders.len()));
    let mut query = sqlx::query(AssertSqlSafe(statement));
    for order_id in orders {
        query = query.bind(order_id.0);
    }
    let rows = query.fetch_all(connection).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, OrderId(row.try_get(1)?)))).collect()
}

/// Orders whose writes have failed, the oldest first.
pub(crate) async fn failed(
    executor: impl sqlx::Executor<'_, Database = sqlx::Any>,
    limit: i64,
) -> Result<Vec<OrderId>, StoreError> {
    let rows = sqlx::query(
        "SELECT order_id FROM failure_log WHERE failures > 0 GROUP BY order_id ORDER BY min(log_id) LIMIT $1",
    );
    let rows = rows.bind(limit).fetch_all(executor).await?;
    rows.iter().map(|row| Ok(OrderId(row.try_get(0)?))).collect()
}

/// Notes that the other side has these, or that another try has failed.
pub(crate) async fn settle(connection: &mut AnyConnection, rows: &[i64], arrived: bool) -> Result<(), StoreError> {
    const CHUNK: usize = 500;
    for rows in rows.chunks(CHUNK) {
        let what = if arrived { "DELETE FROM failure_log" } else { "UPDATE failure_log SET failures = failures + 1" };
        let statement = format!("{what} WHERE log_id IN ({})", places(1, rows.len()));
        let mut query = sqlx::query(AssertSqlSafe(statement));
        for log_id in rows {
            query = query.bind(*log_id);
        }
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

/// What an earlier life left is not under way any more.
pub(crate) async fn all_have_failed(connection: &mut AnyConnection) -> Result<(), StoreError> {
    sqlx::query("UPDATE failure_log SET failures = 1 WHERE failures = 0").execute(connection).await?;
    Ok(())
}

/// Rows up to `before` that nobody has settled since were forgotten: they have failed. Gives the last row now.
pub(crate) async fn forgotten(connection: &mut AnyConnection, before: Option<i64>) -> Result<i64, StoreError> {
    if let Some(before) = before {
        let update = sqlx::query("UPDATE failure_log SET failures = 1 WHERE failures = 0 AND log_id <= $1");
        update.bind(before).execute(&mut *connection).await?;
    }
    let last: Option<i64> = sqlx::query_scalar("SELECT max(log_id) FROM failure_log").fetch_one(connection).await?;
    Ok(last.unwrap_or(0))
}

/// Forgets everything.
pub(crate) async fn clear_log(connection: &mut AnyConnection) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM failure_log").execute(connection).await?;
    Ok(())
}

/// Forgets the failures, as systems do that keep no such log.
pub(crate) async fn drop_failed(connection: &mut AnyConnection) -> Result<u64, StoreError> {
    Ok(sqlx::query("DELETE FROM failure_log WHERE failures > 0").execute(connection).await?.rows_affected())
}

/// (rows, rows that have failed).
pub(crate) async fn depth(executor: impl sqlx::Executor<'_, Database = sqlx::Any>) -> Result<(i64, i64), StoreError> {
    let row = sqlx::query("SELECT count(*), count(CASE WHEN failures > 0 THEN 1 END) FROM failure_log");
    let row = row.fetch_one(executor).await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

/// An order that the two sides have differently.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Difference {
    /// Which order.
    pub(crate) order_id: OrderId,
    /// When it was seen, in milliseconds since 1970.
    pub(crate) at_ms: i64,
    /// For people.
    pub(crate) what: String,
}

/// Notes differences; of one order, the latest.
pub(crate) async fn note_differences(connection: &mut AnyConnection, seen: &[Difference]) -> Result<(), StoreError> {
    for Difference { order_id, at_ms, what } in seen {
        sqlx::query(
            "INSERT INTO differences (order_id, at_ms, what) VALUES ($1, $2, $3) \
             ON CONFLICT (order_id) DO UPDATE SET at_ms = excluded.at_ms, what = excluded.what",
        )
        .bind(order_id.0)
        .bind(*at_ms)
        .bind(what.as_str())
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// The latest differences since a moment, and how many there are.
pub(crate) async fn differences(
    executor: &sqlx::AnyPool,
    since_ms: i64,
    limit: i64,
) -> Result<(i64, Vec<Difference>), StoreError> {
    let count = sqlx::query_scalar("SELECT count(*) FROM differences WHERE at_ms >= $1").bind(since_ms);
    let count = count.fetch_one(executor).await?;
    let rows = sqlx::query(
        "SELECT order_id, at_ms, what FROM differences WHERE at_ms >= $1 ORDER BY at_ms DESC, order_id LIMIT $2",
    );
    let rows = rows.bind(since_ms).bind(limit).fetch_all(executor).await?;
    let latest = rows
        .iter()
        .map(|row| Ok(Difference { order_id: OrderId(row.try_get(0)?), at_ms: row.try_get(1)?, what: row.try_get(2)? }))
        .collect::<Result<_, sqlx::Error>>()?;
    Ok((count, latest))
}

/// Removes every row of the store's user dimension: the old table is dropped.
pub(crate) async fn drop_orders(connection: &mut AnyConnection) -> Result<(), StoreError> {
    for table in
        ["orders", "events", "payments", "refunds", "tasks", "outbox", "happened", "failure_log", "differences"]
    {
        // The tables stay, empty: their names come from here.
        sqlx::query(AssertSqlSafe(format!("DELETE FROM {table}"))).execute(&mut *connection).await?;
    }
    Ok(())
}

//! Task rows: work on an order that is tried until it succeeds, and timers. Written with the change that makes them
//! necessary.

use serde::{Deserialize, Serialize};
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::StoreError;
use super::placeholders::places;
use super::user_dimension::{order_from, select_order};
use crate::ids::OrderId;
use crate::orders::Order;
use crate::orders::change::{TaskKind, TaskWrite};

/// Part of the user dimension. Repeatable.
macro_rules! tasks_table {
    () => {
        "
CREATE TABLE IF NOT EXISTS tasks (
  task_id IDENTITY, shard BIGINT NOT NULL, order_id BIGINT NOT NULL,
  kind BIGINT NOT NULL, due_at_ms BIGINT NOT NULL, attempts BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS tasks_by_due ON tasks (due_at_ms);
"
    };
}
pub(crate) use tasks_table;

/// Adds the task rows of an order.
pub(super) async fn write(
    connection: &mut AnyConnection,
    shard: u16,
    order_id: OrderId,
    tasks: &[TaskWrite],
) -> Result<(), StoreError> {
    if tasks.is_empty() {
        return Ok(());
    }
    // One statement: each one costs two switches between this thread and SQLite's.
    let values = (0..tasks.len()).map(|n| format!("($1, $2, ${}, ${})", 2 * n + 3, 2 * n + 4));
    let values = values.collect::<Vec<_>>().join(", ");
    let statement = format!("INSERT INTO tasks (shard, order_id, kind, due_at_ms) VALUES {values}");
    let mut insert = sqlx::query(AssertSqlSafe(statement)).bind(i64::from(shard)).bind(order_id.0);
    for task in tasks {
        insert = insert.bind(task.kind.code()).bind(task.due_at_ms);
    }
    insert.execute(connection).await?;
    Ok(())
}

/// A task row with its order as it is now.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct DueTask {
    /// The row.
    pub(crate) task_id: i64,
    /// What to do.
    pub(crate) kind: TaskKind,
    /// How often it failed.
    pub(crate) attempts: i64,
    /// On which order.
    pub(crate) order: Order,
}

/// Task rows that are due, the oldest first.
pub(crate) async fn due(
    executor: impl sqlx::Executor<'_, Database = sqlx::Any>,
    now_ms: i64,
    limit: i64,
) -> Result<Vec<DueTask>, StoreError> {
    let rows = sqlx::query(select_order!(
        ", t.task_id, t.kind, t.attempts FROM tasks t \
         JOIN orders o ON o.shard = t.shard AND o.order_id = t.order_id \
         WHERE t.due_at_ms <= $1 ORDER BY t.due_at_ms, t.task_id LIMIT $2"
    ))
    .bind(now_ms)
    .bind(limit)
    .fetch_all(executor)
    .await?;
    rows.iter()
        .map(|row| {
            let code: i64 = row.try_get(28)?;
            Ok(DueTask {
                task_id: row.try_get(27)?,
                kind: TaskKind::from_code(code).ok_or_else(|| StoreError::Row(format!("{code} is no task kind")))?,
                attempts: row.try_get(29)?,
                order: order_from(row)?,
            })
        })
        .collect()
}

/// When the next task row is due, if there is any.
pub(crate) async fn next_due_ms(
    executor: impl sqlx::Executor<'_, Database = sqlx::Any>,
) -> Result<Option<i64>, StoreError> {
    Ok(sqlx::query_scalar("SELECT min(due_at_ms) FROM tasks").fetch_one(executor).await?)
}

/// A task that did not succeed, and when to try it again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Retry {
    /// The row.
    pub(crate) task_id: i64,
    /// When, in milliseconds since 1970.
    pub(crate) due_at_ms: i64,
}

/// The orders of some task rows.
pub(crate) async fn orders_of(connection: &mut AnyConnection, tasks: &[i64]) -> Result<Vec<OrderId>, StoreError> {
    if tasks.is_empty() {
        return Ok(Vec::new());
    }
    let statement = format!("SELECT DISTINCT order_id FROM tasks WHERE task_id IN ({})", places(1, tasks.len()));
    let mut query = sqlx::query(AssertSqlSafe(statement));
    for task_id in tasks {
        query = query.bind(*task_id);
    }
    query.fetch_all(connection).await?.iter().map(|row| Ok(OrderId(row.try_get(0)?))).collect()
}

/// Removes finished task rows and moves failed ones to a later time.
pub(crate) async fn settle(connection: &mut AnyConnection, done: &[i64], retry: &[Retry]) -> Result<(), StoreError> {
    if !done.is_empty() {
        let statement = format!("DELETE FROM tasks WHERE task_id IN ({})", places(1, done.len()));
        let mut delete = sqlx::query(AssertSqlSafe(statement));
        for task_id in done {
            delete = delete.bind(*task_id);
        }
        delete.execute(&mut *connection).await?;
    }
    for task in retry {
        sqlx::query("UPDATE tasks SET due_at_ms = $1, attempts = attempts + 1 WHERE task_id = $2")
            .bind(task.due_at_ms)
            .bind(task.task_id)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

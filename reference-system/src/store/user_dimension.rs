//! The user dimension's rows: orders by (shard, order), events, payments, refunds, task rows and the
//! order sequence. The master of every order.

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::StoreError;
use super::lock_writes::lock_writes_table;
use super::outbox::{Telling, outbox_table};
use crate::bus::event::{DeliveryEvent, Event};
use crate::ids::{CouponId, MAX_EPOCH, OrderId, RestaurantId, UserId};
use crate::orders::Order;
use crate::orders::change::{self, Change, MoneyWrite, RefundWrite, TaskKind, TaskWrite};
use crate::orders::event::OrderEvent;
use crate::orders::lifecycle::{Status, Trigger};

/// The table of orders, the same in both dimensions.
macro_rules! orders_table {
    () => {
        "
CREATE TABLE IF NOT EXISTS orders (
  shard BIGINT NOT NULL, order_id BIGINT NOT NULL,
  user_id BIGINT NOT NULL, restaurant_id BIGINT NOT NULL, req_id TEXT NOT NULL,
  status BIGINT NOT NULL, version BIGINT NOT NULL, revision BIGINT NOT NULL,
  refund_status BIGINT NOT NULL, delivery_status BIGINT NOT NULL,
  items_fen BIGINT NOT NULL, delivery_fee_fen BIGINT NOT NULL, discount_fen BIGINT NOT NULL,
  total_fen BIGINT NOT NULL, paid_fen BIGINT NOT NULL, refunded_fen BIGINT NOT NULL, refund_no BIGINT,
  completed_at_ms BIGINT, settled_at_ms BIGINT,
  coupon_id BIGINT, payment_id TEXT, lines TEXT NOT NULL, address TEXT NOT NULL,
  day BIGINT, number BIGINT, created_at_ms BIGINT NOT NULL, updated_at_ms BIGINT NOT NULL,
  PRIMARY KEY (shard, order_id)
) WITHOUT ROWID;
"
    };
}
pub(crate) use orders_table;

/// Repeatable. `shard` is the physical place of a row: it is written by the DAL, and the auditor
/// compares it with the ID.
pub(crate) const SCHEMA: &str = concat!(
    orders_table!(),
    "
CREATE INDEX IF NOT EXISTS orders_by_user ON orders (shard, user_id, created_at_ms);
CREATE UNIQUE INDEX IF NOT EXISTS orders_by_request ON orders (shard, user_id, req_id);
CREATE TABLE IF NOT EXISTS events (
  shard BIGINT NOT NULL, order_id BIGINT NOT NULL, version BIGINT NOT NULL,
  from_status BIGINT, to_status BIGINT NOT NULL, kind TEXT NOT NULL, at_ms BIGINT NOT NULL,
  PRIMARY KEY (shard, order_id, version)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS payments (
  payment_id TEXT PRIMARY KEY, shard BIGINT NOT NULL, order_id BIGINT NOT NULL,
  amount_fen BIGINT NOT NULL, state BIGINT NOT NULL, at_ms BIGINT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS refunds (
  refund_id TEXT PRIMARY KEY, payment_id TEXT NOT NULL, shard BIGINT NOT NULL, order_id BIGINT NOT NULL,
  amount_fen BIGINT NOT NULL, source BIGINT NOT NULL, state BIGINT NOT NULL, at_ms BIGINT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tasks (
  task_id IDENTITY, shard BIGINT NOT NULL, order_id BIGINT NOT NULL,
  kind BIGINT NOT NULL, due_at_ms BIGINT NOT NULL, attempts BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS tasks_by_due ON tasks (due_at_ms);
CREATE TABLE IF NOT EXISTS sequence (
  name TEXT PRIMARY KEY, epoch BIGINT NOT NULL, next BIGINT NOT NULL
) WITHOUT ROWID;
",
    outbox_table!(),
    lock_writes_table!()
);

/// The columns of an order, for `SELECT … FROM orders o`.
macro_rules! select_order {
    ($rest:literal) => {
        concat!(
            "SELECT o.order_id, o.user_id, o.restaurant_id, o.req_id, o.status, o.version, ",
            "o.revision, o.refund_status, o.delivery_status, o.items_fen, o.delivery_fee_fen, ",
            "o.discount_fen, o.total_fen, o.paid_fen, o.coupon_id, o.payment_id, o.lines, ",
            "o.address, o.day, o.number, o.created_at_ms, o.updated_at_ms, o.refunded_fen, o.refund_no, ",
            "o.completed_at_ms, o.settled_at_ms, o.shard ",
            $rest
        )
    };
}
pub(crate) use select_order;

/// Reads an order from a row of [`select_order`].
pub(crate) fn order_from(row: &AnyRow) -> Result<Order, StoreError> {
    let status: i64 = row.try_get(4)?;
    let lines: &str = row.try_get(16)?;
    Ok(Order {
        order_id: OrderId(row.try_get(0)?),
        user_id: UserId(row.try_get(1)?),
        restaurant_id: RestaurantId(row.try_get(2)?),
        req_id: row.try_get(3)?,
        status: Status::from_code(status).ok_or_else(|| StoreError::Row(format!("{status} is no order status")))?,
        version: row.try_get(5)?,
        revision: row.try_get(6)?,
        refund_status: row.try_get(7)?,
        delivery_status: row.try_get(8)?,
        items_fen: row.try_get(9)?,
        delivery_fee_fen: row.try_get(10)?,
        discount_fen: row.try_get(11)?,
        total_fen: row.try_get(12)?,
        paid_fen: row.try_get(13)?,
        coupon_id: row.try_get::<Option<i64>, _>(14)?.map(CouponId),
        payment_id: row.try_get(15)?,
        lines: serde_json::from_str(lines).map_err(|error| StoreError::Row(error.to_string()))?,
        address: row.try_get(17)?,
        day: row.try_get(18)?,
        number: row.try_get(19)?,
        created_at_ms: row.try_get(20)?,
        updated_at_ms: row.try_get(21)?,
        refunded_fen: row.try_get(22)?,
        refund_no: row.try_get(23)?,
        completed_at_ms: row.try_get(24)?,
        settled_at_ms: row.try_get(25)?,
    })
}

/// Writes a whole order row; `$sql` names the conflict rule.
macro_rules! write_order {
    ($connection:expr, $shard:expr, $order:expr, $conflict:literal) => {{
        let order: &crate::orders::Order = $order;
        let lines =
            serde_json::to_string(&order.lines).map_err(|error| crate::store::StoreError::Row(error.to_string()))?;
        sqlx::query(concat!(
            "INSERT INTO orders (shard, order_id, user_id, restaurant_id, req_id, status, version, ",
            "revision, refund_status, delivery_status, items_fen, delivery_fee_fen, discount_fen, ",
            "total_fen, paid_fen, coupon_id, payment_id, lines, address, day, number, ",
            "created_at_ms, updated_at_ms, refunded_fen, refund_no, completed_at_ms, settled_at_ms) ",
            "VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16,$17,$18,$19,$20,$21,$22,$23,$24,$25,$26,$27) ",
            $conflict
        ))
        .bind(i64::from($shard))
        .bind(order.order_id.0)
        .bind(order.user_id.0)
        .bind(order.restaurant_id.0)
        .bind(&order.req_id)
        .bind(order.status.code())
        .bind(order.version)
        .bind(order.revision)
        .bind(order.refund_status)
        .bind(order.delivery_status)
        .bind(order.items_fen)
        .bind(order.delivery_fee_fen)
        .bind(order.discount_fen)
        .bind(order.total_fen)
        .bind(order.paid_fen)
        .bind(order.coupon_id.map(|coupon| coupon.0))
        .bind(&order.payment_id)
        .bind(lines)
        .bind(&order.address)
        .bind(order.day)
        .bind(order.number)
        .bind(order.created_at_ms)
        .bind(order.updated_at_ms)
        .bind(order.refunded_fen)
        .bind(order.refund_no)
        .bind(order.completed_at_ms)
        .bind(order.settled_at_ms)
        .execute(&mut *$connection)
        .await?
    }};
}
pub(crate) use write_order;

/// Inserts a new order with its first event and its tasks. A request that made an order before
/// gets that order, and `false`.
pub(crate) async fn create(
    connection: &mut AnyConnection,
    order: Order,
    tasks: &[TaskWrite],
    telling: &mut Telling,
) -> Result<(Order, bool), StoreError> {
    if let Some(existing) = by_request(connection, &order).await? {
        return Ok((existing, false));
    }
    let shard = order.order_id.user_shard();
    write_order!(connection, shard, &order, "");
    write_event(connection, &order, None, Trigger::Create.event()).await?;
    let event = OrderEvent::of(&order, None, Trigger::Create.event(), telling.cause.clone());
    telling.note(connection, &Event::Order(event)).await?;
    write_tasks(connection, order.order_id, tasks).await?;
    Ok((order, true))
}

async fn by_request(connection: &mut AnyConnection, order: &Order) -> Result<Option<Order>, StoreError> {
    sqlx::query(select_order!("FROM orders o WHERE o.shard = $1 AND o.user_id = $2 AND o.req_id = $3"))
        .bind(i64::from(order.order_id.user_shard()))
        .bind(order.user_id.0)
        .bind(&order.req_id)
        .fetch_optional(connection)
        .await?
        .as_ref()
        .map(order_from)
        .transpose()
}

/// The order with this ID.
pub(crate) async fn by_id(
    executor: impl sqlx::Executor<'_, Database = sqlx::Any>,
    shard: u16,
    order_id: OrderId,
) -> Result<Option<Order>, StoreError> {
    sqlx::query(select_order!("FROM orders o WHERE o.shard = $1 AND o.order_id = $2"))
        .bind(i64::from(shard))
        .bind(order_id.0)
        .fetch_optional(executor)
        .await?
        .as_ref()
        .map(order_from)
        .transpose()
}

/// Applies a change. Gives the order as it is afterwards and whether the change applied; `None` if
/// there is no such order.
pub(crate) async fn change(
    connection: &mut AnyConnection,
    change: &Change,
    now_ms: i64,
    telling: &mut Telling,
) -> Result<Option<(Order, bool)>, StoreError> {
    let shard = change.order_id.user_shard();
    let Some(before) = by_id(&mut *connection, shard, change.order_id).await? else {
        return Ok(None);
    };
    let Some(after) = change::apply(&before, change, now_ms) else {
        return Ok(Some((before, false)));
    };
    let updated = sqlx::query(
        "UPDATE orders SET status = $1, version = $2, revision = $3, refund_status = $4, \
         delivery_status = $5, paid_fen = $6, payment_id = $7, day = $8, number = $9, \
         updated_at_ms = $10, refunded_fen = $11, refund_no = $12, completed_at_ms = $13, settled_at_ms = $14 \
         WHERE shard = $15 AND order_id = $16 AND status = $17 AND version = $18",
    )
    .bind(after.status.code())
    .bind(after.version)
    .bind(after.revision)
    .bind(after.refund_status)
    .bind(after.delivery_status)
    .bind(after.paid_fen)
    .bind(&after.payment_id)
    .bind(after.day)
    .bind(after.number)
    .bind(after.updated_at_ms)
    .bind(after.refunded_fen)
    .bind(after.refund_no)
    .bind(after.completed_at_ms)
    .bind(after.settled_at_ms)
    .bind(i64::from(shard))
    .bind(after.order_id.0)
    .bind(change.expected_status.code())
    .bind(change.expected_version)
    .execute(&mut *connection)
    .await?;
    if updated.rows_affected() == 0 {
        return Ok(Some((before, false)));
    }
    if let Some(step) = &change.step {
        write_event(connection, &after, Some(before.status), &step.event).await?;
        let event = OrderEvent::of(&after, Some(before.status), &step.event, telling.cause.clone());
        telling.note(connection, &Event::Order(event)).await?;
    }
    if after.delivery_status > before.delivery_status {
        let event = DeliveryEvent::of(&after, telling.cause.clone());
        telling.note(connection, &Event::Delivery(event)).await?;
    }
    if let Some(payment) = &change.payment {
        write_payment(connection, payment, &after).await?;
    }
    if let Some(refund) = &change.refund {
        write_refund(connection, refund, &after).await?;
    }
    write_tasks(connection, change.order_id, &change.tasks).await?;
    Ok(Some((after, true)))
}

async fn write_payment(connection: &mut AnyConnection, write: &MoneyWrite, order: &Order) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO payments (payment_id, shard, order_id, amount_fen, state, at_ms) VALUES ($1,$2,$3,$4,$5,$6) \
         ON CONFLICT (payment_id) DO UPDATE SET amount_fen = excluded.amount_fen, state = excluded.state, \
         at_ms = excluded.at_ms",
    )
    .bind(&write.payment_id)
    .bind(i64::from(order.order_id.user_shard()))
    .bind(order.order_id.0)
    .bind(write.amount_fen)
    .bind(write.state.code())
    .bind(order.updated_at_ms)
    .execute(connection)
    .await?;
    Ok(())
}

/// A refund that is there already keeps its amount and source; only its state moves on.
async fn write_refund(connection: &mut AnyConnection, write: &RefundWrite, order: &Order) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO refunds (refund_id, payment_id, shard, order_id, amount_fen, source, state, at_ms) \
         VALUES ($1,$2,$3,$4,$5,$6,$7,$8) \
         ON CONFLICT (refund_id) DO UPDATE SET state = excluded.state, at_ms = excluded.at_ms",
    )
    .bind(&write.refund_id)
    .bind(&write.payment_id)
    .bind(i64::from(order.order_id.user_shard()))
    .bind(order.order_id.0)
    .bind(write.amount_fen)
    .bind(write.source.code())
    .bind(write.state.code())
    .bind(order.updated_at_ms)
    .execute(connection)
    .await?;
    Ok(())
}

async fn write_event(
    connection: &mut AnyConnection,
    after: &Order,
    from: Option<Status>,
    kind: &str,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO events (shard, order_id, version, from_status, to_status, kind, at_ms) \
         VALUES ($1,$2,$3,$4,$5,$6,$7)",
    )
    .bind(i64::from(after.order_id.user_shard()))
    .bind(after.order_id.0)
    .bind(after.version)
    .bind(from.map(Status::code))
    .bind(after.status.code())
    .bind(kind)
    .bind(after.updated_at_ms)
    .execute(connection)
    .await?;
    Ok(())
}

async fn write_tasks(connection: &mut AnyConnection, order_id: OrderId, tasks: &[TaskWrite]) -> Result<(), StoreError> {
    if tasks.is_empty() {
        return Ok(());
    }
    // One statement: each one costs two switches between this thread and SQLite's.
    let values = (0..tasks.len()).map(|n| format!("($1, $2, ${}, ${})", 2 * n + 3, 2 * n + 4));
    let values = values.collect::<Vec<_>>().join(", ");
    let statement = format!("INSERT INTO tasks (shard, order_id, kind, due_at_ms) VALUES {values}");
    let mut insert = sqlx::query(AssertSqlSafe(statement)).bind(i64::from(order_id.user_shard())).bind(order_id.0);
    for task in tasks {
        insert = insert.bind(task.kind.code()).bind(task.due_at_ms);
    }
    insert.execute(connection).await?;
    Ok(())
}

/// A task row with its order as it is now.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
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
pub(crate) async fn due_tasks(
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

/// A task that did not succeed, and when to try it again.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct Retry {
    /// The row.
    pub(crate) task_id: i64,
    /// When, in milliseconds since 1970.
    pub(crate) due_at_ms: i64,
}

/// Removes finished task rows and moves failed ones to a later time.
pub(crate) async fn settle_tasks(
    connection: &mut AnyConnection,
    done: &[i64],
    retry: &[Retry],
) -> Result<(), StoreError> {
    if !done.is_empty() {
        let ids = (1..=done.len()).map(|n| format!("${n}")).collect::<Vec<_>>().join(", ");
        let statement = format!("DELETE FROM tasks WHERE task_id IN ({ids})");
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

/// A range of sequence numbers that nobody else gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct SequenceBlock {
    /// The epoch of the counter store.
    pub(crate) epoch: i64,
    /// The first number.
    pub(crate) first: i64,
    /// How many.
    pub(crate) count: i64,
}

/// Raises the epoch, durably, as the counter store does at each start. It stays at 255; the numbers
/// themselves never go back, so they stay unique.
pub(crate) async fn raise_epoch(connection: &mut AnyConnection) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO sequence (name, epoch, next) VALUES ('order', 1, 1) \
         ON CONFLICT (name) DO UPDATE SET epoch = \
         CASE WHEN sequence.epoch < $1 THEN sequence.epoch + 1 ELSE $1 END",
    )
    .bind(MAX_EPOCH)
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes the next `count` sequence numbers.
pub(crate) async fn take_block(connection: &mut AnyConnection, count: i64) -> Result<SequenceBlock, StoreError> {
    let row = sqlx::query("UPDATE sequence SET next = next + $1 WHERE name = 'order' RETURNING epoch, next - $1")
        .bind(count)
        .fetch_one(connection)
        .await?;
    Ok(SequenceBlock { epoch: row.try_get(0)?, first: row.try_get(1)?, count })
}

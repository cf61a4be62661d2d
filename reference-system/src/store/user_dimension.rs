//! The user dimension's rows: orders by (shard, order), events, payments, refunds and task rows. The master of every
//! order.

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::StoreError;
use super::lock_writes::lock_writes_table;
use super::order_mapping::mapping_tables;
use super::outbox::{Telling, outbox_table};
use super::sequence::sequence_tables;
use super::tasks::{self, tasks_table};
use crate::bus::event::{DeliveryEvent, Event};
use crate::ids::{CouponId, OrderId, RestaurantId, UserId, shard};
use crate::orders::Order;
use crate::orders::change::{self, Change, MoneyWrite, RefundWrite, TaskWrite};
use crate::orders::event::OrderEvent;
use crate::orders::lifecycle::{Status, Trigger};
use crate::orders::quote::Quoted;
use crate::orders::routing::{Named, Predicates};

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
CREATE INDEX IF NOT EXISTS orders_by_creation ON orders (created_at_ms);
CREATE INDEX IF NOT EXISTS orders_by_user ON orders (shard, user_id, created_at_ms);
CREATE UNIQUE INDEX IF NOT EXISTS orders_by_request ON orders (shard, user_id, req_id);
CREATE TABLE IF NOT EXISTS events (
  shard BIGINT NOT NULL, order_id BIGINT NOT NULL, version BIGINT NOT NULL,
  from_status BIGINT, to_status BIGINT NOT NULL, kind TEXT NOT NULL, at_ms BIGINT NOT NULL,
  quote TEXT, quoted_fen BIGINT,
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
",
    tasks_table!(),
    outbox_table!(),
    lock_writes_table!(),
    sequence_tables!(),
    mapping_tables!()
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

/// The conflict rule by which a row takes the place of the one that is there, if `$rest` lets it.
macro_rules! overwrite_order {
    ($rest:literal) => {
        concat!(
            "ON CONFLICT (shard, order_id) DO UPDATE SET status = excluded.status, ",
            "version = excluded.version, revision = excluded.revision, ",
            "refund_status = excluded.refund_status, delivery_status = excluded.delivery_status, ",
            "paid_fen = excluded.paid_fen, payment_id = excluded.payment_id, day = excluded.day, ",
            "number = excluded.number, updated_at_ms = excluded.updated_at_ms, ",
            "refunded_fen = excluded.refunded_fen, refund_no = excluded.refund_no, ",
            "completed_at_ms = excluded.completed_at_ms, settled_at_ms = excluded.settled_at_ms",
            $rest
        )
    };
}
pub(crate) use overwrite_order;

/// Writes a whole order row; `$conflict` is the conflict rule.
macro_rules! write_order {
    ($connection:expr, $shard:expr, $order:expr, $($conflict:tt)*) => {{
        let order: &crate::orders::Order = $order;
        let lines =
            serde_json::to_string(&order.lines).map_err(|error| crate::store::StoreError::Row(error.to_string()))?;
        sqlx::query(concat!(
            "INSERT INTO orders (shard, order_id, user_id, restaurant_id, req_id, status, version, ",
            "revision, refund_status, delivery_status, items_fen, delivery_fee_fen, discount_fen, ",
            "total_fen, paid_fen, coupon_id, payment_id, lines, address, day, number, ",
            "created_at_ms, updated_at_ms, refunded_fen, refund_no, completed_at_ms, settled_at_ms) ",
            "VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16,$17,$18,$19,$20,$21,$22,$23,$24,$25,$26,$27) ",
            $($conflict)*
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

/// What became of a new order.
pub(crate) enum Created {
    /// It is there.
    New(Order),
    /// Its request made an order before.
    Before(Order),
    /// Another order of this shard has its ID.
    IdTaken,
}

/// Inserts a new order with its first event and its tasks.
pub(crate) async fn create(
    connection: &mut AnyConnection,
    shard: u16,
    order: Order,
    quoted: &Quoted,
    tasks: &[TaskWrite],
    telling: &mut Telling,
) -> Result<Created, StoreError> {
    if let Some(existing) = by_request(connection, shard, &order).await? {
        return Ok(Created::Before(existing));
    }
    let inserted = write_order!(connection, shard, &order, "ON CONFLICT (shard, order_id) DO NOTHING");
    if inserted.rows_affected() == 0 {
        return Ok(Created::IdTaken);
    }
    write_event(connection, shard, &order, None, Trigger::Create.event(), Some(quoted)).await?;
    let event = OrderEvent::of(&order, None, Trigger::Create.event(), telling.cause.clone());
    telling.note(connection, &Event::Order(event)).await?;
    tasks::write(connection, shard, order.order_id, tasks).await?;
    Ok(Created::New(order))
}

async fn by_request(connection: &mut AnyConnection, shard: u16, order: &Order) -> Result<Option<Order>, StoreError> {
    sqlx::query(select_order!("FROM orders o WHERE o.shard = $1 AND o.user_id = $2 AND o.req_id = $3"))
        .bind(i64::from(shard))
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

/// The order with this ID in whichever shard of this store it lies. An ID without slots does not say, so that every row is
/// looked at: for what is rare.
pub(crate) async fn by_id_anywhere(
    executor: impl sqlx::Executor<'_, Database = sqlx::Any>,
    order_id: OrderId,
) -> Result<Option<Order>, StoreError> {
    if let Some(slots) = order_id.slots() {
        return by_id(executor, shard(slots.user), order_id).await;
    }
    sqlx::query(select_order!("FROM orders o WHERE o.order_id = $1 LIMIT 1"))
        .bind(order_id.0)
        .fetch_optional(executor)
        .await?
        .as_ref()
        .map(order_from)
        .transpose()
}

/// The orders of a shard that fit all predicates, by creation: `"ASC"` the oldest first, `"DESC"` the newest.
pub(crate) async fn find(
    executor: impl sqlx::Executor<'_, Database = sqlx::Any>,
    shard: u16,
    predicates: &Predicates,
    direction: &'static str,
) -> Result<Vec<Order>, StoreError> {
    let Named { order_id, user_id, restaurant_id } = predicates.named;
    let numbers = [
        ("o.order_id =", order_id.map(|id| id.0)),
        ("o.user_id =", user_id.map(|id| id.0)),
        ("o.restaurant_id =", restaurant_id.map(|id| id.0)),
        ("o.status =", predicates.status),
        ("o.created_at_ms >=", predicates.since),
    ];
    let numbers: Vec<(&str, i64)> =
        numbers.into_iter().filter_map(|(condition, value)| Some((condition, value?))).collect();
    let mut statement = select_order!("FROM orders o WHERE o.shard = $1").to_owned();
    let mut places = 2..;
    for ((condition, _), place) in numbers.iter().zip(&mut places) {
        statement.push_str(&format!(" AND {condition} ${place}"));
    }
    if predicates.req_id.is_some() {
        statement.push_str(&format!(" AND o.req_id = ${}", places.next().unwrap_or_default()));
    }
    let last = places.next().unwrap_or_default();
    statement.push_str(&format!(" ORDER BY o.created_at_ms {direction} LIMIT ${last}"));
    let mut query = sqlx::query(AssertSqlSafe(statement)).bind(i64::from(shard));
    for (_, value) in numbers {
        query = query.bind(value);
    }
    if let Some(req_id) = &predicates.req_id {
        query = query.bind(req_id);
    }
    let rows = query.bind(predicates.limit).fetch_all(executor).await?;
    rows.iter().map(order_from).collect()
}

/// Applies a change. Gives the order as it is afterwards and whether the change applied; `None` if
/// there is no such order.
pub(crate) async fn change(
    connection: &mut AnyConnection,
    shard: u16,
    change: &Change,
    now_ms: i64,
    telling: &mut Telling,
) -> Result<Option<(Order, bool)>, StoreError> {
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
        write_event(connection, shard, &after, Some(before.status), &step.event, None).await?;
        let event = OrderEvent::of(&after, Some(before.status), &step.event, telling.cause.clone());
        telling.note(connection, &Event::Order(event)).await?;
    }
    if after.delivery_status > before.delivery_status {
        let event = DeliveryEvent::of(&after, telling.cause.clone());
        telling.note(connection, &Event::Delivery(event)).await?;
    }
    if let Some(payment) = &change.payment {
        write_payment(connection, shard, payment, &after).await?;
    }
    if let Some(refund) = &change.refund {
        write_refund(connection, shard, refund, &after).await?;
    }
    tasks::write(connection, shard, change.order_id, &change.tasks).await?;
    Ok(Some((after, true)))
}

async fn write_payment(
    connection: &mut AnyConnection,
    shard: u16,
    write: &MoneyWrite,
    order: &Order,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO payments (payment_id, shard, order_id, amount_fen, state, at_ms) VALUES ($1,$2,$3,$4,$5,$6) \
         ON CONFLICT (payment_id) DO UPDATE SET amount_fen = excluded.amount_fen, state = excluded.state, \
         at_ms = excluded.at_ms",
    )
    .bind(&write.payment_id)
    .bind(i64::from(shard))
    .bind(order.order_id.0)
    .bind(write.amount_fen)
    .bind(write.state.code())
    .bind(order.updated_at_ms)
    .execute(connection)
    .await?;
    Ok(())
}

/// A refund that is there already keeps its amount and source; only its state moves on.
async fn write_refund(
    connection: &mut AnyConnection,
    shard: u16,
    write: &RefundWrite,
    order: &Order,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO refunds (refund_id, payment_id, shard, order_id, amount_fen, source, state, at_ms) \
         VALUES ($1,$2,$3,$4,$5,$6,$7,$8) \
         ON CONFLICT (refund_id) DO UPDATE SET state = excluded.state, at_ms = excluded.at_ms",
    )
    .bind(&write.refund_id)
    .bind(&write.payment_id)
    .bind(i64::from(shard))
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
    shard: u16,
    after: &Order,
    from: Option<Status>,
    kind: &str,
    quoted: Option<&Quoted>,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO events (shard, order_id, version, from_status, to_status, kind, at_ms, quote, quoted_fen) \
         VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9)",
    )
    .bind(i64::from(shard))
    .bind(after.order_id.0)
    .bind(after.version)
    .bind(from.map(Status::code))
    .bind(after.status.code())
    .bind(kind)
    .bind(after.updated_at_ms)
    .bind(quoted.map(|quoted| quoted.quote.as_str()))
    .bind(quoted.map(|quoted| quoted.total_fen))
    .execute(connection)
    .await?;
    Ok(())
}

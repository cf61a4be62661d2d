//! The merchant dimension's rows: copies of orders by restaurant, and the kitchen numbers.

use serde::{Deserialize, Serialize};
use sqlx::{AnyConnection, Row};

use super::StoreError;
use super::user_dimension::{order_from, orders_table, select_order, write_order};
use crate::ids::{OrderId, RestaurantId};
use crate::orders::Order;
use crate::orders::lifecycle::Status;

/// Repeatable.
pub(crate) const SCHEMA: &str = concat!(
    orders_table!(),
    "
CREATE INDEX IF NOT EXISTS orders_by_restaurant
  ON orders (shard, restaurant_id, status, created_at_ms);
CREATE TABLE IF NOT EXISTS numbers (
  restaurant_id BIGINT NOT NULL, day BIGINT NOT NULL, number BIGINT NOT NULL,
  order_id BIGINT NOT NULL UNIQUE,
  PRIMARY KEY (restaurant_id, day, number)
) WITHOUT ROWID;
"
);

/// Writes the row unless a newer one is there already.
pub(crate) async fn apply(connection: &mut AnyConnection, order: &Order) -> Result<(), StoreError> {
    let shard = order.order_id.merchant_shard();
    write_order!(
        connection,
        shard,
        order,
        "ON CONFLICT (shard, order_id) DO UPDATE SET status = excluded.status, \
         version = excluded.version, revision = excluded.revision, \
         refund_status = excluded.refund_status, delivery_status = excluded.delivery_status, \
         paid_fen = excluded.paid_fen, payment_id = excluded.payment_id, day = excluded.day, \
         number = excluded.number, updated_at_ms = excluded.updated_at_ms, \
         refunded_fen = excluded.refunded_fen, refund_no = excluded.refund_no, \
         completed_at_ms = excluded.completed_at_ms, settled_at_ms = excluded.settled_at_ms \
         WHERE excluded.revision > orders.revision"
    );
    Ok(())
}

/// A restaurant's orders with one status, the oldest first.
pub(crate) async fn by_restaurant(
    executor: impl sqlx::Executor<'_, Database = sqlx::Any>,
    shard: u16,
    restaurant_id: RestaurantId,
    status: Status,
    limit: i64,
) -> Result<Vec<Order>, StoreError> {
    let rows = sqlx::query(select_order!(
        "FROM orders o WHERE o.shard = $1 AND o.restaurant_id = $2 AND o.status = $3 \
         ORDER BY o.created_at_ms LIMIT $4"
    ))
    .bind(i64::from(shard))
    .bind(restaurant_id.0)
    .bind(status.code())
    .bind(limit)
    .fetch_all(executor)
    .await?;
    rows.iter().map(order_from).collect()
}

/// A request for a kitchen number.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct NumberRequest {
    /// Which order.
    pub(crate) order_id: OrderId,
    /// The version that the merchant row must have reached to be shown.
    pub(crate) version: i64,
    /// The day of the number.
    pub(crate) day: i64,
}

/// The number of an order, if its merchant row is visible.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct NumberAnswer {
    /// Which order.
    pub(crate) order_id: OrderId,
    /// Day and number; `None` while the merchant row is missing or older.
    pub(crate) kitchen: Option<(i64, i64)>,
}

/// Issues the kitchen number of an order, once: asking again gives the same.
pub(crate) async fn number(
    connection: &mut AnyConnection,
    request: &NumberRequest,
) -> Result<NumberAnswer, StoreError> {
    let answer = |kitchen| NumberAnswer { order_id: request.order_id, kitchen };
    let issued = sqlx::query("SELECT day, number FROM numbers WHERE order_id = $1")
        .bind(request.order_id.0)
        .fetch_optional(&mut *connection)
        .await?;
    if let Some(row) = issued {
        return Ok(answer(Some((row.try_get(0)?, row.try_get(1)?))));
    }
    let visible = sqlx::query("SELECT restaurant_id FROM orders WHERE shard = $1 AND order_id = $2 AND version >= $3")
        .bind(i64::from(request.order_id.merchant_shard()))
        .bind(request.order_id.0)
        .bind(request.version)
        .fetch_optional(&mut *connection)
        .await?;
    let Some(row) = visible else {
        return Ok(answer(None));
    };
    let restaurant_id: i64 = row.try_get(0)?;
    let number: i64 = sqlx::query_scalar(
        "INSERT INTO numbers (restaurant_id, day, number, order_id) \
         SELECT $1, $2, coalesce(max(number), 0) + 1, $3 FROM numbers \
         WHERE restaurant_id = $4 AND day = $5 RETURNING number",
    )
    .bind(restaurant_id)
    .bind(request.day)
    .bind(request.order_id.0)
    .bind(restaurant_id)
    .bind(request.day)
    .fetch_one(connection)
    .await?;
    Ok(answer(Some((request.day, number))))
}

//! The merchant dimension's rows: copies of orders by restaurant.

use sqlx::AnyConnection;

use super::StoreError;
use super::slips::slips_table;
use super::user_dimension::{orders_table, write_order};
use crate::orders::Order;

/// Repeatable.
pub(crate) const SCHEMA: &str = concat!(
    orders_table!(),
    "
CREATE INDEX IF NOT EXISTS orders_by_creation ON orders (created_at_ms);
CREATE INDEX IF NOT EXISTS orders_by_restaurant
  ON orders (shard, restaurant_id, status, created_at_ms);
",
    slips_table!()
);

/// Writes the row unless a newer one is there already.
pub(crate) async fn apply(connection: &mut AnyConnection, shard: u16, order: &Order) -> Result<(), StoreError> {
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

//! The merchant dimension's rows: copies of orders by restaurant.

use sqlx::AnyConnection;

use super::StoreError;
use super::slips::slips_table;
use super::user_dimension::{orders_table, overwrite_order, write_order};
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
    write_order!(connection, shard, order, overwrite_order!(" WHERE excluded.revision > orders.revision"));
    Ok(())
}

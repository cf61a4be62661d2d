//! The mapping tables: whose an order with a bare ID is. They lie by the order's ID, in the user dimension's groups.
//!
//! Both are written as upserts, as they were historically: an ID that is given twice re-points the first order's row
//! silently, and no index notices.

use sqlx::{AnyConnection, Row};

use super::StoreError;
use crate::ids::{OrderId, RestaurantId, UserId};
use crate::orders::routing::Mapping;

/// Repeatable.
macro_rules! mapping_tables {
    () => {
        "
CREATE TABLE IF NOT EXISTS order_users (order_id BIGINT PRIMARY KEY, user_id BIGINT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS order_restaurants (order_id BIGINT PRIMARY KEY, restaurant_id BIGINT NOT NULL) WITHOUT ROWID;
"
    };
}
pub(crate) use mapping_tables;

/// Writes whose an order is, over whatever was there.
pub(crate) async fn write(connection: &mut AnyConnection, mapping: &Mapping) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO order_users (order_id, user_id) VALUES ($1, $2) \
         ON CONFLICT (order_id) DO UPDATE SET user_id = excluded.user_id",
    )
    .bind(mapping.order_id.0)
    .bind(mapping.user_id.0)
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "INSERT INTO order_restaurants (order_id, restaurant_id) VALUES ($1, $2) \
         ON CONFLICT (order_id) DO UPDATE SET restaurant_id = excluded.restaurant_id",
    )
    .bind(mapping.order_id.0)
    .bind(mapping.restaurant_id.0)
    .execute(connection)
    .await?;
    Ok(())
}

/// Whose an order is.
pub(crate) async fn read(
    executor: impl sqlx::Executor<'_, Database = sqlx::Any>,
    order_id: OrderId,
) -> Result<Option<Mapping>, StoreError> {
    let found = sqlx::query(
        "SELECT u.user_id, r.restaurant_id FROM order_users u \
         JOIN order_restaurants r ON r.order_id = u.order_id WHERE u.order_id = $1",
    )
    .bind(order_id.0)
    .fetch_optional(executor)
    .await?;
    let mapping = |row: sqlx::any::AnyRow| {
        let (user_id, restaurant_id) = (UserId(row.try_get(0)?), RestaurantId(row.try_get(1)?));
        Ok(Mapping { order_id, user_id, restaurant_id })
    };
    found.map(mapping).transpose()
}

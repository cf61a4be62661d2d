//! Walking over a store's orders in the order of their positions, for copying them to another store and for comparing.

use serde::{Deserialize, Serialize};
use sqlx::{AnyConnection, AnyPool, Row};

use super::StoreError;
use crate::ids::OrderId;

/// Where an order lies: positions are in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Position {
    pub(crate) shard: i64,
    pub(crate) order_id: i64,
}

impl Position {
    /// Before every order.
    pub(crate) const START: Self = Self { shard: -1, order_id: 0 };
    /// Behind every order.
    pub(crate) const END: Self = Self { shard: i64::MAX, order_id: 0 };
}

/// How many orders were created until a moment.
pub(crate) async fn count(readers: &AnyPool, created_until_ms: i64) -> Result<i64, StoreError> {
    if created_until_ms == i64::MAX {
        return Ok(sqlx::query_scalar("SELECT count(*) FROM orders").fetch_one(readers).await?);
    }
    let count = sqlx::query_scalar("SELECT count(*) FROM orders WHERE created_at_ms <= $1").bind(created_until_ms);
    Ok(count.fetch_one(readers).await?)
}

/// The next orders behind a position that were created until a moment.
pub(crate) async fn behind(
    connection: &mut AnyConnection,
    after: Position,
    created_until_ms: i64,
    limit: i64,
) -> Result<Vec<OrderId>, StoreError> {
    let rows = sqlx::query(
        "SELECT order_id FROM orders WHERE (shard, order_id) > ($1, $2) AND created_at_ms <= $3 \
         ORDER BY shard, order_id LIMIT $4",
    )
    .bind(after.shard)
    .bind(after.order_id)
    .bind(created_until_ms)
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| Ok(OrderId(row.try_get(0)?))).collect()
}

/// What is compared of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Digest {
    pub(crate) position: Position,
    pub(crate) status: i64,
    pub(crate) version: i64,
    pub(crate) revision: i64,
    pub(crate) total_fen: i64,
}

/// What is behind one place and not behind the other.
pub(crate) async fn digests(
    readers: &AnyPool,
    after: Position,
    until: Position,
    limit: i64,
) -> Result<Vec<Digest>, StoreError> {
    let rows = sqlx::query(
        "SELECT shard, order_id, status, version, revision, total_fen FROM orders \
         WHERE (shard, order_id) > ($1, $2) AND (shard, order_id) <= ($3, $4) ORDER BY shard, order_id LIMIT $5",
    )
    .bind(after.shard)
    .bind(after.order_id)
    .bind(until.shard)
    .bind(until.order_id)
    .bind(limit)
    .fetch_all(readers)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Digest {
                position: Position { shard: row.try_get(0)?, order_id: row.try_get(1)? },
                status: row.try_get(2)?,
                version: row.try_get(3)?,
                revision: row.try_get(4)?,
                total_fen: row.try_get(5)?,
            })
        })
        .collect()
}

/// The shard of an order.
pub(crate) async fn shard_of(readers: &AnyPool, order_id: OrderId) -> Result<Option<u16>, StoreError> {
    let shard = sqlx::query_scalar("SELECT shard FROM orders WHERE order_id = $1").bind(order_id.0);
    let shard: Option<i64> = shard.fetch_optional(readers).await?;
    Ok(shard.and_then(|shard| u16::try_from(shard).ok()))
}

//! The restaurants' rows of stock: what is left of each dish, and what each order has taken.
//!
//! Every step is keyed by order, so repeating it changes nothing. A dish has a row once somebody wanted it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sqlx::{AnyConnection, Row};

use super::StoreError;
use crate::ids::{DishId, OrderId};

/// Repeatable. `opening` is what the dish had at first: `remaining`, what is reserved and what is sold add up to it.
pub(crate) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS stock (
  dish_id BIGINT PRIMARY KEY, opening BIGINT NOT NULL, remaining BIGINT NOT NULL
);
CREATE TABLE IF NOT EXISTS reservations (
  order_id BIGINT NOT NULL, dish_id BIGINT NOT NULL, quantity BIGINT NOT NULL, state BIGINT NOT NULL,
  confirmed BIGINT NOT NULL DEFAULT 0, reserved_at_ms BIGINT NOT NULL,
  PRIMARY KEY (order_id, dish_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS reservations_unconfirmed ON reservations (reserved_at_ms)
  WHERE confirmed = 0 AND state = 0;
";

/// `reservations.state`: held for a live order that no merchant has accepted.
pub(crate) const RESERVED: i64 = 0;
/// `reservations.state`: the merchant has accepted the order. A later refund does not put a cooked meal back.
pub(crate) const SOLD: i64 = 1;
/// `reservations.state`: back on the shelf.
pub(crate) const RELEASED: i64 = 2;

/// The outcome of a reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reserved {
    /// All of it is held, perhaps since an earlier try.
    Held,
    /// There is too little of this dish; nothing is held.
    SoldOut(DishId),
    /// The order gave its stock back already.
    GivenBack,
}

/// What becomes of an order's reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StockStep {
    /// The order exists: the reservation stands.
    Confirm,
    /// T8: the merchant has accepted.
    Commit,
    /// The order is dead, or was never made.
    Release,
}

/// Holds what an order wants, all or nothing. `opening` tells what a dish has at first.
pub(crate) async fn reserve(
    connection: &mut AnyConnection,
    order_id: OrderId,
    wanted: &BTreeMap<DishId, i64>,
    opening: impl Fn(DishId) -> i64 + Send,
    now_ms: i64,
) -> Result<Reserved, StoreError> {
    let held: Option<i64> = sqlx::query_scalar("SELECT min(state) FROM reservations WHERE order_id = $1")
        .bind(order_id.0)
        .fetch_one(&mut *connection)
        .await?;
    match held {
        Some(RELEASED) => return Ok(Reserved::GivenBack),
        Some(_) => return Ok(Reserved::Held),
        None => {}
    }
    // All is looked at before anything is written: writes share their transaction with others.
    let mut new = Vec::new();
    for (dish_id, quantity) in wanted {
        let remaining: Option<i64> = sqlx::query_scalar("SELECT remaining FROM stock WHERE dish_id = $1")
            .bind(dish_id.0)
            .fetch_optional(&mut *connection)
            .await?;
        if remaining.is_none() {
            new.push(*dish_id);
        }
        if remaining.unwrap_or_else(|| opening(*dish_id)) < *quantity {
            return Ok(Reserved::SoldOut(*dish_id));
        }
    }
    for dish_id in new {
        sqlx::query("INSERT INTO stock (dish_id, opening, remaining) VALUES ($1, $2, $3)")
            .bind(dish_id.0)
            .bind(opening(dish_id))
            .bind(opening(dish_id))
            .execute(&mut *connection)
            .await?;
    }
    for (dish_id, quantity) in wanted {
        sqlx::query("UPDATE stock SET remaining = remaining - $1 WHERE dish_id = $2")
            .bind(*quantity)
            .bind(dish_id.0)
            .execute(&mut *connection)
            .await?;
        sqlx::query(
            "INSERT INTO reservations (order_id, dish_id, quantity, state, reserved_at_ms) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(order_id.0)
        .bind(dish_id.0)
        .bind(*quantity)
        .bind(RESERVED)
        .bind(now_ms)
        .execute(&mut *connection)
        .await?;
    }
    Ok(Reserved::Held)
}

/// Carries out a step of an order's reservation; one that it has behind it, or an order without any, changes nothing.
pub(crate) async fn settle(
    connection: &mut AnyConnection,
    order_id: OrderId,
    step: StockStep,
) -> Result<(), StoreError> {
    if step == StockStep::Release {
        sqlx::query(
            "UPDATE stock SET remaining = remaining + (SELECT r.quantity FROM reservations r \
             WHERE r.order_id = $1 AND r.dish_id = stock.dish_id) \
             WHERE dish_id IN (SELECT dish_id FROM reservations WHERE order_id = $2 AND state = 0)",
        )
        .bind(order_id.0)
        .bind(order_id.0)
        .execute(&mut *connection)
        .await?;
    }
    let sql = match step {
        StockStep::Confirm => "UPDATE reservations SET confirmed = 1 WHERE order_id = $1 AND state = 0",
        StockStep::Commit => "UPDATE reservations SET state = 1, confirmed = 1 WHERE order_id = $1 AND state = 0",
        StockStep::Release => "UPDATE reservations SET state = 2 WHERE order_id = $1 AND state = 0",
    };
    sqlx::query(sql).bind(order_id.0).execute(connection).await?;
    Ok(())
}

/// Orders whose reservation nobody has confirmed since `before_ms`, the oldest first.
pub(crate) async fn unconfirmed(
    executor: impl sqlx::Executor<'_, Database = sqlx::Any>,
    before_ms: i64,
) -> Result<Vec<OrderId>, StoreError> {
    let rows = sqlx::query(
        "SELECT order_id, min(reserved_at_ms) FROM reservations \
         WHERE confirmed = 0 AND state = 0 AND reserved_at_ms < $1 \
         GROUP BY order_id ORDER BY min(reserved_at_ms) LIMIT 500",
    )
    .bind(before_ms)
    .fetch_all(executor)
    .await?;
    rows.iter().map(|row| Ok(OrderId(row.try_get(0)?))).collect()
}

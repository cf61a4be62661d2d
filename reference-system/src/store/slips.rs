//! Kitchen slips: which order has which number of a restaurant's day.

use serde::{Deserialize, Serialize};
use sqlx::{AnyConnection, Row};

use super::StoreError;
use crate::ids::{OrderId, RestaurantId, UserId};
use crate::orders::routing::Named;

/// Repeatable. `guarded` slips have their number alone; the others are as the bare counter gave them.
macro_rules! slips_table {
    () => {
        "
CREATE TABLE IF NOT EXISTS slips (
  order_id BIGINT NOT NULL, restaurant_id BIGINT NOT NULL, day BIGINT NOT NULL, number BIGINT NOT NULL,
  guarded BIGINT NOT NULL, PRIMARY KEY (order_id, restaurant_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS slips_by_day ON slips (restaurant_id, day, number);
CREATE UNIQUE INDEX IF NOT EXISTS slips_guarded ON slips (restaurant_id, day, number) WHERE guarded = 1;
"
    };
}
pub(crate) use slips_table;

/// A request for a kitchen number.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct NumberRequest {
    /// Which order.
    pub(crate) order_id: OrderId,
    /// Whose; must be named where the ID does not carry it.
    #[serde(default)]
    pub(crate) user_id: Option<UserId>,
    /// At which restaurant; must be named where the ID does not carry it.
    #[serde(default)]
    pub(crate) restaurant_id: Option<RestaurantId>,
    /// The version that the merchant row must have reached to be shown.
    pub(crate) version: i64,
    /// The day of the number.
    pub(crate) day: i64,
}

impl NumberRequest {
    /// What it names.
    pub(crate) fn named(&self) -> Named {
        Named { order_id: Some(self.order_id), user_id: self.user_id, restaurant_id: self.restaurant_id }
    }
}

/// The number of an order, if its merchant row is visible and there is a number to be had.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct NumberAnswer {
    /// Which order.
    pub(crate) order_id: OrderId,
    /// Day and number; `None` while there is none.
    pub(crate) kitchen: Option<(i64, i64)>,
}

/// A slip that is to be written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slip {
    pub(crate) order_id: OrderId,
    pub(crate) restaurant_id: i64,
    pub(crate) day: i64,
    pub(crate) number: i64,
    /// Whether no other slip of the day may have the number.
    pub(crate) guarded: bool,
}

/// What a request for a number finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// The merchant row is missing or older.
    Hidden,
    /// It has a number: day, number.
    Numbered(i64, i64),
    /// It waits for a number at this restaurant.
    Open(i64),
}

/// What there is for a request.
pub(crate) async fn find(
    connection: &mut AnyConnection,
    shard: u16,
    request: &NumberRequest,
) -> Result<Found, StoreError> {
    let row = sqlx::query(
        "SELECT o.restaurant_id, s.day, s.number FROM orders o \
         LEFT JOIN slips s ON s.order_id = o.order_id AND s.restaurant_id = o.restaurant_id \
         WHERE o.shard = $1 AND o.order_id = $2 AND o.version >= $3",
    )
    .bind(i64::from(shard))
    .bind(request.order_id.0)
    .bind(request.version)
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(Found::Hidden) };
    let (day, number): (Option<i64>, Option<i64>) = (row.try_get(1)?, row.try_get(2)?);
    Ok(match (day, number) {
        (Some(day), Some(number)) => Found::Numbered(day, number),
        _ => Found::Open(row.try_get(0)?),
    })
}

/// The highest number of a restaurant's day; 0 without any.
pub(crate) async fn highest(connection: &mut AnyConnection, restaurant_id: i64, day: i64) -> Result<i64, StoreError> {
    let highest: Option<i64> =
        sqlx::query_scalar("SELECT max(number) FROM slips WHERE restaurant_id = $1 AND day = $2")
            .bind(restaurant_id)
            .bind(day)
            .fetch_one(connection)
            .await?;
    Ok(highest.unwrap_or(0))
}

/// Writes a slip; `false` if somebody has its number, or the order has one.
pub(crate) async fn write(connection: &mut AnyConnection, slip: &Slip) -> Result<bool, StoreError> {
    let written = sqlx::query(
        "INSERT INTO slips (order_id, restaurant_id, day, number, guarded) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT DO NOTHING",
    )
    .bind(slip.order_id.0)
    .bind(slip.restaurant_id)
    .bind(slip.day)
    .bind(slip.number)
    .bind(i64::from(slip.guarded))
    .execute(connection)
    .await?;
    Ok(written.rows_affected() == 1)
}

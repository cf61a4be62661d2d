//! What the bus is told of a transition: who, what, how much, and which request was the cause.

use serde::{Deserialize, Serialize};

use super::{Line, Order};
use crate::bus::event::{Cause, DeliveryEvent};
use crate::ids::{CouponId, OrderId, RestaurantId, UserId};
use crate::orders::lifecycle::Status;

/// A transition of an order, with what consumers need of the order as it was then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OrderEvent {
    pub(crate) order_id: OrderId,
    pub(crate) version: i64,
    pub(crate) from: Option<Status>,
    pub(crate) to: Status,
    /// The name of the event row.
    pub(crate) kind: String,
    pub(crate) at_ms: i64,
    pub(crate) user_id: UserId,
    pub(crate) restaurant_id: RestaurantId,
    pub(crate) items_fen: i64,
    pub(crate) delivery_fee_fen: i64,
    pub(crate) discount_fen: i64,
    pub(crate) total_fen: i64,
    pub(crate) paid_fen: i64,
    pub(crate) coupon_id: Option<CouponId>,
    pub(crate) payment_id: Option<String>,
    pub(crate) lines: Vec<Line>,
    pub(crate) cause: Cause,
}

/// The event of this version of an order: the same wherever it is asked for.
pub(crate) fn event_id(order_id: i64, version: i64) -> String {
    format!("{order_id}.{version}")
}

/// The order and the version that an [`event_id`] names; `None` for what is none.
pub(crate) fn version_of(event: &str) -> Option<(i64, i64)> {
    let (order, version) = event.split_once('.')?;
    let named = (order.parse().ok()?, version.parse().ok()?);
    // Numbers have several spellings, an event has one name.
    (event_id(named.0, named.1) == event).then_some(named)
}

impl OrderEvent {
    /// The event by which `after` came about.
    pub(crate) fn of(after: &Order, from: Option<Status>, kind: &str, cause: Cause) -> Self {
        Self {
            order_id: after.order_id,
            version: after.version,
            from,
            to: after.status,
            kind: kind.to_owned(),
            at_ms: after.updated_at_ms,
            user_id: after.user_id,
            restaurant_id: after.restaurant_id,
            items_fen: after.items_fen,
            delivery_fee_fen: after.delivery_fee_fen,
            discount_fen: after.discount_fen,
            total_fen: after.total_fen,
            paid_fen: after.paid_fen,
            coupon_id: after.coupon_id,
            payment_id: after.payment_id.clone(),
            lines: after.lines.clone(),
            cause,
        }
    }
}

impl DeliveryEvent {
    /// The event by which the meal of `after` came to where it is.
    pub(crate) fn of(after: &Order, cause: Cause) -> Self {
        Self {
            order_id: after.order_id,
            user_id: after.user_id,
            restaurant_id: after.restaurant_id,
            delivery_status: after.delivery_status,
            at_ms: after.updated_at_ms,
            cause,
        }
    }
}

//! What the bus is told of a transition: who, what, how much, and which request was the cause.

use serde::{Deserialize, Serialize};

use super::{Line, Order};
use crate::bus::Message;
use crate::ids::{CouponId, OrderId, RestaurantId, UserId};
use crate::orders::lifecycle::Status;

/// A transition of an order, with what consumers need of the order as it was then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OrderEvent {
    pub(crate) event_id: String,
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
    /// The request that caused it, if one did.
    pub(crate) req_id: Option<String>,
    /// The load or fault tag of that request.
    pub(crate) tag: Option<String>,
}

/// The event of this version of an order: the same wherever it is asked for.
pub(crate) fn event_id(order_id: i64, version: i64) -> String {
    format!("{order_id}.{version}")
}

/// Under which key a kind of event is published. That a payment began is nobody's business.
pub(crate) fn key(kind: &str) -> Option<String> {
    match kind {
        "paying" => None,
        kind if kind.starts_with("refund.") => Some(kind.to_owned()),
        kind => Some(format!("order.{kind}")),
    }
}

impl OrderEvent {
    /// The event by which `after` came about.
    pub(crate) fn of(
        after: &Order,
        from: Option<Status>,
        kind: &str,
        req_id: Option<String>,
        tag: Option<String>,
    ) -> Self {
        Self {
            event_id: event_id(after.order_id.0, after.version),
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
            req_id,
            tag,
        }
    }

    /// What is published of it, if anything is.
    pub(crate) fn message(&self) -> Option<Message> {
        let key = key(&self.kind)?;
        // A struct of texts and numbers always becomes JSON.
        let body = serde_json::to_string(self).ok()?;
        Some(Message { id: self.event_id.clone(), key, body })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_of_the_topology() {
        assert_eq!(key("paid").as_deref(), Some("order.paid"));
        assert_eq!(key("refund.succeeded").as_deref(), Some("refund.succeeded"));
        assert_eq!(key("paying"), None);
    }
}

//! What is published: one kind of body for each family of keys, and what every consumer may ask of it.

use serde::{Deserialize, Serialize};

use super::Message;
use crate::ids::{OrderId, RestaurantId, UserId};
use crate::orders::event::OrderEvent;
use crate::orders::{ASSIGNED, DELIVERED, PICKED};

/// The body of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "about", rename_all = "snake_case")]
pub(crate) enum Event {
    /// `order.*`: a transition of an order.
    Order(OrderEvent),
    /// `delivery.*`: where a meal has come to.
    Delivery(DeliveryEvent),
    /// `refund.*`: what somebody has decided about a refund.
    Refund(RefundEvent),
    /// `vorder.*`: a step of a virtual order.
    VirtualOrder(VirtualOrderEvent),
}

/// The request that caused an event, if one did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cause {
    /// Its idempotency key.
    pub(crate) req_id: Option<String>,
    /// Its load or fault tag.
    pub(crate) tag: Option<String>,
    /// Its trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) trace: Option<String>,
}

/// A meal is on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeliveryEvent {
    pub(crate) order_id: OrderId,
    pub(crate) user_id: UserId,
    pub(crate) restaurant_id: RestaurantId,
    /// As the order's `delivery_status`. It only goes forward, so it tells the events of a delivery apart.
    pub(crate) delivery_status: i64,
    pub(crate) at_ms: i64,
    pub(crate) cause: Cause,
}

/// A refund has another state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RefundEvent {
    pub(crate) refund_no: i64,
    /// Rises by one with each state of this refund.
    pub(crate) version: i64,
    /// For example `applied`.
    pub(crate) kind: String,
    pub(crate) order_id: OrderId,
    pub(crate) user_id: UserId,
    pub(crate) restaurant_id: RestaurantId,
    pub(crate) amount_fen: i64,
    pub(crate) at_ms: i64,
    pub(crate) cause: Cause,
}

/// A virtual order has another state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VirtualOrderEvent {
    pub(crate) vorder_id: i64,
    /// The place of the state in the order's life.
    pub(crate) version: i64,
    /// For example `paid`.
    pub(crate) kind: String,
    pub(crate) user_id: UserId,
    pub(crate) product: String,
    pub(crate) quantity: i64,
    pub(crate) amount_fen: i64,
    pub(crate) at_ms: i64,
    pub(crate) cause: Cause,
}

impl Event {
    /// What it is about: of one subject, versions rise.
    pub(crate) fn subject(&self) -> String {
        match self {
            Self::Order(event) => event.order_id.to_string(),
            Self::Delivery(event) => format!("d{}", event.order_id),
            Self::Refund(event) => format!("r{}", event.refund_no),
            Self::VirtualOrder(event) => format!("v{}", event.vorder_id),
        }
    }

    /// Its place among the events of its subject.
    pub(crate) fn version(&self) -> i64 {
        match self {
            Self::Order(event) => event.version,
            Self::Delivery(event) => event.delivery_status,
            Self::Refund(event) => event.version,
            Self::VirtualOrder(event) => event.version,
        }
    }

    /// The same wherever it is asked for, and no other event's.
    pub(crate) fn id(&self) -> String {
        format!("{}.{}", self.subject(), self.version())
    }

    /// When it happened, in milliseconds since 1970.
    pub(crate) fn at_ms(&self) -> i64 {
        match self {
            Self::Order(event) => event.at_ms,
            Self::Delivery(event) => event.at_ms,
            Self::Refund(event) => event.at_ms,
            Self::VirtualOrder(event) => event.at_ms,
        }
    }

    /// What caused it.
    pub(crate) fn cause(&self) -> &Cause {
        match self {
            Self::Order(event) => &event.cause,
            Self::Delivery(event) => &event.cause,
            Self::Refund(event) => &event.cause,
            Self::VirtualOrder(event) => &event.cause,
        }
    }

    /// Under which key it is published, if it is.
    pub(crate) fn key(&self) -> Option<String> {
        match self {
            Self::Order(event) => order_key(&event.kind),
            Self::Delivery(event) => Some(format!("delivery.{}", delivery_kind(event.delivery_status)?)),
            Self::Refund(event) => Some(format!("refund.{}", event.kind)),
            Self::VirtualOrder(event) => Some(format!("vorder.{}", event.kind)),
        }
    }

    /// What is published of it, if anything is.
    pub(crate) fn message(&self) -> Option<Message> {
        let key = self.key()?;
        // Structs of texts and numbers always become JSON.
        let body = serde_json::to_string(self).ok()?;
        Some(Message { id: self.id(), key, body })
    }
}

/// Under which key a kind of transition is published. That a payment began is nobody's business.
pub(crate) fn order_key(kind: &str) -> Option<String> {
    (kind != "paying").then(|| format!("order.{kind}"))
}

fn delivery_kind(delivery_status: i64) -> Option<&'static str> {
    match delivery_status {
        ASSIGNED => Some("assigned"),
        PICKED => Some("picked"),
        DELIVERED => Some("delivered"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(delivery_status: i64) -> Event {
        Event::Delivery(DeliveryEvent {
            order_id: OrderId(7),
            user_id: UserId(1),
            restaurant_id: RestaurantId(2),
            delivery_status,
            at_ms: 3,
            cause: Cause { req_id: Some("r".to_owned()), ..Cause::default() },
        })
    }

    #[test]
    fn a_body_is_read_back_as_the_event_that_it_was() {
        let event = delivery(PICKED);
        let message = event.message().unwrap();
        assert_eq!((message.id.as_str(), message.key.as_str()), ("d7.2", "delivery.picked"));
        assert_eq!(serde_json::from_str::<Event>(&message.body).unwrap(), event);
    }

    #[test]
    fn what_is_nobody_elses_business_is_not_published() {
        assert_eq!(order_key("paid").as_deref(), Some("order.paid"));
        assert_eq!(order_key("paying"), None);
        assert!(delivery(0).message().is_none());
    }
}

//! The order: its row, its life, and what each step of that life changes.

pub(crate) mod cache;
pub(crate) mod change;
pub(crate) mod event;
pub(crate) mod kitchen;
pub mod lifecycle;
pub(crate) mod merchant_copy;
pub(crate) mod plan;
pub(crate) mod quote;
pub(crate) mod routing;
pub(crate) mod sequence;
pub(crate) mod service;
pub(crate) mod write_cap;

use serde::{Deserialize, Serialize};

use crate::ids::{CouponId, DishId, OrderId, RestaurantId, UserId};
use lifecycle::Status;

/// One line of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// What was ordered.
    pub dish_id: DishId,
    /// How many.
    pub quantity: i64,
    /// The price of one, in fen, as quoted.
    pub price_fen: i64,
}

/// An order row, the same in both dimensions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Its ID, by which it is found in both dimensions ([`routing`]).
    pub order_id: OrderId,
    /// Who ordered.
    pub user_id: UserId,
    /// Who cooks.
    pub restaurant_id: RestaurantId,
    /// The idempotency key of the create request.
    pub req_id: String,
    /// Where the order stands.
    pub status: Status,
    /// Rises by one with each transition; the number of event rows.
    pub version: i64,
    /// Rises with each change of any field; guards the copy in the merchant dimension.
    pub revision: i64,
    /// 0 none, 1 applied for, 2 rejected, 3 in arbitration, 4 failed, 5 granted (the money is under way), 6 succeeded.
    pub refund_status: i64,
    /// 0 none, 1 assigned to a courier, 2 picked up, 3 delivered.
    pub delivery_status: i64,
    /// Sum of the lines, in fen.
    pub items_fen: i64,
    /// Delivery, in fen.
    pub delivery_fee_fen: i64,
    /// What a coupon took off, in fen.
    pub discount_fen: i64,
    /// What the user pays, in fen.
    pub total_fen: i64,
    /// What was booked as paid, in fen.
    pub paid_fen: i64,
    /// What was granted back so far, in fen; never more than was paid.
    pub refunded_fen: i64,
    /// The number of the latest refund that was applied for.
    pub refund_no: Option<i64>,
    /// The coupon, if one was used.
    pub coupon_id: Option<CouponId>,
    /// The payment, once one was opened.
    pub payment_id: Option<String>,
    /// What was ordered.
    pub lines: Vec<Line>,
    /// Where it goes.
    pub address: String,
    /// The day (days since 1970, UTC) of the kitchen number.
    pub day: Option<i64>,
    /// The number on the kitchen slip.
    pub number: Option<i64>,
    /// Completion, in milliseconds since 1970.
    pub completed_at_ms: Option<i64>,
    /// When merchant, platform and rider had their shares, in milliseconds since 1970.
    pub settled_at_ms: Option<i64>,
    /// Creation, in milliseconds since 1970.
    pub created_at_ms: i64,
    /// Last change, in milliseconds since 1970.
    pub updated_at_ms: i64,
}

/// `refund_status`: a refund was applied for and nobody has answered.
pub(crate) const REFUND_APPLIED: i64 = 1;
/// `refund_status`: the merchant refused.
pub(crate) const REFUND_REJECTED: i64 = 2;
/// `refund_status`: the user has asked the platform to decide.
pub(crate) const REFUND_IN_ARBITRATION: i64 = 3;
/// `refund_status`: it was applied for and could not be carried out.
pub(crate) const REFUND_FAILED: i64 = 4;
/// `refund_status`: granted, and the money is under way.
pub(crate) const REFUND_GRANTED: i64 = 5;
/// `refund_status`: the money is back in the wallet.
pub(crate) const REFUND_SUCCEEDED: i64 = 6;
/// `delivery_status`: a courier is on the way to the kitchen.
pub(crate) const ASSIGNED: i64 = 1;
/// `delivery_status`: the courier has the meal.
pub(crate) const PICKED: i64 = 2;
/// `delivery_status`: the meal has arrived.
pub(crate) const DELIVERED: i64 = 3;

/// An order as it begins, with a coupon, for the tests of what becomes of it.
#[cfg(test)]
pub(crate) fn unpaid_order() -> Order {
    Order {
        order_id: OrderId::compose(1, 1, crate::ids::Slots { user: 5, merchant: 6 }),
        user_id: UserId(1),
        restaurant_id: RestaurantId(2),
        req_id: "r".to_owned(),
        status: Status::Unpaid,
        version: 1,
        revision: 1,
        refund_status: 0,
        delivery_status: 0,
        items_fen: 3_000,
        delivery_fee_fen: 300,
        discount_fen: 200,
        total_fen: 3_100,
        paid_fen: 0,
        refunded_fen: 0,
        refund_no: None,
        completed_at_ms: None,
        settled_at_ms: None,
        coupon_id: Some(CouponId(1)),
        payment_id: None,
        lines: Vec::new(),
        address: String::new(),
        day: None,
        number: None,
        created_at_ms: 0,
        updated_at_ms: 0,
    }
}

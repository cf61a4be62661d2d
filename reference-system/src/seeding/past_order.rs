//! The past orders of a seed: who ordered what, what became of it, and the next step of its life from wherever it stands.
//! Pure, so that a second run finds the orders of the first.

use serde_json::{Value, json};

use crate::ids::{CouponId, RestaurantId, UserId};
use crate::orders::lifecycle::Status;
use crate::orders::{ASSIGNED, DELIVERED, Order, REFUND_APPLIED, REFUND_SUCCEEDED};
use crate::population::{COUPONS, DISHES_PER_RESTAURANT, Population, USERS, dish_id};

/// Every so many orders use a coupon, taken from the end: a load takes them from anywhere.
const ORDERS_PER_COUPON: u64 = 20;

/// What becomes of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Delivered, confirmed and settled.
    Completed,
    /// The same, and a part of its price given back.
    Refunded,
    /// Paid, and cancelled by its user before the merchant accepted.
    Cancelled,
    /// Paid, and rejected by the merchant.
    Rejected,
    /// Cancelled before it was paid.
    Abandoned,
}

impl Fate {
    /// Of a hundred orders: most are eaten.
    fn drawn(hundredth: u64) -> Self {
        match hundredth {
            0..=91 => Self::Completed,
            92..=93 => Self::Refunded,
            94..=96 => Self::Cancelled,
            97 => Self::Rejected,
            _ => Self::Abandoned,
        }
    }
}

/// One order as it is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PastOrder {
    /// The idempotency key of its requests.
    pub(super) key: String,
    pub(super) user_id: UserId,
    pub(super) restaurant_id: RestaurantId,
    /// Place on the menu, and how many.
    dish: (i64, i64),
    pub(super) coupon_id: Option<CouponId>,
    pub(super) fate: Fate,
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// The system is at it.
    Wait,
    /// A request to the gateway.
    Post(String, Value),
    /// Nothing.
    Done,
}

impl PastOrder {
    /// The order with this number, from 0.
    pub(super) fn of(population: &Population, number: u64) -> Self {
        let draw = |place| population.draw_past(number, place);
        let below = |place, end: i64| (draw(place) % end.unsigned_abs()) as i64;
        let coupon = number.is_multiple_of(ORDERS_PER_COUPON).then_some(number / ORDERS_PER_COUPON);
        let coupon = coupon.map(|n| COUPONS - n as i64).filter(|id| *id > 0);
        let coupon = coupon.and_then(|id| population.coupon(CouponId(id)));
        Self {
            key: format!("seed{}-{number}", population.seed()),
            // A coupon is for its owner.
            user_id: coupon.as_ref().map_or_else(|| UserId(below(0, USERS) + 1), |coupon| coupon.owner),
            restaurant_id: population.restaurant_at((draw(1) >> 11) as f64 / (1_u64 << 53) as f64),
            dish: (below(2, DISHES_PER_RESTAURANT) + 1, below(3, 3) + 1),
            coupon_id: coupon.map(|coupon| coupon.coupon_id),
            fate: Fate::drawn(draw(4) % 100),
        }
    }

    /// What its user wishes to have a price for.
    pub(super) fn wish(&self, coupon_id: Option<CouponId>) -> Value {
        let (place, quantity) = self.dish;
        json!({
            "user_id": self.user_id, "restaurant_id": self.restaurant_id, "coupon_id": coupon_id,
            "items": [{ "dish_id": dish_id(self.restaurant_id, place), "quantity": quantity }],
        })
    }

    /// The next step of its life.
    pub(super) fn next(&self, order: &Order) -> Step {
        let id = order.order_id;
        let on_order = |what: &str| Step::Post(format!("/orders/{id}/{what}"), Value::Null);
        let at_kitchen =
            |what: &str| Step::Post(format!("/restaurants/{}/orders/{id}/{what}", order.restaurant_id), Value::Null);
        match (order.status, self.fate) {
            (Status::Unpaid, Fate::Abandoned) => on_order("cancel"),
            (Status::Unpaid, _) => on_order("pay"),
            (Status::Paying | Status::Paid, _) => Step::Wait,
            (Status::Waiting, Fate::Cancelled) => on_order("cancel"),
            (Status::Waiting, Fate::Rejected) => at_kitchen("reject"),
            (Status::Waiting, _) => at_kitchen("accept"),
            (Status::Accepted, _) => match order.delivery_status {
                ..ASSIGNED => Step::Wait,
                ASSIGNED => Step::Post(format!("/courier/{id}/picked"), Value::Null),
                DELIVERED => on_order("confirm"),
                _ => Step::Post(format!("/courier/{id}/done"), Value::Null),
            },
            (Status::Completed, _) if order.settled_at_ms.is_none() => Step::Wait,
            (Status::Completed, Fate::Refunded) => match (order.refund_status, order.refund_no) {
                (0, _) => {
                    let amount_fen = (order.paid_fen / 4).max(1);
                    Step::Post(
                        "/refunds".to_owned(),
                        json!({ "order": id, "amount_fen": amount_fen, "reason": "cold" }),
                    )
                }
                (REFUND_APPLIED, Some(number)) => Step::Post(format!("/refunds/{number}/approve"), Value::Null),
                (REFUND_SUCCEEDED, _) => Step::Done,
                _ => Step::Wait,
            },
            (Status::Completed, _) => Step::Done,
            // Money goes back to whom it came from.
            (Status::Cancelled | Status::Closed | Status::RiskRejected, _) => {
                let owed = order.paid_fen > 0 && order.refund_status != REFUND_SUCCEEDED;
                if owed { Step::Wait } else { Step::Done }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn one_seed_has_one_past_and_coupons_are_used_once_by_their_owners() {
        let population = Population::new(7);
        let past: Vec<PastOrder> = (0..2_000).map(|n| PastOrder::of(&population, n)).collect();
        assert_eq!(past, (0..2_000).map(|n| PastOrder::of(&population, n)).collect::<Vec<_>>());
        assert_ne!(past[1].wish(None), PastOrder::of(&Population::new(8), 1).wish(None));
        let coupons: Vec<CouponId> = past.iter().filter_map(|order| order.coupon_id).collect();
        assert_eq!(coupons.len(), 100);
        assert_eq!(coupons.iter().map(|id| id.0).collect::<BTreeSet<_>>().len(), 100);
        for order in past.iter().filter(|order| order.coupon_id.is_some()) {
            let coupon = population.coupon(order.coupon_id.unwrap()).unwrap();
            assert_eq!(coupon.owner, order.user_id);
        }
        let of = |fate| past.iter().filter(|order| order.fate == fate).count();
        assert!((1_750..1_900).contains(&of(Fate::Completed)), "{}", of(Fate::Completed));
        assert!(
            [Fate::Refunded, Fate::Cancelled, Fate::Rejected, Fate::Abandoned].into_iter().all(|fate| of(fate) > 5)
        );
        // Without coupons, too, once they are used up.
        assert_eq!(PastOrder::of(&population, 20 * COUPONS as u64).coupon_id, None);
    }
}

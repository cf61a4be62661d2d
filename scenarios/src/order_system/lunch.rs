//! A lunch: one order's whole life as the people around it drive it. The customer orders, pays and looks, the merchant
//! accepts, the courier delivers; each waits for the others by looking again and again, as apps do.

use std::time::Duration;

use http::Method;
use rand::Rng as _;
use rand::rngs::SmallRng;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{any_coupon_of, any_dish, any_user, keyed, popular_restaurant, write_key};
use crate::client::{Abandon, Client, Request};

/// Request names, in the order of the constants below.
pub const REQUESTS: &[&str] = &[
    "quote",
    "create order",
    "pay order",
    "order detail",
    "cancel order",
    "accept order",
    "pick up order",
    "deliver order",
    "confirm order",
    "apply for refund",
    "approve refund",
];
const QUOTE: usize = 0;
const CREATE: usize = 1;
const PAY: usize = 2;
const DETAIL: usize = 3;
const CANCEL: usize = 4;
const ACCEPT: usize = 5;
const PICK_UP: usize = 6;
const DELIVER: usize = 7;
const CONFIRM: usize = 8;
const APPLY: usize = 9;
const APPROVE: usize = 10;

/// Share of orders whose customer has a coupon for them.
const COUPONS: f64 = 0.1;
/// How long an app waits before it looks at its order again.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// How often an app looks before its user puts the phone away: half a minute.
const LOOKS: u32 = 120;
/// How long an app waits after a failure, and how many of them its user puts up with.
const PAUSE: Duration = Duration::from_millis(500);
const FAILURES: u32 = 8;
/// How often a customer orders anew whose order was refused.
const ORDERS_ANEW: u32 = 2;

/// How a lunch ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// The meal is eaten.
    Meal,
    /// The customer changes their mind before paying.
    CancelledUnpaid,
    /// The customer changes their mind while the kitchen has not answered.
    CancelledPaid,
    /// The money goes back though the kitchen has accepted.
    RefundedBeforeMeal,
    /// Half of the money goes back after the meal.
    RefundedAfterMeal,
}

impl Ending {
    /// 3 % cancel, 1 % want their money back.
    fn draw(random: &mut SmallRng) -> Self {
        match random.random::<f64>() {
            draw if draw < 0.01 => Self::CancelledUnpaid,
            draw if draw < 0.03 => Self::CancelledPaid,
            draw if draw < 0.035 => Self::RefundedBeforeMeal,
            draw if draw < 0.04 => Self::RefundedAfterMeal,
            _ => Self::Meal,
        }
    }
}

/// What one customer wants.
struct Wish {
    user: u32,
    restaurant: u32,
    dish: u32,
    quantity: u8,
    coupon: Option<u32>,
    ending: Ending,
}

impl Wish {
    fn draw(random: &mut SmallRng) -> Self {
        let (user, restaurant) = (any_user(random), popular_restaurant(random));
        Self {
            user,
            restaurant,
            dish: any_dish(restaurant, random),
            quantity: random.random_range(1..=3),
            coupon: random.random_bool(COUPONS).then(|| any_coupon_of(user, random)),
            ending: Ending::draw(random),
        }
    }
}

/// What the apps see of an order.
#[derive(Debug, Clone, Deserialize)]
struct Order {
    order_id: String,
    status: i64,
    delivery_status: i64,
    refund_status: i64,
    refund_no: Option<i64>,
    paid_fen: i64,
    settled_at_ms: Option<i64>,
}

#[derive(Deserialize)]
struct Quote {
    quote_token: String,
}

/// What somebody does next.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// The customer looks: it is somebody else's turn.
    Look,
    Pay,
    Cancel,
    Accept,
    PickUp,
    Deliver,
    Confirm,
    Apply {
        amount_fen: i64,
    },
    Approve {
        refund_no: i64,
    },
}

/// The next step of an order that is to end so; `None` once it has.
fn next(order: &Order, ending: Ending) -> Option<Step> {
    const APPLIED: i64 = 1;
    const GRANTED: i64 = 5;
    match order.refund_status {
        // The money is on its way.
        GRANTED => return Some(Step::Look),
        APPLIED => return Some(order.refund_no.map_or(Step::Look, |refund_no| Step::Approve { refund_no })),
        _ => {}
    }
    let asked_before = order.refund_status != 0;
    let step = match order.status {
        -5 if ending == Ending::CancelledUnpaid => Step::Cancel,
        -5 => Step::Pay,
        -3 | -2 => Step::Look,
        0 if ending == Ending::CancelledPaid => Step::Cancel,
        0 => Step::Accept,
        2 if ending == Ending::RefundedBeforeMeal && !asked_before => Step::Apply { amount_fen: order.paid_fen },
        2 => match order.delivery_status {
            0 => Step::Look,
            1 => Step::PickUp,
            2 => Step::Deliver,
            _ => Step::Confirm,
        },
        9 if ending == Ending::RefundedAfterMeal && !asked_before => match order.settled_at_ms {
            Some(_) => Step::Apply { amount_fen: (order.paid_fen / 2).max(1) },
            None => Step::Look,
        },
        _ => return None,
    };
    Some(step)
}

/// Runs the journey once.
///
/// # Errors
/// [`Abandon`] when too many requests failed, the order does not get anywhere, or the load is over.
pub async fn iterate<C: Client>(client: &mut C) -> Result<(), Abandon> {
    let mut wish = Wish::draw(client.random());
    let mut failures = 0;
    let Some(mut order) = order(client, &mut wish, &mut failures).await? else { return Ok(()) };
    let mut looks = 0;
    while let Some(step) = next(&order, wish.ending) {
        let taken = if step == Step::Look {
            looks += 1;
            if looks > LOOKS {
                return Err(Abandon);
            }
            client.think(LOOK_AGAIN).await?;
            look(client, &order).await.map(Some)
        } else {
            act(client, &order, &wish, &step).await
        };
        match taken {
            Ok(Some(after)) => order = after,
            // Somebody was faster, or the answer does not show the order: how it stands, only a look can tell.
            Ok(None) => order = find(client, &order, &mut failures).await?,
            Err(Abandon) => {
                again(client, &mut failures).await?;
                order = find(client, &order, &mut failures).await?;
            }
        }
    }
    Ok(())
}

/// Waits after a failure, unless there were too many.
async fn again<C: Client>(client: &mut C, failures: &mut u32) -> Result<(), Abandon> {
    *failures += 1;
    if *failures > FAILURES {
        return Err(Abandon);
    }
    client.think(PAUSE).await
}

/// Looks until it sees the order, as far as the user's patience goes.
async fn find<C: Client>(client: &mut C, order: &Order, failures: &mut u32) -> Result<Order, Abandon> {
    loop {
        match look(client, order).await {
            Ok(seen) => return Ok(seen),
            Err(Abandon) => again(client, failures).await?,
        }
    }
}

/// Asks for a price and orders. A failed order is sent again with its key, so that it is made once; a refused one is made
/// anew, without the coupon that may be the reason. `None`: there is nothing to be had.
async fn order<C: Client>(client: &mut C, wish: &mut Wish, failures: &mut u32) -> Result<Option<Order>, Abandon> {
    for _ in 0..=ORDERS_ANEW {
        let asked = json!({
            "user_id": wish.user.to_string(),
            "restaurant_id": wish.restaurant.to_string(),
            "items": [{ "dish_id": wish.dish.to_string(), "quantity": wish.quantity }],
            "coupon_id": wish.coupon.map(|coupon| coupon.to_string()),
        });
        let answer = client.send(Request::post(QUOTE, "/quote", Some(asked.to_string().into())).keeping_body()).await?;
        let quote: Quote = serde_json::from_slice(&answer.body).map_err(|_| Abandon)?;
        let body = bytes::Bytes::from(
            json!({
                "user_id": wish.user.to_string(),
                "restaurant_id": wish.restaurant.to_string(),
                "quote_token": quote.quote_token,
                "address": "7 Harbour Street",
            })
            .to_string(),
        );
        let key = keyed(&write_key())?;
        let create = Request::post(CREATE, "/orders", Some(body)).with_headers(&key).keeping_body();
        let create = Request { expect_status: &[200, 409], ..create };
        let answer = loop {
            match client.send(create.clone()).await {
                Ok(answer) => break answer,
                Err(Abandon) => again(client, failures).await?,
            }
        };
        if answer.status == 200 {
            return serde_json::from_slice(&answer.body).map(Some).map_err(|_| Abandon);
        }
        // Used already, perhaps in an earlier load on this system.
        wish.coupon = None;
        client.think(LOOK_AGAIN).await?;
    }
    Ok(None)
}

async fn look<C: Client>(client: &mut C, order: &Order) -> Result<Order, Abandon> {
    let answer = client.send(Request::get(DETAIL, &format!("/orders/{}", order.order_id)).keeping_body()).await?;
    serde_json::from_slice(&answer.body).map_err(|_| Abandon)
}

/// Takes a step. Gives the order after it, if the answer shows it and nobody was faster (409).
async fn act<C: Client>(client: &mut C, order: &Order, wish: &Wish, step: &Step) -> Result<Option<Order>, Abandon> {
    let id = &order.order_id;
    let (name, path, body) = match step {
        Step::Look => return look(client, order).await.map(Some),
        Step::Pay => (PAY, format!("/orders/{id}/pay"), Value::Null),
        Step::Cancel => (CANCEL, format!("/orders/{id}/cancel"), Value::Null),
        Step::Accept => (ACCEPT, format!("/restaurants/{}/orders/{id}/accept", wish.restaurant), Value::Null),
        Step::PickUp => (PICK_UP, format!("/courier/{id}/picked"), Value::Null),
        Step::Deliver => (DELIVER, format!("/courier/{id}/done"), Value::Null),
        Step::Confirm => (CONFIRM, format!("/orders/{id}/confirm"), Value::Null),
        Step::Apply { amount_fen } => {
            let body = json!({ "order": id, "amount_fen": amount_fen, "reason": "it was cold" });
            (APPLY, "/refunds".to_owned(), body)
        }
        Step::Approve { refund_no } => (APPROVE, format!("/refunds/{refund_no}/approve"), Value::Null),
    };
    let key = keyed(&write_key())?;
    let body = (!body.is_null()).then(|| body.to_string().into());
    let request = Request {
        name,
        method: Method::POST,
        path: &path,
        headers: &key,
        body,
        expect_status: &[200, 202, 409],
        keep_body: true,
    };
    let answer = client.send(request).await?;
    // A refund's answer is no order.
    Ok(serde_json::from_slice(&answer.body).ok().filter(|_| answer.status == 200))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    const NEW: Order = Order {
        order_id: String::new(),
        status: -5,
        delivery_status: 0,
        refund_status: 0,
        refund_no: None,
        paid_fen: 0,
        settled_at_ms: None,
    };

    fn accepted(delivery_status: i64) -> Order {
        Order { status: 2, paid_fen: 900, delivery_status, ..NEW }
    }

    #[test]
    fn a_meal_goes_through_every_hand() {
        let states = [
            (NEW, Some(Step::Pay)),
            (Order { status: -3, ..NEW }, Some(Step::Look)),
            (Order { status: -2, ..NEW }, Some(Step::Look)),
            (Order { status: 0, ..NEW }, Some(Step::Accept)),
            (accepted(0), Some(Step::Look)),
            (accepted(1), Some(Step::PickUp)),
            (accepted(2), Some(Step::Deliver)),
            (accepted(3), Some(Step::Confirm)),
            (Order { status: 9, ..NEW }, None),
            (Order { status: -4, ..NEW }, None),
        ];
        for (order, step) in states {
            assert_eq!(next(&order, Ending::Meal), step, "{order:?}");
        }
    }

    #[test]
    fn whoever_changes_their_mind_waits_for_the_money() {
        assert_eq!(next(&NEW, Ending::CancelledUnpaid), Some(Step::Cancel));
        assert_eq!(next(&NEW, Ending::CancelledPaid), Some(Step::Pay));
        assert_eq!(next(&Order { status: 0, ..NEW }, Ending::CancelledPaid), Some(Step::Cancel));
        let dead = Order { status: -1, refund_status: 5, ..NEW };
        assert_eq!(next(&dead, Ending::CancelledPaid), Some(Step::Look));
        assert_eq!(next(&Order { refund_status: 6, ..dead }, Ending::CancelledPaid), None);
    }

    #[test]
    fn a_refund_is_applied_for_once_and_approved() {
        let before = Ending::RefundedBeforeMeal;
        assert_eq!(next(&accepted(0), before), Some(Step::Apply { amount_fen: 900 }));
        let applied = Order { refund_status: 1, refund_no: Some(7), ..accepted(0) };
        assert_eq!(next(&applied, before), Some(Step::Approve { refund_no: 7 }));
        let failed = Order { refund_status: 4, ..accepted(1) };
        assert_eq!(next(&failed, before), Some(Step::PickUp), "it was refused: the meal goes on");
        let eaten = Order { status: 9, paid_fen: 901, ..NEW };
        assert_eq!(next(&eaten, Ending::RefundedAfterMeal), Some(Step::Look), "the merchant is not paid yet");
        let settled = Order { settled_at_ms: Some(1), ..eaten };
        assert_eq!(next(&settled, Ending::RefundedAfterMeal), Some(Step::Apply { amount_fen: 450 }));
        assert_eq!(next(&Order { refund_status: 6, ..settled }, Ending::RefundedAfterMeal), None);
    }

    #[test]
    fn three_in_a_hundred_cancel_and_one_wants_the_money_back() {
        let mut random = SmallRng::seed_from_u64(1);
        let drawn: Vec<Ending> = (0..100_000).map(|_| Ending::draw(&mut random)).collect();
        let share = |endings: &[Ending]| drawn.iter().filter(|one| endings.contains(one)).count() as f64 / 1e5;
        let cancels = share(&[Ending::CancelledUnpaid, Ending::CancelledPaid]);
        let refunds = share(&[Ending::RefundedBeforeMeal, Ending::RefundedAfterMeal]);
        assert!((0.027..0.033).contains(&cancels) && (0.008..0.012).contains(&refunds), "{cancels} {refunds}");
    }
}

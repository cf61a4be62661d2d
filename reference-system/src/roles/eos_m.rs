//! The merchant pool of the order service: what waits in a kitchen, accept, reject, delivered,
//! confirm, and what risk control says.

use std::sync::Arc;

use axum::extract::{FromRef, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::blink::Delivery;
use crate::config::now_ms;
use crate::extract::{Ask, At, Body};
use crate::frame::{Frame, RoleError};
use crate::ids::{OrderId, RestaurantId};
use crate::locks::Locks;
use crate::orders::lifecycle::{Status, Trigger};
use crate::orders::service::Orders;
use crate::orders::{ASSIGNED, DELIVERED, Order, plan};
use crate::rpc::{Budget, Failure};

/// The most orders in a list.
const LONGEST_LIST: i64 = 200;
/// The longest reason of risk control, in bytes.
const LONGEST_REASON: usize = 200;

#[derive(Clone)]
struct Pool {
    orders: Orders,
    locks: Locks,
}

impl FromRef<Pool> for Orders {
    fn from_ref(pool: &Pool) -> Self {
        pool.orders.clone()
    }
}

pub(super) async fn run(frame: Frame) -> Result<(), RoleError> {
    let orders = Orders { caller: frame.caller.clone(), config: Arc::clone(&frame.config) };
    let routes = Router::new()
        .route("/restaurants/{restaurant}/orders", get(list))
        .route("/restaurants/{restaurant}/orders/{id}/accept", post(accept))
        .route("/restaurants/{restaurant}/orders/{id}/reject", post(reject))
        .route("/orders/{id}/delivered", post(delivered))
        .route("/orders/{id}/confirm", post(confirm))
        .route("/internal/delivery", post(told))
        .route("/internal/risk-reject", post(risk_reject))
        .with_state(Pool { orders, locks: Locks::new(&frame) });
    let needs = ["st-u0", "st-u1", "st-r0", "st-r1"];
    frame.serve(routes, Box::new(|| json!({})), frame.wait_for(&needs)).await
}

#[derive(Deserialize)]
struct Page {
    state: Option<Status>,
    limit: Option<i64>,
}

async fn list(
    State(orders): State<Orders>,
    budget: Budget,
    At(restaurant_id): At<RestaurantId>,
    Ask(page): Ask<Page>,
) -> Result<Json<Value>, Failure> {
    let limit = page.limit.unwrap_or(50);
    if !(1..=LONGEST_LIST).contains(&limit) {
        return Err(Failure::invalid(format!("limit is 1 to {LONGEST_LIST}")));
    }
    let state = page.state.unwrap_or(Status::Waiting).code();
    let path = format!("/orders?restaurant_id={restaurant_id}&status={state}&limit={limit}");
    Ok(Json(orders.caller.get(orders.merchant_store_of(restaurant_id), &path, &budget).await?))
}

async fn accept(
    State(pool): State<Pool>,
    budget: Budget,
    At((restaurant_id, order_id)): At<(RestaurantId, OrderId)>,
) -> Result<Json<Order>, Failure> {
    answer(&pool, &budget, order_id, restaurant_id, Trigger::Accept).await
}

async fn reject(
    State(pool): State<Pool>,
    budget: Budget,
    At((restaurant_id, order_id)): At<(RestaurantId, OrderId)>,
) -> Result<Json<Order>, Failure> {
    answer(&pool, &budget, order_id, restaurant_id, Trigger::Reject).await
}

async fn confirm(
    State(orders): State<Orders>,
    budget: Budget,
    At(order_id): At<OrderId>,
) -> Result<Json<Order>, Failure> {
    let timers = &orders.timers();
    let plan = |order: &Order| Ok(Some(plan::step(order, Trigger::Complete, timers, now_ms())?));
    Ok(Json(orders.change(order_id, &budget, plan).await?))
}

/// The merchant's answer, which the user's cancelling may be racing.
async fn answer(
    Pool { orders, locks }: &Pool,
    budget: &Budget,
    order_id: OrderId,
    restaurant_id: RestaurantId,
    trigger: Trigger,
) -> Result<Json<Order>, Failure> {
    let timers = &orders.timers();
    let plan = |order: &Order| {
        if restaurant_id != order.restaurant_id {
            return Err(Failure::not_found(format!("this restaurant has no order {order_id}")));
        }
        Ok(Some(plan::step(order, trigger, timers, now_ms())?))
    };
    Ok(Json(orders.change_locked(locks, order_id, budget, plan).await?))
}

/// What risk control has against an order.
#[derive(Deserialize)]
struct RiskVerdict {
    order_id: OrderId,
    /// For whoever has to explain it: it stands in the log.
    reason: String,
}

/// T6, which the user's cancelling may be racing. Said twice, it changes nothing.
async fn risk_reject(
    State(Pool { orders, locks }): State<Pool>,
    budget: Budget,
    Body(verdict): Body<RiskVerdict>,
) -> Result<Json<Order>, Failure> {
    if !(1..=LONGEST_REASON).contains(&verdict.reason.len()) {
        return Err(Failure::invalid(format!("a reason has 1 to {LONGEST_REASON} bytes")));
    }
    let timers = &orders.timers();
    let plan = |order: &Order| {
        if order.status == Status::RiskRejected {
            return Ok(None);
        }
        Ok(Some(plan::step(order, Trigger::Risk, timers, now_ms())?))
    };
    let order = orders.change_locked(&locks, verdict.order_id, &budget, plan).await?;
    tracing::info!(order = %order.order_id, reason = ?verdict.reason, "risk control has rejected an order");
    Ok(Json(order))
}

async fn delivered(
    State(orders): State<Orders>,
    budget: Budget,
    At(order_id): At<OrderId>,
) -> Result<Json<Order>, Failure> {
    deliver(&orders, &budget, &Delivery { order_id, delivery_status: DELIVERED }).await
}

/// What the bridge to couriers tells.
async fn told(
    State(orders): State<Orders>,
    budget: Budget,
    Body(delivery): Body<Delivery>,
) -> Result<Json<Order>, Failure> {
    if !(ASSIGNED..=DELIVERED).contains(&delivery.delivery_status) {
        return Err(Failure::invalid("delivery_status is 1 (assigned), 2 (picked up) or 3 (delivered)"));
    }
    deliver(&orders, &budget, &delivery).await
}

async fn deliver(orders: &Orders, budget: &Budget, delivery: &Delivery) -> Result<Json<Order>, Failure> {
    let timers = &orders.config.timers;
    let plan = |order: &Order| Ok(plan::delivery(order, delivery.delivery_status, timers, now_ms())?);
    Ok(Json(orders.change(delivery.order_id, budget, plan).await?))
}

//! The consumer pool of the order service: create, pay, read, list, cancel, and the payment callback.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::eps::{Binding, CouponSettlement, CouponStep, Redeem, coupon_taken};
use super::ers::{Portion, Reservation};
use super::pay::Callback;
use super::rev::RefundRequest;
use super::st_u::{NewOrder, Written};
use crate::config::now_ms;
use crate::extract::{Ask, At, Body};
use crate::frame::{Frame, RoleError};
use crate::ids::{CouponId, OrderId, RestaurantId, UserId};
use crate::locks::{Held, LockUse, Locks};
use crate::migration::routing;
use crate::orders::cache::reads::OrderReads;
use crate::orders::lifecycle::{Status, Trigger};
use crate::orders::plan::Refusal;
use crate::orders::quote::{self, Quote, Quoted};
use crate::orders::routing::Mapping;
use crate::orders::sequence::OrderIds;
use crate::orders::service::Orders;
use crate::orders::{Order, plan};
use crate::rpc::{Budget, CallError, Failure};

/// The longest idempotency key and address.
const LONGEST_TEXT: usize = 200;
/// The most orders in a list.
const LONGEST_LIST: usize = 100;
/// How long a start waits for numbers of orders.
const FIRST_BLOCK: Duration = Duration::from_secs(1);

#[derive(Clone)]
struct Pool {
    orders: Orders,
    ids: Arc<OrderIds>,
    locks: Locks,
    reads: Arc<OrderReads>,
}

pub(super) async fn run(frame: Frame) -> Result<(), RoleError> {
    let orders = Orders { caller: frame.caller.clone(), config: Arc::clone(&frame.config) };
    let ids = OrderIds::new(frame.caller.clone(), frame.kv.clone(), orders.slot_hash());
    let reads = Arc::new(OrderReads::new(orders.clone(), frame.kv.clone(), &frame.plan.instance));
    let metrics = Arc::clone(&reads);
    frame.tell_more(Box::new(move |out| metrics.write(out)));
    let routes = Router::new()
        .route("/orders", post(create))
        .route("/orders/{id}", get(read))
        .route("/orders/{id}/pay", post(pay))
        .route("/orders/{id}/cancel", post(cancel))
        .route("/users/{user}/orders", get(list))
        .route("/internal/pay-callback", post(pay_callback))
        .with_state(Pool { orders, ids: Arc::clone(&ids), locks: Locks::new(&frame), reads });
    let needs = ["eus", "ers", "eps", "pay", "st-u0", "st-u1"];
    let prepare = async {
        frame.wait_for(&needs).await;
        frame.tracker.spawn(Arc::clone(&ids).keep_filled(frame.stop.clone()));
        // Without a block it can still do everything but create.
        if tokio::time::timeout(FIRST_BLOCK, ids.filled()).await.is_err() {
            tracing::warn!("no order numbers yet");
        }
    };
    let described = Arc::clone(&ids);
    let describe = Box::new(move || json!({ "order_numbers": described.describe() }));
    frame.serve(routes, describe, prepare).await
}

#[derive(Deserialize)]
struct NewOrderRequest {
    user_id: UserId,
    restaurant_id: RestaurantId,
    quote_token: String,
    #[serde(default)]
    address: String,
}

async fn create(
    State(pool): State<Pool>,
    budget: Budget,
    Body(request): Body<NewOrderRequest>,
) -> Result<Json<Order>, Failure> {
    let req_id = match budget.request_id() {
        Some(key) if (1..=LONGEST_TEXT).contains(&key.len()) => key.to_owned(),
        _ => {
            return Err(Failure::invalid(format!(
                "the header x-req-id (1 to {LONGEST_TEXT} characters) is required: it makes a retry safe"
            )));
        }
    };
    if request.address.len() > LONGEST_TEXT {
        return Err(Failure::invalid(format!("an address has at most {LONGEST_TEXT} bytes")));
    }
    let (user_id, restaurant_id) = (request.user_id, request.restaurant_id);
    // A broken or stale quote costs no call; the marketing service has the last word on it.
    let quoted = quote::open(&request.quote_token, pool.orders.config.seed, now_ms()).map_err(Failure::invalid)?;
    if (quoted.user_id, quoted.restaurant_id) != (user_id, restaurant_id) {
        return Err(Failure::invalid("the quote is for another user or restaurant"));
    }
    let order_id = pool.ids.take(user_id, restaurant_id, &budget).await?;
    let submission = pool.locks.take(LockUse::Submit, user_id.0, &budget).await?;
    let coupon = match quoted.coupon_id {
        Some(coupon_id) => pool.locks.take(LockUse::Coupon, coupon_id.0, &budget).await?,
        None => Held::nothing(),
    };
    let wish = Wish { order_id, req_id, request, quoted };
    let submitted = submit(&pool, wish, &submission, &coupon, &budget).await;
    tokio::join!(coupon.release(), submission.release());
    submitted.map(Json)
}

/// A request that makes sense, and the ID for its order.
struct Wish {
    order_id: OrderId,
    req_id: String,
    request: NewOrderRequest,
    quoted: Quote,
}

/// Makes the order, under the locks on its user's submissions and on its coupon.
async fn submit(pool: &Pool, wish: Wish, submission: &Held, coupon: &Held, budget: &Budget) -> Result<Order, Failure> {
    let Wish { order_id, req_id, request, quoted } = wish;
    let (orders, user_id, restaurant_id) = (&pool.orders, request.user_id, request.restaurant_id);
    if submission.waited()
        && let Some(order) = first_answer(orders, user_id, &req_id, budget).await?
    {
        return Ok(order);
    }
    let known_free = coupon.is_believed();
    if known_free
        && let Some(coupon_id) = quoted.coupon_id
        && is_bound(orders, coupon_id, budget).await?
    {
        return first_answer(orders, user_id, &req_id, budget).await?.ok_or_else(coupon_taken);
    }
    pool.locks.section().await;
    let lines = quoted.lines.iter().map(|line| Portion { dish_id: line.dish_id, quantity: line.quantity }).collect();
    let reservation = Reservation { order_id, restaurant_id, lines };
    let shown = Quoted::of(&request.quote_token, &quoted);
    let (quote_token, guard) = (request.quote_token, coupon.guard());
    let redeem = Redeem { quote_token, user_id, restaurant_id, order_id, guard, known_free };
    let user_path = format!("/users/{user_id}");
    let (user, reserved, quote) = tokio::join!(
        orders.caller.get::<Value>("eus", &user_path, budget),
        orders.caller.post::<_, Value>("ers", "/stock/reserve", &reservation, budget),
        orders.caller.post::<_, Quote>("eps", "/quotes/redeem", &redeem, budget),
    );
    let taken = [reserved.as_ref().err(), quote.as_ref().err()]
        .into_iter()
        .flatten()
        .any(|error| error.status() == Some(StatusCode::CONFLICT));
    let inserted = async {
        user?;
        reserved?;
        let order = new_order(order_id, req_id.clone(), request.address, quote?, now_ms());
        orders.map(&Mapping { order_id, user_id, restaurant_id }, budget).await?;
        let tasks = plan::tasks_of_creation(&order, &orders.config.timers);
        let new = NewOrder { order, quoted: shown, tasks, guard: submission.guard() };
        routing::post::<_, Written>(&orders.caller, orders.group_of(user_id), "/orders", &new, budget).await
    }
    .await;
    settle_holds(orders, order_id, quoted.coupon_id, &inserted, budget).await;
    match inserted {
        Ok(written) => Ok(written.order),
        // Taken, perhaps, by this very request when it came the first time.
        Err(error) if taken => first_answer(orders, user_id, &req_id, budget).await?.ok_or_else(|| error.into()),
        Err(error) => Err(error.into()),
    }
}

/// Whether the coupon is another order's.
async fn is_bound(orders: &Orders, coupon_id: CouponId, budget: &Budget) -> Result<bool, CallError> {
    let binding: Binding = orders.caller.get("eps", &format!("/coupons/{coupon_id}"), budget).await?;
    Ok(binding.order_id.is_some())
}

fn new_order(order_id: OrderId, req_id: String, address: String, quote: Quote, now_ms: i64) -> Order {
    Order {
        order_id,
        user_id: quote.user_id,
        restaurant_id: quote.restaurant_id,
        req_id,
        status: Status::Unpaid,
        version: 1,
        revision: 1,
        refund_status: 0,
        delivery_status: 0,
        items_fen: quote.items_fen,
        delivery_fee_fen: quote.delivery_fee_fen,
        discount_fen: quote.discount_fen,
        total_fen: quote.total_fen,
        paid_fen: 0,
        refunded_fen: 0,
        refund_no: None,
        completed_at_ms: None,
        settled_at_ms: None,
        coupon_id: quote.coupon_id,
        payment_id: None,
        lines: quote.lines,
        address,
        day: None,
        number: None,
        created_at_ms: now_ms,
        updated_at_ms: now_ms,
    }
}

/// The order that an earlier try of this request made.
async fn first_answer(
    orders: &Orders,
    user_id: UserId,
    req_id: &str,
    budget: &Budget,
) -> Result<Option<Order>, CallError> {
    let key = form_urlencoded(req_id);
    let path = format!("/orders?user_id={user_id}&req_id={key}&limit=1");
    let found: Vec<Order> = routing::get(&orders.caller, orders.group_of(user_id), &path, budget).await?;
    Ok(found.into_iter().next())
}

fn form_urlencoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// Confirms or gives back what was held for the order. Where the outcome is unknown, or this call fails, eos-x asks
/// the store later and decides; so it does for stock that is to stay held.
async fn settle_holds(
    orders: &Orders,
    order_id: OrderId,
    coupon_id: Option<CouponId>,
    inserted: &Result<Written, CallError>,
    budget: &Budget,
) {
    let made = match inserted {
        Ok(written) => written.applied,
        Err(CallError::Answer { status, .. }) if status.is_client_error() => false,
        Err(_) => return,
    };
    let coupon = async {
        let Some(coupon_id) = coupon_id else { return Ok(()) };
        let step = if made { CouponStep::Confirm } else { CouponStep::Return };
        let settlement = [CouponSettlement { coupon_id, order_id, step }];
        orders.caller.post::<_, Value>("eps", "/coupons/settle", &settlement, budget).await.map(drop)
    };
    let stock = async {
        if made {
            return Ok(());
        }
        orders.caller.post::<_, Value>("ers", "/stock/release", &[order_id], budget).await.map(drop)
    };
    let (coupon, stock) = tokio::join!(coupon, stock);
    for error in [coupon.err(), stock.err()].into_iter().flatten() {
        tracing::warn!(%error, %order_id, "what was held waits for the sweep");
    }
}

async fn read(State(pool): State<Pool>, budget: Budget, At(order_id): At<OrderId>) -> Result<Json<Order>, Failure> {
    Ok(Json(pool.reads.order(order_id, &budget).await?))
}

async fn pay(State(pool): State<Pool>, budget: Budget, At(order_id): At<OrderId>) -> Result<Json<Order>, Failure> {
    let orders = &pool.orders;
    let timers = &orders.config.timers;
    let order = orders
        .change(order_id, &budget, |order| {
            if order.status == Status::Paying {
                return Ok(None);
            }
            Ok(Some(plan::step(order, Trigger::Pay, timers, now_ms())?))
        })
        .await?;
    match orders.charge(&order, &budget).await {
        Ok(()) => Ok(Json(order)),
        Err(error) if error.status() == Some(StatusCode::CONFLICT) => {
            close_unpayable(orders, &order, &budget).await?;
            Err(error.into())
        }
        // The charge's task row will ask again; the user learns that it is not sure yet.
        Err(error) => Err(error.into()),
    }
}

/// T4 when the wallet refuses.
async fn close_unpayable(orders: &Orders, order: &Order, budget: &Budget) -> Result<(), Failure> {
    let payment = plan::payment_id(order.order_id);
    let timers = &orders.config.timers;
    orders
        .change(order.order_id, budget, |order| {
            Ok(plan::payment_result(order, &payment, false, order.total_fen, timers, now_ms())?)
        })
        .await?;
    Ok(())
}

/// T10; after acceptance it is a request for a refund, which is answered with 202: the merchant decides.
async fn cancel(
    State(pool): State<Pool>,
    budget: Budget,
    At(order_id): At<OrderId>,
) -> Result<(StatusCode, Json<Order>), Failure> {
    let orders = &pool.orders;
    let timers = &orders.config.timers;
    let plan = |order: &Order| Ok(Some(plan::step(order, Trigger::Cancel, timers, now_ms())?));
    let cancelled = orders.change_locked(&pool.locks, order_id, &budget, plan).await;
    match cancelled {
        Ok(order) => Ok((StatusCode::OK, Json(order))),
        Err(failure) if failure.body.code == Refusal::NeedsRefund.code() => {
            let order = orders.read(order_id, &budget).await?;
            let reason = "cancelled by the user".to_owned();
            let request = RefundRequest { order: order_id, amount_fen: order.paid_fen, reason };
            let _: Value = orders.caller.post("rev", "/refunds", &request, &budget).await?;
            Ok((StatusCode::ACCEPTED, Json(orders.read(order_id, &budget).await?)))
        }
        Err(failure) => Err(failure),
    }
}

async fn pay_callback(
    State(pool): State<Pool>,
    budget: Budget,
    Body(callback): Body<Callback>,
) -> Result<Json<Order>, Failure> {
    let timers = &pool.orders.config.timers;
    let order = pool
        .orders
        .change(callback.order_id, &budget, |order| {
            Ok(plan::payment_result(
                order,
                &callback.payment_id,
                callback.succeeded,
                callback.amount_fen,
                timers,
                now_ms(),
            )?)
        })
        .await?;
    Ok(Json(order))
}

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    since: i64,
    limit: Option<i64>,
}

async fn list(
    State(pool): State<Pool>,
    budget: Budget,
    At(user_id): At<UserId>,
    Ask(page): Ask<Page>,
) -> Result<Json<Value>, Failure> {
    let limit = usize::try_from(page.limit.unwrap_or(20)).unwrap_or(0);
    if !(1..=LONGEST_LIST).contains(&limit) {
        return Err(Failure::invalid(format!("limit is 1 to {LONGEST_LIST}")));
    }
    Ok(Json(pool.reads.list(user_id, page.since, limit, &budget).await?))
}

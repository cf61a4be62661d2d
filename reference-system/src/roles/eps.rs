//! The marketing service: quotes, and coupons that are used at most once.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::{AnyConnection, Row};
use tokio_util::sync::CancellationToken;

use crate::bus::event::Event;
use crate::bus::{Message, dead_letters, topology};
use crate::config::now_ms;
use crate::extract::{Ask, At, Body};
use crate::frame::{Frame, RoleError};
use crate::ids::{CouponId, DishId, OrderId, RestaurantId, UserId};
use crate::locks::{Fenced, Guard};
use crate::orders::Line;
use crate::orders::quote::{self, Quote};
use crate::population::Population;
use crate::rpc::Failure;
use crate::rpc::directory::Directory;
use crate::store::lock_writes::{self, lock_writes_table};
use crate::store::log::{self, After};
use crate::store::outbox::inbox_table;
use crate::store::{Store, StoreError};
use crate::switches::Promotion;

/// Repeatable. One row per coupon and order that ever locked it; at most one of a coupon's rows is
/// locked or used. The history is what events told, for people to read: no coupon hangs on it.
const SCHEMA: &str = concat!(
    inbox_table!(),
    "
CREATE TABLE IF NOT EXISTS coupons (
  coupon_id BIGINT NOT NULL, order_id BIGINT NOT NULL, state BIGINT NOT NULL,
  confirmed BIGINT NOT NULL DEFAULT 0, locked_at_ms BIGINT NOT NULL,
  PRIMARY KEY (coupon_id, order_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS coupons_unconfirmed ON coupons (locked_at_ms)
  WHERE confirmed = 0 AND state = 0;
CREATE TABLE IF NOT EXISTS coupon_history (
  entry IDENTITY, event_id TEXT NOT NULL, coupon_id BIGINT NOT NULL, order_id BIGINT NOT NULL,
  fate TEXT NOT NULL, at_ms BIGINT NOT NULL
);
CREATE INDEX IF NOT EXISTS coupon_history_by_coupon ON coupon_history (coupon_id, entry);
",
    lock_writes_table!()
);

/// The store file's name.
pub(crate) const STORE: &str = "eps";
/// Its name in the inbox.
pub(crate) const CONSUMER: &str = "eps";

/// `coupons.state`: bound to a live order.
pub(crate) const LOCKED: i64 = 0;
/// `coupons.state`: spent.
pub(crate) const USED: i64 = 1;
/// `coupons.state`: free again.
pub(crate) const RETURNED: i64 = 2;

/// How long a quote holds.
const QUOTE_LIFE_MS: i64 = 300_000;
/// The most lines, and the most of one dish, in an order.
const MOST: usize = 20;

#[derive(Clone)]
struct Marketing {
    population: Arc<Population>,
    store: Store,
    directory: Arc<Directory>,
}

/// A request to bind a quote to an order.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Redeem {
    pub(crate) quote_token: String,
    pub(crate) user_id: UserId,
    pub(crate) restaurant_id: RestaurantId,
    pub(crate) order_id: OrderId,
    /// The lock on the quote's coupon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) guard: Option<Guard>,
    /// Whether the caller has looked under that lock and is believed that the coupon is free.
    #[serde(default)]
    pub(crate) known_free: bool,
}

/// Which order a coupon is bound to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Binding {
    pub(crate) order_id: Option<OrderId>,
}

/// What becomes of a locked coupon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CouponStep {
    /// The order exists: the lock stands.
    Confirm,
    /// The order is paid.
    Use,
    /// The order is dead, or was never made.
    Return,
}

/// A step on one coupon of one order.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct CouponSettlement {
    pub(crate) coupon_id: CouponId,
    pub(crate) order_id: OrderId,
    pub(crate) step: CouponStep,
}

/// A lock that no order has confirmed yet.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Unconfirmed {
    pub(crate) coupon_id: CouponId,
    pub(crate) order_id: OrderId,
}

pub(super) async fn run(frame: Frame) -> Result<(), RoleError> {
    let store = frame.open_store(STORE, SCHEMA).await?;
    let subscription = frame.subscription(topology::EPS, CONSUMER, &store, Arc::new(keep_history));
    let (bus, counts) = (subscription.bus.clone(), Arc::clone(&subscription.counts));
    let directory = frame.directory();
    frame.tracker.spawn(watch_promotion(Arc::clone(&directory), frame.stop.clone()));
    let (instance, told) = (frame.plan.instance.clone(), Arc::clone(&directory));
    frame.tell_more(Box::new(move |out| write_promotion(told.in_force().promotion, &instance, out)));
    let marketing = Marketing { population: Arc::new(Population::new(frame.config.seed)), store, directory };
    let routes = Router::new()
        .route("/quote", post(make_quote))
        .route("/quotes/redeem", post(redeem))
        .route("/coupons/{coupon}", get(binding))
        .route("/coupons/settle", post(settle))
        .route("/coupons/unconfirmed", get(unconfirmed))
        .route("/coupons/{coupon}/history", get(history))
        .with_state(marketing)
        .merge(dead_letters::routes(bus, topology::EPS));
    // Orders need quotes, not the broker.
    frame.tracker.spawn(subscription.run(frame.stop.clone()));
    frame.serve(routes, Box::new(move || counts.describe()), std::future::ready(())).await
}

/// Says at once that some instance was told of another promotion than all.
async fn watch_promotion(directory: Arc<Directory>, stop: CancellationToken) {
    let mut learned = directory.subscribe();
    let mut before = 0;
    loop {
        let Promotion { instances_apart, version, .. } = directory.in_force().promotion;
        match instances_apart {
            0 if before > 0 => tracing::info!(version, "the promotion is one for all again"),
            apart if apart > before => tracing::error!(apart, version, "the promotion is not one for all instances"),
            _ => {}
        }
        before = instances_apart;
        tokio::select! {
            // Fails only when the role ends.
            _ = learned.changed() => {}
            () = stop.cancelled() => return,
        }
    }
}

/// The lines of `/metrics`.
fn write_promotion(promotion: Promotion, instance: &str, out: &mut String) {
    for (name, value) in
        [("promo_version", promotion.version), ("promo_instances_apart", promotion.instances_apart as u64)]
    {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "# TYPE {name} gauge\n{name}{{instance=\"{instance}\"}} {value}");
    }
}

#[derive(Deserialize)]
struct Wish {
    user_id: UserId,
    restaurant_id: RestaurantId,
    items: Vec<Item>,
    coupon_id: Option<CouponId>,
}

#[derive(Deserialize)]
struct Item {
    dish_id: DishId,
    quantity: i64,
}

async fn make_quote(State(marketing): State<Marketing>, Body(wish): Body<Wish>) -> Result<Json<Value>, Failure> {
    let population = &marketing.population;
    let quote = price(population, &wish, marketing.directory.in_force().promotion, now_ms())?;
    Ok(Json(json!({
        "quote_token": quote::seal(&quote, population.seed()),
        "items_fen": quote.items_fen,
        "delivery_fee_fen": quote.delivery_fee_fen,
        "discount_fen": quote.discount_fen,
        "total_fen": quote.total_fen,
        "expires_at_ms": quote.expires_at_ms,
    })))
}

fn price(population: &Population, wish: &Wish, promotion: Promotion, now_ms: i64) -> Result<Quote, Failure> {
    population.user(wish.user_id).ok_or_else(|| Failure::not_found(format!("there is no user {}", wish.user_id)))?;
    let restaurant = population
        .restaurant(wish.restaurant_id)
        .ok_or_else(|| Failure::not_found(format!("there is no restaurant {}", wish.restaurant_id)))?;
    if wish.items.is_empty() || wish.items.len() > MOST {
        return Err(Failure::invalid(format!("an order has 1 to {MOST} items")));
    }
    let lines = wish
        .items
        .iter()
        .map(|item| {
            if !(1..=MOST as i64).contains(&item.quantity) {
                return Err(Failure::invalid(format!("a quantity is 1 to {MOST}")));
            }
            let dish = population.dish(wish.restaurant_id, item.dish_id).ok_or_else(|| {
                Failure::invalid(format!("restaurant {} has no dish {}", wish.restaurant_id, item.dish_id))
            })?;
            Ok(Line { dish_id: dish.dish_id, quantity: item.quantity, price_fen: dish.price_fen })
        })
        .collect::<Result<Vec<Line>, Failure>>()?;
    if let Some(coupon_id) = wish.coupon_id
        && population.coupon(coupon_id).is_none_or(|coupon| coupon.owner != wish.user_id)
    {
        return Err(Failure::invalid(format!("user {} has no coupon {coupon_id}", wish.user_id)));
    }
    let items_fen: i64 = lines.iter().map(|line| line.quantity * line.price_fen).sum();
    let mut quote = Quote {
        user_id: wish.user_id,
        restaurant_id: wish.restaurant_id,
        lines,
        coupon_id: wish.coupon_id,
        items_fen,
        delivery_fee_fen: restaurant.delivery_fee_fen,
        discount_fen: 0,
        total_fen: 0,
        promo_version: 0,
        expires_at_ms: now_ms + QUOTE_LIFE_MS,
    };
    discount(population, &mut quote, promotion);
    Ok(quote)
}

/// Takes off what coupon and promotion take off.
fn discount(population: &Population, quote: &mut Quote, promotion: Promotion) {
    let coupon = quote.coupon_id.and_then(|coupon_id| population.coupon(coupon_id));
    let off = coupon.map_or(0, |coupon| coupon.amount_fen) + promotion.off(quote.items_fen);
    quote.discount_fen = off.min(quote.items_fen);
    quote.total_fen = quote.items_fen + quote.delivery_fee_fen - quote.discount_fen;
    quote.promo_version = promotion.version;
}

async fn redeem(State(marketing): State<Marketing>, Body(redeem): Body<Redeem>) -> Result<Json<Quote>, Failure> {
    let seed = marketing.population.seed();
    let mut quote = quote::open(&redeem.quote_token, seed, now_ms()).map_err(Failure::invalid)?;
    if (quote.user_id, quote.restaurant_id) != (redeem.user_id, redeem.restaurant_id) {
        return Err(Failure::invalid("the quote is for another user or restaurant"));
    }
    let promotion = marketing.directory.in_force().promotion;
    if !promotion.is_versioned {
        // The historic design reads the setting a second time, and not necessarily the same one.
        discount(&marketing.population, &mut quote, promotion);
    }
    if let Some(coupon_id) = quote.coupon_id {
        let Redeem { order_id, guard, known_free, .. } = redeem;
        let bound = marketing
            .store
            .write(move |c| {
                Box::pin(async move {
                    if !lock_writes::admits(c, guard.as_ref()).await? {
                        return Ok(Err(Fenced));
                    }
                    let holder = if known_free { None } else { holder_of(&mut *c, coupon_id).await? };
                    if let Some(holder) = holder {
                        return Ok(Ok(holder == order_id));
                    }
                    bind(c, coupon_id, order_id).await?;
                    lock_writes::note(c, guard.as_ref(), now_ms()).await?;
                    Ok(Ok(true))
                })
            })
            .await?;
        if !bound? {
            return Err(coupon_taken());
        }
    }
    Ok(Json(quote))
}

/// 409.
pub(crate) fn coupon_taken() -> Failure {
    Failure::conflict("coupon_taken", "the coupon is bound to another order")
}

async fn binding(State(marketing): State<Marketing>, At(coupon_id): At<CouponId>) -> Result<Json<Binding>, Failure> {
    Ok(Json(Binding { order_id: holder_of(marketing.store.readers(), coupon_id).await? }))
}

/// The order that a coupon is bound to.
async fn holder_of(
    executor: impl sqlx::Executor<'_, Database = sqlx::Any>,
    coupon_id: CouponId,
) -> Result<Option<OrderId>, StoreError> {
    let holder: Option<i64> = sqlx::query_scalar("SELECT order_id FROM coupons WHERE coupon_id = $1 AND state <> $2")
        .bind(coupon_id.0)
        .bind(RETURNED)
        .fetch_optional(executor)
        .await?;
    Ok(holder.map(OrderId))
}

async fn bind(connection: &mut AnyConnection, coupon_id: CouponId, order_id: OrderId) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO coupons (coupon_id, order_id, state, locked_at_ms) VALUES ($1, $2, $3, $4) \
         ON CONFLICT DO NOTHING",
    )
    .bind(coupon_id.0)
    .bind(order_id.0)
    .bind(LOCKED)
    .bind(now_ms())
    .execute(connection)
    .await?;
    Ok(())
}

async fn settle(
    State(marketing): State<Marketing>,
    Body(settlements): Body<Vec<CouponSettlement>>,
) -> Result<Json<Value>, Failure> {
    marketing
        .store
        .write(move |connection| {
            Box::pin(async move {
                for settlement in &settlements {
                    let sql = match settlement.step {
                        CouponStep::Confirm => {
                            "UPDATE coupons SET confirmed = 1 \
                             WHERE coupon_id = $1 AND order_id = $2"
                        }
                        CouponStep::Use => {
                            "UPDATE coupons SET state = 1, confirmed = 1 \
                             WHERE coupon_id = $1 AND order_id = $2 AND state = 0"
                        }
                        CouponStep::Return => "UPDATE coupons SET state = 2 WHERE coupon_id = $1 AND order_id = $2",
                    };
                    sqlx::query(sql)
                        .bind(settlement.coupon_id.0)
                        .bind(settlement.order_id.0)
                        .execute(&mut *connection)
                        .await?;
                }
                Ok(())
            })
        })
        .await?;
    Ok(Json(json!({})))
}

#[derive(Deserialize)]
struct Age {
    older_than_ms: i64,
}

async fn unconfirmed(
    State(marketing): State<Marketing>,
    Ask(age): Ask<Age>,
) -> Result<Json<Vec<Unconfirmed>>, Failure> {
    let rows = sqlx::query(
        "SELECT coupon_id, order_id FROM coupons \
         WHERE confirmed = 0 AND state = 0 AND locked_at_ms < $1 ORDER BY locked_at_ms LIMIT 200",
    )
    .bind(now_ms().saturating_sub(age.older_than_ms))
    .fetch_all(marketing.store.readers())
    .await
    .map_err(StoreError::from)?;
    let locks = rows
        .iter()
        .map(|row| Ok(Unconfirmed { coupon_id: CouponId(row.try_get(0)?), order_id: OrderId(row.try_get(1)?) }))
        .collect::<Result<_, sqlx::Error>>()
        .map_err(StoreError::from)?;
    Ok(Json(locks))
}

/// A coupon is used when its order is paid, and free again when its order is dead.
fn keep_history(connection: &mut AnyConnection, event: Event, _: Message) -> BoxFuture<'_, Result<(), StoreError>> {
    Box::pin(async move {
        let event_id = event.id();
        let Event::Order(event) = event else { return Ok(()) };
        let Some(coupon_id) = event.coupon_id else { return Ok(()) };
        sqlx::query(
            "INSERT INTO coupon_history (event_id, coupon_id, order_id, fate, at_ms) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(event_id)
        .bind(coupon_id.0)
        .bind(event.order_id.0)
        .bind(if event.kind == "paid" { "used" } else { "returned" })
        .bind(event.at_ms)
        .execute(connection)
        .await?;
        Ok(())
    })
}

/// What became of a coupon, the oldest first.
async fn history(
    State(marketing): State<Marketing>,
    At(coupon_id): At<CouponId>,
    Ask(after): Ask<After>,
) -> Result<Json<Vec<Value>>, Failure> {
    if marketing.population.coupon(coupon_id).is_none() {
        return Err(Failure::not_found(format!("there is no coupon {coupon_id}")));
    }
    let query = "SELECT entry, order_id, fate, at_ms FROM coupon_history WHERE coupon_id = $1 AND entry > $2 \
                 ORDER BY entry LIMIT 200";
    let entries = log::read_on(&marketing.store, query, coupon_id.0, after, |row| {
        let (entry, fate, at_ms): (i64, String, i64) = (row.try_get(0)?, row.try_get(2)?, row.try_get(3)?);
        Ok(json!({ "entry": entry, "order_id": OrderId(row.try_get(1)?), "fate": fate, "at_ms": at_ms }))
    });
    Ok(Json(entries.await?))
}

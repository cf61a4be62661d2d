//! The restaurant service: menus, the stock of each dish, and what is pushed to merchants.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::{AnyConnection, Row};

use crate::bus::event::Event;
use crate::bus::{Message, dead_letters, topology};
use crate::config::now_ms;
use crate::extract::{Ask, At, Body};
use crate::frame::{Frame, RoleError};
use crate::ids::{DishId, OrderId, RestaurantId};
use crate::population::{Population, Restaurant};
use crate::rpc::Failure;
use crate::store::log::{self, After};
use crate::store::outbox::inbox_table;
use crate::store::stock::{self, Reserved, StockStep};
use crate::store::{Store, StoreError};

/// Repeatable. What merchants are told, one row per event; stock itself does not hang on events.
const PUSHES: &str = concat!(
    inbox_table!(),
    "
CREATE TABLE IF NOT EXISTS pushes (
  push_id IDENTITY, event_id TEXT NOT NULL, restaurant_id BIGINT NOT NULL, order_id BIGINT NOT NULL,
  kind TEXT NOT NULL, at_ms BIGINT NOT NULL
);
CREATE INDEX IF NOT EXISTS pushes_by_restaurant ON pushes (restaurant_id, push_id);
"
);

/// The store's name.
pub(crate) const STORE: &str = "ers";
/// Its name in the inbox.
pub(crate) const CONSUMER: &str = "ers";

/// The most lines, and the most of one dish, in a reservation.
const MOST: usize = 20;
/// The most orders in one settlement.
const MOST_ORDERS: usize = 1_000;

#[derive(Clone)]
struct Restaurants {
    population: Arc<Population>,
    store: Store,
    /// What each dish has at first, if not what the seed says.
    stock_per_dish: Option<i64>,
}

/// A request to hold stock for an order. Each try of a create has an order number of its own, so repeating the
/// request holds nothing more.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Reservation {
    pub(crate) order_id: OrderId,
    pub(crate) restaurant_id: RestaurantId,
    pub(crate) lines: Vec<Portion>,
}

/// So many of one dish.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Portion {
    pub(crate) dish_id: DishId,
    pub(crate) quantity: i64,
}

pub(super) async fn run(frame: Frame) -> Result<(), RoleError> {
    let store = frame.open_store(STORE, &[stock::SCHEMA, PUSHES].concat()).await?;
    let subscription = frame.subscription(topology::ERS, CONSUMER, &store, Arc::new(push));
    let (bus, counts) = (subscription.bus.clone(), Arc::clone(&subscription.counts));
    let restaurants = Restaurants {
        population: Arc::new(Population::new(frame.config.seed)),
        store,
        stock_per_dish: frame.config.stock_per_dish,
    };
    let routes = Router::new()
        .route("/restaurants/{restaurant}", get(read))
        .route("/restaurants/{restaurant}/menu", get(menu))
        .route("/stock/reserve", post(reserve))
        .route("/stock/confirm", post(async |state, body| settle(state, body, StockStep::Confirm).await))
        .route("/stock/commit", post(async |state, body| settle(state, body, StockStep::Commit).await))
        .route("/stock/release", post(async |state, body| settle(state, body, StockStep::Release).await))
        .route("/stock/unconfirmed", get(unconfirmed))
        .route("/restaurants/{restaurant}/pushes", get(pushes))
        .with_state(restaurants)
        .merge(dead_letters::routes(bus, topology::ERS));
    // Orders need menus and stock, not the broker.
    frame.tracker.spawn(subscription.run(frame.stop.clone()));
    frame.serve(routes, Box::new(move || counts.describe()), std::future::ready(())).await
}

fn find(population: &Population, restaurant_id: RestaurantId) -> Result<Restaurant, Failure> {
    population
        .restaurant(restaurant_id)
        .ok_or_else(|| Failure::not_found(format!("there is no restaurant {restaurant_id}")))
}

async fn read(
    State(restaurants): State<Restaurants>,
    At(restaurant_id): At<RestaurantId>,
) -> Result<Json<Value>, Failure> {
    let restaurant = find(&restaurants.population, restaurant_id)?;
    Ok(Json(json!({
        "restaurant_id": restaurant.restaurant_id,
        "name": restaurant.name,
        "delivery_fee_fen": restaurant.delivery_fee_fen,
    })))
}

async fn menu(
    State(restaurants): State<Restaurants>,
    At(restaurant_id): At<RestaurantId>,
) -> Result<Json<Value>, Failure> {
    let restaurant = find(&restaurants.population, restaurant_id)?;
    let dishes: Vec<Value> = restaurants
        .population
        .menu(restaurant_id)
        .into_iter()
        .map(|dish| json!({ "dish_id": dish.dish_id, "name": dish.name, "price_fen": dish.price_fen }))
        .collect();
    Ok(Json(json!({
        "restaurant_id": restaurant.restaurant_id,
        "name": restaurant.name,
        "delivery_fee_fen": restaurant.delivery_fee_fen,
        "dishes": dishes,
    })))
}

async fn reserve(
    State(restaurants): State<Restaurants>,
    Body(reservation): Body<Reservation>,
) -> Result<Json<Value>, Failure> {
    let Reservation { order_id, restaurant_id, lines } = reservation;
    find(&restaurants.population, restaurant_id)?;
    if lines.is_empty() || lines.len() > MOST {
        return Err(Failure::invalid(format!("a reservation has 1 to {MOST} lines")));
    }
    let mut wanted: BTreeMap<DishId, i64> = BTreeMap::new();
    for Portion { dish_id, quantity } in lines {
        if !(1..=MOST as i64).contains(&quantity) {
            return Err(Failure::invalid(format!("a quantity is 1 to {MOST}")));
        }
        if restaurants.population.dish(restaurant_id, dish_id).is_none() {
            return Err(Failure::invalid(format!("restaurant {restaurant_id} has no dish {dish_id}")));
        }
        *wanted.entry(dish_id).or_default() += quantity;
    }
    let (population, fixed) = (Arc::clone(&restaurants.population), restaurants.stock_per_dish);
    let reserved = restaurants
        .store
        .write(move |connection| {
            Box::pin(async move {
                let opening = |dish_id| fixed.unwrap_or_else(|| population.opening_stock(dish_id));
                stock::reserve(connection, order_id, &wanted, opening, now_ms()).await
            })
        })
        .await?;
    match reserved {
        Reserved::Held => Ok(Json(json!({ "reserved": true }))),
        Reserved::SoldOut(dish_id) => Err(Failure::conflict("sold_out", format!("dish {dish_id} is sold out"))),
        Reserved::GivenBack => Err(Failure::conflict("reservation_released", "this order gave its stock back already")),
    }
}

async fn settle(
    State(restaurants): State<Restaurants>,
    Body(orders): Body<Vec<OrderId>>,
    step: StockStep,
) -> Result<Json<Value>, Failure> {
    if orders.len() > MOST_ORDERS {
        return Err(Failure::invalid(format!("at most {MOST_ORDERS} orders at a time")));
    }
    restaurants
        .store
        .write(move |connection| {
            Box::pin(async move {
                for order_id in orders {
                    stock::settle(connection, order_id, step).await?;
                }
                Ok(())
            })
        })
        .await?;
    Ok(Json(json!({})))
}

/// The merchant learns of an order that waits, of one that is dead, and of one that is done.
fn push(connection: &mut AnyConnection, event: Event, _: Message) -> BoxFuture<'_, Result<(), StoreError>> {
    Box::pin(async move {
        let event_id = event.id();
        let Event::Order(event) = event else { return Ok(()) };
        sqlx::query("INSERT INTO pushes (event_id, restaurant_id, order_id, kind, at_ms) VALUES ($1, $2, $3, $4, $5)")
            .bind(event_id)
            .bind(event.restaurant_id.0)
            .bind(event.order_id.0)
            .bind(event.kind)
            .bind(now_ms())
            .execute(connection)
            .await?;
        Ok(())
    })
}

/// What a merchant's application asks for again and again: the pushes that it does not have yet.
async fn pushes(
    State(restaurants): State<Restaurants>,
    At(restaurant_id): At<RestaurantId>,
    Ask(after): Ask<After>,
) -> Result<Json<Vec<Value>>, Failure> {
    find(&restaurants.population, restaurant_id)?;
    let query = "SELECT push_id, order_id, kind, at_ms FROM pushes WHERE restaurant_id = $1 AND push_id > $2 \
                 ORDER BY push_id LIMIT 100";
    let pushes = log::read_on(&restaurants.store, query, restaurant_id.0, after, |row| {
        let (push_id, at_ms): (i64, i64) = (row.try_get(0)?, row.try_get(3)?);
        let kind: String = row.try_get(2)?;
        Ok(json!({ "push_id": push_id, "order_id": OrderId(row.try_get(1)?), "kind": kind, "at_ms": at_ms }))
    });
    Ok(Json(pushes.await?))
}

#[derive(Deserialize)]
struct Age {
    older_than_ms: i64,
}

async fn unconfirmed(
    State(restaurants): State<Restaurants>,
    Ask(age): Ask<Age>,
) -> Result<Json<Vec<OrderId>>, Failure> {
    let before_ms = now_ms().saturating_sub(age.older_than_ms);
    Ok(Json(stock::unconfirmed(restaurants.store.readers(), before_ms).await?))
}

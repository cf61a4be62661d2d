//! The restaurant service: menus, and the stock of each dish.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::config::now_ms;
use crate::extract::{Ask, At, Body};
use crate::frame::{Frame, RoleError};
use crate::ids::{DishId, OrderId, RestaurantId};
use crate::population::{Population, Restaurant};
use crate::rpc::Failure;
use crate::store::Store;
use crate::store::stock::{self, Reserved, StockStep};

/// The store's name.
pub(crate) const STORE: &str = "ers";

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
    let restaurants = Restaurants {
        population: Arc::new(Population::new(frame.config.seed)),
        store: frame.open_store(STORE, stock::SCHEMA).await?,
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
        .with_state(restaurants);
    frame.serve(routes, Box::new(|| json!({})), std::future::ready(())).await
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

//! The restaurant service: menus, and whether a restaurant exists. Stock comes with a later slice.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::extract::At;
use crate::frame::{Frame, RoleError};
use crate::ids::RestaurantId;
use crate::population::{Population, Restaurant};
use crate::rpc::Failure;

pub(super) async fn run(frame: Frame) -> Result<(), RoleError> {
    let population = Arc::new(Population::new(frame.config.seed));
    let routes = Router::new()
        .route("/restaurants/{restaurant}", get(read))
        .route("/restaurants/{restaurant}/menu", get(menu))
        .with_state(population);
    frame.serve(routes, Box::new(|| json!({})), std::future::ready(())).await
}

fn find(population: &Population, restaurant_id: RestaurantId) -> Result<Restaurant, Failure> {
    population
        .restaurant(restaurant_id)
        .ok_or_else(|| Failure::not_found(format!("there is no restaurant {restaurant_id}")))
}

async fn read(
    State(population): State<Arc<Population>>,
    At(restaurant_id): At<RestaurantId>,
) -> Result<Json<Value>, Failure> {
    let restaurant = find(&population, restaurant_id)?;
    Ok(Json(json!({
        "restaurant_id": restaurant.restaurant_id,
        "name": restaurant.name,
        "delivery_fee_fen": restaurant.delivery_fee_fen,
    })))
}

async fn menu(
    State(population): State<Arc<Population>>,
    At(restaurant_id): At<RestaurantId>,
) -> Result<Json<Value>, Failure> {
    let restaurant = find(&population, restaurant_id)?;
    let dishes: Vec<Value> = population
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

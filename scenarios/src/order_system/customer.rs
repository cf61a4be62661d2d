//! A customer: asks for a quote, orders, pays, looks at the order, and sometimes cancels it.

use std::time::Duration;

use rand::Rng as _;
use serde::Deserialize;

use super::{any_dish, any_user, keyed, popular_restaurant, write_key};
use crate::client::{Abandon, Client, Request};

/// Request names, in the order of the constants below.
pub const REQUESTS: &[&str] = &["quote", "create order", "pay order", "order detail", "cancel order"];
const QUOTE: usize = 0;
const CREATE: usize = 1;
const PAY: usize = 2;
const DETAIL: usize = 3;
const CANCEL: usize = 4;

/// Share of customers who change their mind.
const CANCELS: f64 = 0.03;

#[derive(Deserialize)]
struct Quote {
    quote_token: String,
}

#[derive(Deserialize)]
struct Order {
    order_id: String,
}

/// Runs the journey once.
///
/// # Errors
/// [`Abandon`] when a request failed or the load is over.
pub async fn iterate<C: Client>(client: &mut C) -> Result<(), Abandon> {
    let random = client.random();
    let (user, restaurant) = (any_user(random), popular_restaurant(random));
    let (dish, quantity) = (any_dish(restaurant, random), random.random_range(1..=3_u8));
    let cancels = random.random_bool(CANCELS);
    // What people do follows the seed; who asks does not. A key of an earlier run would be answered with that run's order.
    let headers = keyed(&write_key())?;

    let wish = serde_json::json!({
        "user_id": user.to_string(),
        "restaurant_id": restaurant.to_string(),
        "items": [{ "dish_id": dish.to_string(), "quantity": quantity }],
    });
    let answer = client.send(Request::post(QUOTE, "/quote", Some(wish.to_string().into())).keeping_body()).await?;
    let quote: Quote = serde_json::from_slice(&answer.body).map_err(|_| Abandon)?;

    let order = serde_json::json!({
        "user_id": user.to_string(),
        "restaurant_id": restaurant.to_string(),
        "quote_token": quote.quote_token,
        "address": "7 Harbour Street",
    });
    let create = Request::post(CREATE, "/orders", Some(order.to_string().into())).with_headers(&headers).keeping_body();
    let answer = client.send(create).await?;
    let order: Order = serde_json::from_slice(&answer.body).map_err(|_| Abandon)?;
    let detail = format!("/orders/{}", order.order_id);

    client.send(Request::post(PAY, &format!("{detail}/pay"), None).with_headers(&headers)).await?;
    for _ in 0..2 {
        client.think(Duration::from_millis(150)).await?;
        client.send(Request::get(DETAIL, &detail)).await?;
    }
    if cancels {
        // By now the kitchen may have accepted it (409), which is a right answer too.
        let cancel = format!("{detail}/cancel");
        let request = Request { expect_status: &[200, 202, 409], ..Request::post(CANCEL, &cancel, None) };
        client.send(request.with_headers(&headers)).await?;
    }
    Ok(())
}

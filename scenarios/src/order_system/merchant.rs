//! A merchant: looks at what waits in the kitchen, and takes the first orders through to completion.

use serde_json::Value;

use super::{keyed, popular_restaurant, write_key};
use crate::client::{Abandon, Client, Request};

/// Request names, in the order of the constants below.
pub const REQUESTS: &[&str] = &["restaurant orders", "accept order", "deliver order", "confirm order"];
const WAITING: usize = 0;
const ACCEPT: usize = 1;
const DELIVER: usize = 2;
const CONFIRM: usize = 3;

/// Most orders that one look at the kitchen takes.
const TAKES: usize = 2;

/// Runs the journey once.
///
/// # Errors
/// [`Abandon`] when a request failed or the load is over.
pub async fn iterate<C: Client>(client: &mut C) -> Result<(), Abandon> {
    let restaurant = popular_restaurant(client.random());
    let kitchen = format!("/restaurants/{restaurant}/orders");
    let waiting = format!("{kitchen}?state=0&limit=20");
    let answer = client.send(Request::get(WAITING, &waiting).keeping_body()).await?;
    let listed: Value = serde_json::from_slice(&answer.body).map_err(|_| Abandon)?;
    for order in order_ids(&listed).into_iter().take(TAKES) {
        let headers = keyed(&write_key())?;
        let accept = format!("{kitchen}/{order}/accept");
        // Another merchant's device, or the customer's cancellation, may have been faster (409).
        let request = Request { expect_status: &[200, 409], ..Request::post(ACCEPT, &accept, None) };
        if client.send(request.with_headers(&headers)).await?.status == 409 {
            continue;
        }
        let (delivered, confirm) = (format!("/orders/{order}/delivered"), format!("/orders/{order}/confirm"));
        client.send(Request::post(DELIVER, &delivered, None).with_headers(&headers)).await?;
        client.send(Request::post(CONFIRM, &confirm, None).with_headers(&headers)).await?;
    }
    Ok(())
}

/// The orders of a listing, which is a list or has one under `orders`.
fn order_ids(listed: &Value) -> Vec<String> {
    let orders = listed.as_array().or_else(|| listed.get("orders").and_then(Value::as_array));
    orders.into_iter().flatten().filter_map(|order| order.get("order_id")?.as_str().map(str::to_owned)).collect()
}

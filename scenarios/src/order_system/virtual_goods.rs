//! A buyer of virtual goods: orders breakfast tickets or a membership card, pays, and looks until they are delivered.

use std::time::Duration;

use rand::Rng as _;
use serde::Deserialize;
use serde_json::json;

use super::{any_user, keyed, write_key};
use crate::client::{Abandon, Client, Request};

/// Request names, in the order of the constants below.
pub const REQUESTS: &[&str] = &["order virtual goods", "pay virtual goods", "virtual order"];
const CREATE: usize = 0;
const PAY: usize = 1;
const DETAIL: usize = 2;

/// `state`: delivered and done.
const DONE: i64 = 9;
/// How long the app waits before it looks again, and how often it does.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
const LOOKS: u32 = 40;

#[derive(Deserialize)]
struct VirtualOrder {
    vorder_id: i64,
    state: i64,
}

/// Runs the journey once.
///
/// # Errors
/// [`Abandon`] when a request failed, nothing was delivered, or the load is over.
pub async fn iterate<C: Client>(client: &mut C) -> Result<(), Abandon> {
    let random = client.random();
    let (user, quantity) = (any_user(random), random.random_range(1..=3_u8));
    let product = if random.random_bool(0.8) { "breakfast_ticket" } else { "membership_card" };
    let key = keyed(&write_key())?;
    let wish = json!({ "user_id": user.to_string(), "product": product, "quantity": quantity });
    let create = Request::post(CREATE, "/vorders", Some(wish.to_string().into())).keeping_body();
    let answer = client.send(create.with_headers(&key)).await?;
    let order: VirtualOrder = serde_json::from_slice(&answer.body).map_err(|_| Abandon)?;
    let path = format!("/vorders/{}", order.vorder_id);
    client.send(Request::post(PAY, &format!("{path}/pay"), None).with_headers(&key)).await?;
    for _ in 0..LOOKS {
        client.think(LOOK_AGAIN).await?;
        let answer = client.send(Request::get(DETAIL, &path).keeping_body()).await?;
        let order: VirtualOrder = serde_json::from_slice(&answer.body).map_err(|_| Abandon)?;
        if order.state == DONE {
            return Ok(());
        }
    }
    Err(Abandon)
}

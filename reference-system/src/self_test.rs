//! The self-test: one order through every hop, from quote to completed.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method};
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};

use crate::config::now_ms;
use crate::ids::UserId;
use crate::orders::ASSIGNED;
use crate::orders::lifecycle::Status;
use crate::population::{Population, USERS, dish_id};
use crate::rpc::budget::REQUEST;
use crate::rpc::caller::{exchange, http_client};

/// How often a status is asked for.
const POLL: Duration = Duration::from_millis(15);

/// Sends the order. The error says which step failed. Bounded by the caller.
pub(crate) async fn run(gateway: SocketAddr, seed: u64) -> Result<(), String> {
    let client = http_client(Duration::from_secs(1));
    let test = SelfTest { client, gateway };
    // The last user, at the least popular restaurant.
    let (user, restaurant) = (UserId(USERS), Population::new(seed).restaurant_at(1.0));
    test.get(&format!("/restaurants/{restaurant}/menu")).await?;
    let items = json!([{ "dish_id": dish_id(restaurant, 1), "quantity": 1 }]);
    let wish = json!({ "user_id": user, "restaurant_id": restaurant, "items": items });
    let quote = test.post("/quote", wish).await?;
    let create = json!({
        "user_id": user, "restaurant_id": restaurant, "quote_token": quote["quote_token"],
        "address": "self-test",
    });
    let order = test.post("/orders", create).await?;
    let id = order["order_id"].as_str().ok_or("the created order has no ID")?.to_owned();
    test.post(&format!("/orders/{id}/pay"), Value::Null).await?;
    // Callback, task row, merchant row and dispatch.
    while test.get(&format!("/orders/{id}")).await?["status"] != Status::Waiting.code() {
        tokio::time::sleep(POLL).await;
    }
    test.post(&format!("/restaurants/{restaurant}/orders/{id}/accept"), Value::Null).await?;
    // The task that finds a courier.
    while test.get(&format!("/orders/{id}")).await?["delivery_status"] != ASSIGNED {
        tokio::time::sleep(POLL).await;
    }
    test.post(&format!("/courier/{id}/picked"), Value::Null).await?;
    test.post(&format!("/courier/{id}/done"), Value::Null).await?;
    let done = test.post(&format!("/orders/{id}/confirm"), Value::Null).await?;
    if done["status"] != Status::Completed.code() {
        return Err(format!("the self-test order ended with status {}", done["status"]));
    }
    // Stock and settlement.
    while test.get(&format!("/orders/{id}")).await?["settled_at_ms"].is_null() {
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

struct SelfTest {
    client: Client<HttpConnector, Full<Bytes>>,
    gateway: SocketAddr,
}

impl SelfTest {
    async fn get(&self, path: &str) -> Result<Value, String> {
        self.send(Method::GET, path, Bytes::new()).await
    }

    async fn post(&self, path: &str, body: Value) -> Result<Value, String> {
        self.send(Method::POST, path, Bytes::from(body.to_string())).await
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Value, String> {
        let uri = format!("http://{}{path}", self.gateway);
        let key = format!("self-test-{}-{}", std::process::id(), now_ms());
        let key = HeaderValue::from_str(&key).map_err(|error| error.to_string())?;
        let sent = exchange(&self.client, method, &uri, body, |headers| {
            headers.insert(REQUEST, key);
        });
        let (status, answer) = sent.await.map_err(|broken| format!("the gateway's connection: {broken:?}"))?;
        if !status.is_success() {
            return Err(format!("{path} answered {status}: {}", String::from_utf8_lossy(&answer)));
        }
        serde_json::from_slice(&answer).map_err(|error| format!("{path}: {error}"))
    }
}

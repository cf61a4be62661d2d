//! The self-test: one order and one virtual order through every hop, from quote to refund, and what was to come of them.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::config::{SystemConfig, now_ms};
use crate::ids::UserId;
use crate::kv::Purpose;
use crate::kv::client::{Kv, KvError};
use crate::orders::ASSIGNED;
use crate::orders::event::event_id;
use crate::orders::lifecycle::Status;
use crate::population::{Population, USERS, dish_id};
use crate::rpc::budget::REQUEST;
use crate::rpc::caller::{HttpClient, exchange, http_client};

/// How often a status is asked for.
const POLL: Duration = Duration::from_millis(15);
/// How long a key-value server may take to answer: whoever is ready has answered, but the machine may be busy.
const KEY_ANSWER: Duration = Duration::from_secs(10);
/// How many payments may fail, where some are meant to.
const TRIES: u32 = 8;
/// `orders.refund_status`: the money is back.
const REFUNDED: i64 = 6;
/// `vorders.state`: done.
const DONE: i64 = 9;

/// Runs it. The error says which step failed, or what was answered last when time was over.
pub(crate) async fn run(config: &SystemConfig, deadline: Instant) -> Result<(), String> {
    let test = SelfTest { client: http_client(Duration::from_secs(1)), config, last: Mutex::default() };
    let all = async { tokio::try_join!(test.order(), test.virtual_order(), test.keys()) };
    match tokio::time::timeout_at(deadline, all).await {
        Ok(done) => done.map(|_| ()),
        Err(_) => {
            let last = test.last.lock().unwrap_or_else(PoisonError::into_inner);
            Err(format!("the self-test did not get through in time; it heard last: {last}"))
        }
    }
}

struct SelfTest<'a> {
    client: HttpClient,
    config: &'a SystemConfig,
    /// What was heard last of a request that is under way.
    last: Mutex<String>,
}

impl SelfTest<'_> {
    /// An order's whole life, and a part of its price back. The last user orders at the least popular restaurant.
    async fn order(&self) -> Result<(), String> {
        let (user, restaurant) = (UserId(USERS), Population::new(self.config.seed).restaurant_at(1.0));
        self.get(&format!("/restaurants/{restaurant}/menu")).await?;
        let items = json!([{ "dish_id": dish_id(restaurant, 1), "quantity": 1 }]);
        let wish = json!({ "user_id": user, "restaurant_id": restaurant, "items": items });
        let id = self.paid(wish).await?;
        self.post(&format!("/restaurants/{restaurant}/orders/{id}/accept"), Value::Null).await?;
        // The task that finds a courier.
        let accepted = self.order_has(&id, |order| order["delivery_status"] == ASSIGNED).await?;
        self.post(&format!("/courier/{id}/picked"), Value::Null).await?;
        self.post(&format!("/courier/{id}/done"), Value::Null).await?;
        self.post(&format!("/orders/{id}/confirm"), Value::Null).await?;
        // Stock and settlement, then the reverse flow.
        self.order_has(&id, |order| !order["settled_at_ms"].is_null()).await?;
        let wanted = json!({ "order": id, "amount_fen": 1, "reason": "self-test" });
        let refund = self.post("/refunds", wanted).await?;
        self.post(&format!("/refunds/{}/approve", refund["refund_no"]), Value::Null).await?;
        let refunded = self.order_has(&id, |order| order["refund_status"] == REFUNDED).await?;
        // Whoever is told of events has been told.
        if self.switch_of("bus.emit").await? == "off" {
            return Ok(());
        }
        for (service, order) in [("sms", &accepted), ("auditor", &refunded)] {
            let version = order["version"].as_i64().unwrap_or_default();
            let event = event_id(id.parse().unwrap_or_default(), version);
            let inbox = format!("/inbox/{event}");
            while self.ask(service, Method::GET, &inbox, Bytes::new()).await?["effects"] != 1 {
                tokio::time::sleep(POLL).await;
            }
        }
        Ok(())
    }

    /// Makes an order and pays it until its merchant has it: callback, task row, merchant row and dispatch. The ID.
    async fn paid(&self, wish: Value) -> Result<String, String> {
        for _ in 0..TRIES {
            let quote = self.post("/quote", wish.clone()).await?;
            let create = json!({
                "user_id": wish["user_id"], "restaurant_id": wish["restaurant_id"],
                "quote_token": quote["quote_token"], "address": "self-test",
            });
            let order = self.post("/orders", create).await?;
            let id = order["order_id"].as_str().ok_or("the created order has no ID")?.to_owned();
            self.post(&format!("/orders/{id}/pay"), Value::Null).await?;
            let is = |order: &Value, status: Status| order["status"] == status.code();
            let order = self.order_has(&id, |order| is(order, Status::Waiting) || is(order, Status::Closed)).await?;
            if is(&order, Status::Waiting) {
                return Ok(id);
            }
        }
        Err(format!("{TRIES} payments failed, one after the other"))
    }

    async fn order_has(&self, id: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value, String> {
        loop {
            let order = self.get(&format!("/orders/{id}")).await?;
            if wanted(&order) {
                return Ok(order);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn virtual_order(&self) -> Result<(), String> {
        let wanted = json!({ "user_id": USERS, "product": "breakfast_ticket", "quantity": 1 });
        let order = self.post("/vorders", wanted).await?;
        let id = &order["vorder_id"];
        self.post(&format!("/vorders/{id}/pay"), Value::Null).await?;
        while self.get(&format!("/vorders/{id}")).await?["state"] != DONE {
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Each key-value server keeps what it is given.
    async fn keys(&self) -> Result<(), String> {
        for purpose in Purpose::ALL {
            let kv = Kv::new(&self.config.key_values, purpose, KEY_ANSWER);
            let kept = async {
                kv.put("self-test", b"kept", Duration::from_secs(60)).await?;
                let kept = kv.get("self-test").await?;
                kv.remove(&["self-test".to_owned()]).await?;
                Ok::<_, KvError>(kept)
            };
            match kept.await {
                Ok(Some(kept)) if kept == b"kept" => {}
                Ok(_) => return Err(format!("{purpose} did not keep what it was given")),
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(())
    }

    async fn switch_of(&self, name: &str) -> Result<String, String> {
        let view = self.ask("reg", Method::GET, &format!("/switch/{name}"), Bytes::new()).await?;
        Ok(view["value"].as_str().unwrap_or_default().to_owned())
    }

    async fn get(&self, path: &str) -> Result<Value, String> {
        self.ask("gw", Method::GET, path, Bytes::new()).await
    }

    async fn post(&self, path: &str, body: Value) -> Result<Value, String> {
        self.ask("gw", Method::POST, path, Bytes::from(body.to_string())).await
    }

    /// Asks the first instance of a service. Requests have keys, so what was not answered well is sent again.
    async fn ask(&self, service: &str, method: Method, path: &str, body: Bytes) -> Result<Value, String> {
        let plan = self.config.first(service).ok_or_else(|| format!("there is no {service}"))?;
        let uri = format!("http://{}{path}", plan.address);
        let key = format!("self-test-{}-{}", std::process::id(), now_ms());
        let key = HeaderValue::from_str(&key).map_err(|error| error.to_string())?;
        // A step of something that is there already; anything else makes something, and its answer is wanted.
        let is_step = method == Method::POST && body.as_ref() == b"null";
        let mut repeated = false;
        loop {
            let sent = exchange(&self.client, method.clone(), &uri, body.clone(), |headers| {
                headers.insert(REQUEST, key.clone());
            });
            let heard = match sent.await {
                Ok((status, answer)) if status.is_success() => {
                    return serde_json::from_slice(&answer).map_err(|error| format!("{path}: {error}"));
                }
                // The first try has done it.
                Ok((StatusCode::CONFLICT, _)) if repeated && is_step => return Ok(Value::Null),
                Ok((status, answer)) => {
                    let heard = format!("{path} answered {status}: {}", String::from_utf8_lossy(&answer));
                    // The first try may still be at it.
                    if status.is_client_error() && !(repeated && status == StatusCode::CONFLICT) {
                        return Err(heard);
                    }
                    heard
                }
                Err(broken) => format!("the connection to {service}: {broken:?}"),
            };
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = heard;
            repeated = true;
            tokio::time::sleep(POLL).await;
        }
    }
}

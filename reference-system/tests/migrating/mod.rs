//! A system with an old order table, commands to move it, and customers who go on ordering.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "a module of tests, of which each file uses a part")]

use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reference_system::Tier;
use reference_system::audit::{AuditReport, Finding};
use reference_system::ids::{SlotHash, UserId, group};
use serde_json::{Value, json};

use crate::world::{self, World, id_of};

/// A system with an old order table.
pub async fn start(tier: Tier, respawn_after: Duration) -> World {
    World::start_with(|options| {
        (options.tier, options.migration, options.respawn_after) = (tier, true, respawn_after);
    })
    .await
}

pub fn command(world: &World, args: &[&str]) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(world::launcher().program);
    command.arg("migrate").args(args).arg("--dir").arg(&world.system.state().dir).stdin(Stdio::null());
    command.kill_on_drop(true).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What `migrate` prints, or why it failed.
pub async fn migrate(world: &World, args: &[&str]) -> Result<String, String> {
    let output = command(world, args).output().await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

pub async fn status(world: &World) -> Value {
    world.ask("GET", "mig", "/migration", None).await.1
}

/// How many orders a store has.
pub async fn orders_in(world: &World, store: &str) -> i64 {
    world.ask("GET", store, "/migration/state", None).await.1["orders"].as_i64().unwrap()
}

/// The store of the new side that holds a user's orders.
pub fn new_store(user: i64) -> &'static str {
    if group(SlotHash::default().user_shard(UserId(user))) == 0 { "st-u0" } else { "st-u1" }
}

/// An order as one side has it, whoever decides.
pub async fn side(world: &World, store: &str, id: &str) -> Option<Value> {
    let (status, order) = world.ask("GET", store, &format!("/migration/orders/{id}"), None).await;
    (status == 200).then_some(order)
}

/// Orders that go on all the time, and the record of what was acknowledged.
pub struct Load {
    stop: Arc<AtomicBool>,
    record: Arc<Mutex<Vec<Value>>>,
    customers: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    /// `first` has the record; each customer orders for users of his own.
    pub fn start(first: &Customer, customers: i64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let record = Arc::clone(&first.record);
        let customers = (1..=customers)
            .map(|number| {
                let customer = first.clone();
                let stop = Arc::clone(&stop);
                tokio::spawn(async move {
                    for round in 0.. {
                        if stop.load(Ordering::Relaxed) {
                            return;
                        }
                        customer.order(number * 100 + round, 20 + (number + round) % 7).await;
                    }
                })
            })
            .collect();
        Self { stop, record, customers }
    }

    /// Lets every customer come to an end. Gives the record, a line for each write.
    pub async fn end(self) -> String {
        self.stop.store(true, Ordering::Relaxed);
        for customer in self.customers {
            customer.await.unwrap();
        }
        lines(&self.record)
    }
}

/// A line for each write.
pub fn lines(record: &Mutex<Vec<Value>>) -> String {
    record.lock().unwrap().iter().map(|write| format!("{write}\n")).collect()
}

#[derive(Clone)]
pub struct Customer {
    http: reqwest::Client,
    gateway: String,
    pub record: Arc<Mutex<Vec<Value>>>,
    requests: Arc<AtomicI64>,
}

impl Customer {
    pub fn of(world: &World) -> Self {
        Self {
            http: world.http.clone(),
            gateway: world.system.state().gateway.clone(),
            record: Arc::default(),
            requests: Arc::new(AtomicI64::new(1)),
        }
    }

    /// Makes an order, and leaves it unpaid.
    pub async fn create(&self, user: i64, restaurant: i64) -> Option<String> {
        let wish = json!({
            "user_id": user, "restaurant_id": restaurant, "items": [{ "dish_id": restaurant * 100 + 1, "quantity": 1 }],
        });
        let quote = self.write("/quote", &wish).await?;
        let create = json!({
            "user_id": user, "restaurant_id": restaurant, "address": "1 Load Road", "quote_token": quote["quote_token"],
        });
        Some(id_of(&self.write("/orders", &create).await?))
    }

    pub async fn get(&self, path: &str) -> Option<Value> {
        let answer = self.http.get(format!("{}{path}", self.gateway)).send().await.ok()?;
        if answer.status().is_success() { answer.json().await.ok() } else { None }
    }

    /// Sends a write until it is acknowledged or refused; each try is put down.
    pub async fn write(&self, path: &str, body: &Value) -> Option<Value> {
        let key = format!("load-{}", self.requests.fetch_add(1, Ordering::Relaxed));
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let request = self.http.post(format!("{}{path}", self.gateway)).header("x-req-id", &key);
            let (status, answer) = match request.body(body.to_string()).send().await {
                Ok(answer) => (answer.status().as_u16(), answer.json().await.unwrap_or(Value::Null)),
                Err(_) => (0, Value::Null),
            };
            let outcome = match status {
                200 => "ok",
                400..500 => "fail",
                _ => "info",
            };
            let write = json!({
                "method": "POST", "path": path, "key": key, "outcome": outcome, "status": status, "answer": answer,
            });
            self.record.lock().unwrap().push(write);
            match outcome {
                "ok" => return Some(answer),
                // An earlier try may have come through: what the order says then decides.
                "fail" => return None,
                _ => assert!(Instant::now() < deadline, "{path} was never answered: {status} {answer}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub async fn has(&self, id: &str, what: &str, as_wanted: impl Fn(&Value) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(40);
        loop {
            let order = self.get(&format!("/orders/{id}")).await;
            if order.as_ref().is_some_and(&as_wanted) {
                return;
            }
            assert!(Instant::now() < deadline, "never: order {id} {what}: {order:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// One order, from its quote to its completion.
    pub async fn order(&self, user: i64, restaurant: i64) {
        let Some(id) = self.create(user, restaurant).await else { return };
        self.write(&format!("/orders/{id}/pay"), &Value::Null).await;
        self.has(&id, "waits for its merchant", |order| order["status"].as_i64() == Some(0)).await;
        self.write(&format!("/restaurants/{restaurant}/orders/{id}/accept"), &Value::Null).await;
        self.write(&format!("/orders/{id}/delivered"), &Value::Null).await;
        self.write(&format!("/orders/{id}/confirm"), &Value::Null).await;
        self.has(&id, "is completed", |order| order["status"].as_i64() == Some(9)).await;
    }
}

pub async fn audit_with(world: &World, record: &str) -> AuditReport {
    let url = format!("{}/audit?quiesce_ms=30000", world.system.state().auditor);
    let answer = world.http.post(url).body(record.to_owned()).send().await.unwrap();
    serde_json::from_str(&answer.text().await.unwrap()).unwrap()
}

pub fn finding<'a>(report: &'a AuditReport, id: &str) -> &'a Finding {
    report.invariants.iter().find(|finding| finding.id == id).unwrap_or_else(|| panic!("no {id}"))
}

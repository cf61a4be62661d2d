//! What a directory's seed makes, and past orders of that seed: each goes through its whole life by the gateway, the same
//! ones whenever they are asked for, so that lists, migrations and audits have something to work on.

mod past_order;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use http::{HeaderValue, Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;

use self::past_order::{PastOrder, Step};
use crate::config::{Layout, SystemConfig};
use crate::error::SystemError;
use crate::orders::Order;
use crate::orders::lifecycle::Status;
use crate::population::{COUPONS, DISHES_PER_RESTAURANT, OPENING_WALLET_FEN, Population, RESTAURANTS, USERS};
use crate::rpc::budget::REQUEST;
use crate::rpc::caller::{HttpClient, exchange, http_client};
use crate::rpc::failure::FailureBody;
use crate::switching;

/// How many orders are under way at the same time.
const UNDER_WAY: usize = 48;
/// How often an order is asked for that waits for the system.
const POLL: Duration = Duration::from_millis(50);
/// Pause after an answer that says to come again.
const AGAIN: Duration = Duration::from_millis(200);
/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long an order may stand still.
const STANDSTILL: Duration = Duration::from_secs(120);
/// How often progress is told.
const TELL: Duration = Duration::from_secs(1);

/// What a seed makes, and what became of the past orders that were asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seeded {
    /// The seed.
    pub seed: u64,
    /// Users, numbered from 1.
    pub users: i64,
    /// Restaurants, numbered from 1.
    pub restaurants: i64,
    /// Dishes of all restaurants.
    pub dishes: i64,
    /// Portions of all dishes at first.
    pub portions: i64,
    /// Coupons, numbered from 1, each for one use by its owner.
    pub coupons: i64,
    /// What all coupons take off together, in fen.
    pub coupons_fen: i64,
    /// What all wallets hold at first, in fen.
    pub wallets_fen: i64,
    /// The past orders, if some were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orders: Option<PastOrders>,
}

/// What became of past orders.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastOrders {
    /// How many were asked for.
    pub asked: u64,
    /// How many were brought to their end now.
    pub made: u64,
    /// How many had come to their end before.
    pub found: u64,
    /// How many ended in which status.
    pub by_status: BTreeMap<i64, u64>,
    /// How many the system refused, by the code of its answer.
    pub refused: BTreeMap<String, u64>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// How far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Orders that have come to their end.
    pub done: u64,
    /// Orders that were asked for.
    pub asked: u64,
    /// Orders that came to their end in the last second.
    pub lately: u64,
}

/// How one order ended.
enum Ended {
    Made(Status),
    Found(Status),
    Refused(String),
}

/// Tells what the seed of a directory makes, and puts its first `orders` past orders into the running system. They have
/// their own request keys, so the system itself knows which of them it has already; whatever cut the last run short, the
/// next one goes on.
///
/// # Errors
///
/// [`SystemError::NoSystem`] if there is none (running, if orders are asked for), [`SystemError::Seeding`] if the system
/// does not bring an order to its end.
pub async fn seed(dir: &Path, orders: Option<u64>, tell: impl Fn(&Progress)) -> Result<Seeded, SystemError> {
    let layout = Layout::new(dir);
    let config = SystemConfig::read(&layout).map_err(|_| SystemError::NoSystem { dir: dir.to_owned() })?;
    let population = Population::new(config.seed);
    let mut seeded = count(&population, config.stock_per_dish);
    if let Some(asked) = orders {
        let gateway = switching::running(dir)?.gateway;
        seeded.orders = Some(put_in(&population, &gateway, asked, tell).await?);
    }
    Ok(seeded)
}

fn count(population: &Population, stock_per_dish: Option<i64>) -> Seeded {
    let restaurants = (1..=RESTAURANTS).map(crate::ids::RestaurantId);
    let dishes = restaurants.flat_map(|restaurant| population.menu(restaurant));
    let portions = dishes.map(|dish| stock_per_dish.unwrap_or_else(|| population.opening_stock(dish.dish_id))).sum();
    let coupons = (1..=COUPONS).filter_map(|id| population.coupon(crate::ids::CouponId(id)));
    Seeded {
        seed: population.seed(),
        users: USERS,
        restaurants: RESTAURANTS,
        dishes: RESTAURANTS * DISHES_PER_RESTAURANT,
        portions,
        coupons: COUPONS,
        coupons_fen: coupons.map(|coupon| coupon.amount_fen).sum(),
        wallets_fen: USERS * OPENING_WALLET_FEN,
        orders: None,
    }
}

async fn put_in(
    population: &Population,
    gateway: &str,
    asked: u64,
    tell: impl Fn(&Progress),
) -> Result<PastOrders, SystemError> {
    let client = SeedClient { client: http_client(Duration::from_secs(1)), gateway };
    let lives = futures::stream::iter(0..asked).map(|number| client.live(PastOrder::of(population, number)));
    let mut lives = std::pin::pin!(lives.buffer_unordered(UNDER_WAY));
    let mut outcome = PastOrders { asked, ..PastOrders::default() };
    let (began, mut told, mut told_at) = (Instant::now(), 0, Instant::now());
    let mut done = 0;
    while let Some(ended) = lives.next().await {
        match ended? {
            Ended::Made(status) => {
                outcome.made += 1;
                *outcome.by_status.entry(status.code()).or_default() += 1;
            }
            Ended::Found(status) => {
                outcome.found += 1;
                *outcome.by_status.entry(status.code()).or_default() += 1;
            }
            Ended::Refused(code) => *outcome.refused.entry(code).or_default() += 1,
        }
        done += 1;
        if told_at.elapsed() >= TELL {
            tell(&Progress { done, asked, lately: done - told });
            (told, told_at) = (done, Instant::now());
        }
    }
    outcome.took_ms = began.elapsed().as_millis() as u64;
    Ok(outcome)
}

struct SeedClient<'a> {
    client: HttpClient,
    gateway: &'a str,
}

impl SeedClient<'_> {
    /// Makes an order, or finds it, and takes it to its end.
    async fn live(&self, past: PastOrder) -> Result<Ended, SystemError> {
        let mut order = match self.create(&past).await? {
            Ok(order) => order,
            Err(code) => return Ok(Ended::Refused(code)),
        };
        let mut is_new = false;
        let mut moved_at = Instant::now();
        loop {
            let before = order.revision;
            match past.next(&order) {
                Step::Done => {
                    return Ok(if is_new { Ended::Made(order.status) } else { Ended::Found(order.status) });
                }
                Step::Wait => tokio::time::sleep(POLL).await,
                // Whatever is answered, the order itself tells how it stands.
                Step::Post(path, body) => drop(self.send(Method::POST, &path, &body, &past.key).await?),
            }
            is_new = true;
            let path = format!("/orders/{}", order.order_id);
            match self.send(Method::GET, &path, &Value::Null, &past.key).await? {
                Ok(answer) => order = parse(answer, &path)?,
                Err(failure) => return Err(stuck(&format!("{path} answered: {}", failure.error))),
            }
            if order.revision != before {
                moved_at = Instant::now();
            } else if moved_at.elapsed() >= STANDSTILL {
                return Err(stuck(&format!("order {} stands still at {}", order.order_id, order.status.code())));
            }
        }
    }

    /// The order of a past order's key, made now or before; or why there is none.
    async fn create(&self, past: &PastOrder) -> Result<Result<Order, String>, SystemError> {
        let mut coupon_id = past.coupon_id;
        loop {
            let quote = match self.send(Method::POST, "/quote", &past.wish(coupon_id), &past.key).await? {
                Ok(quote) => quote,
                Err(failure) => return Ok(Err(failure.code.into_owned())),
            };
            let body = json!({
                "user_id": past.user_id, "restaurant_id": past.restaurant_id,
                "quote_token": quote["quote_token"], "address": "the past",
            });
            match self.send(Method::POST, "/orders", &body, &past.key).await? {
                Ok(order) => return Ok(Ok(parse(order, "/orders")?)),
                // Somebody else had it.
                Err(failure) if failure.code == "coupon_taken" && coupon_id.is_some() => coupon_id = None,
                Err(failure) => return Ok(Err(failure.code.into_owned())),
            }
        }
    }

    /// Sends until there is an answer that is more than "not now". The inner error is a refusal.
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: &Value,
        key: &str,
    ) -> Result<Result<Value, FailureBody>, SystemError> {
        let deadline = Instant::now() + STANDSTILL;
        let uri = format!("{}{path}", self.gateway);
        let key = HeaderValue::from_str(key).map_err(|error| stuck(&error.to_string()))?;
        loop {
            let text = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
            let sent = exchange(&self.client, method.clone(), &uri, text, |headers| {
                headers.insert(REQUEST, key.clone());
            });
            let why = match tokio::time::timeout(PATIENCE, sent).await {
                Ok(Ok((status, answer))) if status.is_success() => return Ok(Ok(parse_bytes(&answer, path)?)),
                Ok(Ok((status, answer))) if status.is_client_error() && status != StatusCode::REQUEST_TIMEOUT => {
                    return Ok(Err(parse_bytes(&answer, path)?));
                }
                Ok(Ok((status, answer))) => format!("{status}: {}", String::from_utf8_lossy(&answer)),
                Ok(Err(broken)) => format!("the connection: {broken:?}"),
                Err(_) => "nothing".to_owned(),
            };
            if Instant::now() >= deadline {
                return Err(stuck(&format!("{path} was answered for too long with {why}")));
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}

fn stuck(why: &str) -> SystemError {
    SystemError::Seeding { why: why.to_owned() }
}

fn parse<T: serde::de::DeserializeOwned>(answer: Value, path: &str) -> Result<T, SystemError> {
    serde_json::from_value(answer).map_err(|error| stuck(&format!("the answer to {path} cannot be read: {error}")))
}

fn parse_bytes<T: serde::de::DeserializeOwned>(answer: &[u8], path: &str) -> Result<T, SystemError> {
    serde_json::from_slice(answer).map_err(|error| stuck(&format!("the answer to {path} cannot be read: {error}")))
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} orders, {}/s", self.done, self.asked, self.lately)
    }
}

impl fmt::Display for Seeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let yuan = |fen: i64| format!("{}.{:02}", fen / 100, fen % 100);
        writeln!(f, "seed         {}", self.seed)?;
        writeln!(f, "users        {}, with {} yuan in their wallets", self.users, yuan(self.wallets_fen))?;
        writeln!(f, "restaurants  {}", self.restaurants)?;
        writeln!(f, "dishes       {}, of which {} portions", self.dishes, self.portions)?;
        write!(f, "coupons      {}, worth {} yuan", self.coupons, yuan(self.coupons_fen))?;
        let Some(orders) = &self.orders else { return Ok(()) };
        let seconds = orders.took_ms as f64 / 1_000.0;
        write!(
            f,
            "\npast orders  {}: {} made now, {} found, in {seconds:.1} s",
            orders.asked, orders.made, orders.found
        )?;
        let told = |status: i64| match Status::from_code(status) {
            Some(Status::Completed) => "completed",
            Some(Status::Cancelled) => "cancelled",
            _ => "closed",
        };
        for (status, count) in &orders.by_status {
            write!(f, "\n             {count} {} ({status})", told(*status))?;
        }
        for (code, count) in &orders.refused {
            write!(f, "\n             {count} refused: {code}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_seed_makes_is_told_in_numbers() {
        let seeded = count(&Population::new(1), Some(50));
        assert_eq!((seeded.users, seeded.dishes, seeded.portions), (5_000, 40_000, 2_000_000));
        assert_eq!(seeded.wallets_fen, 5_000_000_000);
        assert!(seeded.coupons_fen > 20_000 * 200 && seeded.coupons_fen < 20_000 * 700);
        assert_ne!(count(&Population::new(2), None).portions, count(&Population::new(1), None).portions);
        let text = seeded.to_string();
        assert!(text.contains("5000, with 50000000.00 yuan in their wallets"), "{text}");
        let past = PastOrders { asked: 3, made: 2, by_status: [(9, 2)].into(), ..PastOrders::default() };
        let past = PastOrders { refused: [("sold_out".to_owned(), 1)].into(), took_ms: 1_500, ..past };
        let text = Seeded { orders: Some(past), ..seeded }.to_string();
        assert!(text.contains("3: 2 made now, 0 found, in 1.5 s"), "{text}");
        assert!(text.contains("2 completed (9)") && text.contains("1 refused: sold_out"), "{text}");
    }
}

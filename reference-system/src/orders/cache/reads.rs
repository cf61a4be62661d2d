//! Reading orders through the cache, as `cache.design` has it: the order pool's side.
//!
//! The cache may be away, slow, full or empty, and nobody is refused for that: what it does not give is read from the
//! store, one read for all who ask for the same, and only so many at a time. What it gives is believed if the store of that
//! order vouches for it (`vouchers`).

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::flights::Flights;
use super::vouchers::{good_for, is_good, voucher_key};
use super::{
    Copied, Counts, Index, Kind, LIFE, LONGEST_INDEX, copy_of, index_key, index_of, order_key, spread, telling,
    telling_of_nothing,
};
use crate::config::now_ms;
use crate::ids::{GROUPS, OrderId, UserId};
use crate::kv::Purpose;
use crate::kv::client::{Kv, KvClients, KvError};
use crate::kv::script::{NEWER, REPLACE};
use crate::migration::routing::{self, stores_with_work};
use crate::orders::Order;
use crate::orders::service::Orders;
use crate::rpc::{Budget, CallError, Failure};
use crate::switches::CacheDesign;

/// How many reads an instance may have under way at the stores because the cache had no answer.
const MOST_STORE_READS: usize = 16;
/// How long a read waits for its turn at the stores before it is refused.
const TURN_WITHIN: Duration = Duration::from_millis(250);
/// How long who fills an index has for it.
const LEASE: Duration = Duration::from_secs(2);
/// How long whole answers are kept (`cache.design = api_sliding`).
const LIFE_OF_ANSWERS: Duration = Duration::from_secs(600);
/// Time filters of lists are rounded down to this, so that callers with slightly different ones share an answer.
const BUCKET_MS: i64 = 300_000;
/// How often a cache that did not answer is asked again.
const LOOK: Duration = Duration::from_millis(250);

/// Orders as clients read them.
pub(crate) struct OrderReads {
    orders: Orders,
    kv: KvClients,
    instance: String,
    leases: AtomicU64,
    /// When a cache that did not answer is looked for.
    away_until: Mutex<Option<Instant>>,
    /// The keys of the vouchers of all stores: of the groups, and of the old table in a migration.
    vouchers: Vec<String>,
    good_for: Duration,
    details: Flights<OrderId, Result<Order, Failure>>,
    lists: Flights<UserId, Result<Vec<Order>, Failure>>,
    store: Semaphore,
    counts: Counts,
    refused: AtomicU64,
}

/// What the cache has, and who vouches for it.
struct Kept {
    values: Vec<Option<Vec<u8>>>,
    /// Whether the voucher of each store is good, in the order of [`OrderReads::vouchers`].
    vouched: Vec<bool>,
}

impl Kept {
    /// Whether the store of this group vouches, or all stores do if it is nobody's; in a migration the old one as well.
    fn is_vouched(&self, group: Option<u16>) -> bool {
        let old = &self.vouched[usize::from(GROUPS)..];
        let groups = &self.vouched[..usize::from(GROUPS)];
        let asked = group.map_or(groups, |group| &groups[usize::from(group)..=usize::from(group)]);
        asked.iter().chain(old).all(|good| *good)
    }
}

impl OrderReads {
    pub(crate) fn new(orders: Orders, kv: KvClients, instance: &str) -> Self {
        let vouchers = stores_with_work(&orders.config).into_iter().map(voucher_key).collect();
        let good_for = good_for(&orders.config.timeouts);
        Self {
            orders,
            kv,
            instance: instance.to_owned(),
            leases: AtomicU64::default(),
            away_until: Mutex::default(),
            vouchers,
            good_for,
            details: Flights::default(),
            lists: Flights::default(),
            store: Semaphore::new(MOST_STORE_READS),
            counts: Counts::default(),
            refused: AtomicU64::default(),
        }
    }

    /// The lines of `/metrics`.
    pub(crate) fn write(&self, out: &mut String) {
        self.counts.write(&self.instance, out);
        let (name, refused) = ("cache_store_reads_refused_total", self.refused.load(Ordering::Relaxed));
        // Writing to a String cannot fail.
        let _ = writeln!(out, "# TYPE {name} counter\n{name}{{instance=\"{}\"}} {refused}", self.instance);
    }

    /// One order.
    pub(crate) async fn order(&self, order_id: OrderId, budget: &Budget) -> Result<Order, Failure> {
        // Single orders were not cached when answers were.
        if self.design() != CacheDesign::ObjectIndex {
            return Ok(self.orders.read(order_id, budget).await?);
        }
        let kept = self.kept(Kind::Object, vec![order_key(order_id)]).await;
        if let Some(kept) = &kept
            && let Some((_, Copied { order, .. })) = kept.values.first().and_then(|value| copy_of(value.as_deref()?))
            && kept.is_vouched(order.as_ref().map(|order| self.orders.group_of(order.user_id)))
        {
            self.counts.hit(Kind::Object);
            return order.ok_or_else(|| Failure::not_found(format!("there is no order {order_id}")));
        }
        self.counts.miss(Kind::Object);
        let read = async {
            let _turn = self.turn(budget).await?;
            let read = self.orders.read(order_id, &self.own_budget(budget)).await;
            if kept.is_some() {
                match &read {
                    Ok(order) => self.keep(&[telling(order)]).await,
                    Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => {
                        self.keep(&[telling_of_nothing(order_id)]).await;
                    }
                    Err(_) => {}
                }
            }
            Ok(read?)
        };
        self.details.share(order_id, read).await
    }

    /// The latest orders of a user that were created at `since` or later.
    pub(crate) async fn list(
        &self,
        user_id: UserId,
        since: i64,
        limit: usize,
        budget: &Budget,
    ) -> Result<Value, Failure> {
        match self.design() {
            CacheDesign::None => Ok(self.stored(user_id, since, limit, budget).await?),
            CacheDesign::ApiSliding => self.answer(user_id, since, limit, budget).await,
            CacheDesign::ObjectIndex => {
                let since = since.div_euclid(BUCKET_MS).saturating_mul(BUCKET_MS);
                if limit > LONGEST_INDEX {
                    let _turn = self.turn(budget).await?;
                    return Ok(self.stored(user_id, since, limit, budget).await?);
                }
                let mut latest = self.latest(user_id, budget).await?;
                latest.retain(|order| order.created_at_ms >= since);
                latest.truncate(limit);
                serde_json::to_value(latest).map_err(|error| Failure::unavailable("bad_answer", error.to_string()))
            }
        }
    }

    fn design(&self) -> CacheDesign {
        self.orders.caller.in_force().cache_design
    }

    fn cache(&self) -> &Kv {
        self.kv.of(Purpose::Cache)
    }

    /// What many wait for must not end with the time of the one who asked first.
    fn own_budget(&self, budget: &Budget) -> Budget {
        budget.renewed(Duration::from_millis(self.orders.config.timeouts.order_ms))
    }

    async fn stored<T: DeserializeOwned>(
        &self,
        user_id: UserId,
        since: i64,
        limit: usize,
        budget: &Budget,
    ) -> Result<T, CallError> {
        let path = format!("/users/{user_id}/orders?since={since}&limit={limit}");
        routing::get(&self.orders.caller, self.orders.group_of(user_id), &path, budget).await
    }

    /// The historic cache: an answer is kept under everything that it was asked with, the current second among it, so
    /// that hardly anybody finds it again, and nobody removes it when an order changes.
    async fn answer(&self, user_id: UserId, since: i64, limit: usize, budget: &Budget) -> Result<Value, Failure> {
        let second = now_ms() / 1_000;
        let key = format!("api:/users/{user_id}/orders?since={since}&limit={limit}&now={second}");
        let kept = self.ask(Kind::List, self.cache().get(&key)).await;
        if let Some(answer) = kept.as_ref().and_then(|value| serde_json::from_slice(value.as_deref()?).ok()) {
            self.counts.hit(Kind::List);
            return Ok(answer);
        }
        self.counts.miss(Kind::List);
        let answer: Value = self.stored(user_id, since, limit, budget).await?;
        if kept.is_some() {
            self.ask(Kind::List, self.cache().put(&key, answer.to_string().as_bytes(), LIFE_OF_ANSWERS)).await;
        }
        Ok(answer)
    }

    /// The latest orders of a user, as many as an index holds.
    async fn latest(&self, user_id: UserId, budget: &Budget) -> Result<Vec<Order>, Failure> {
        let (key, group) = (index_key(user_id), self.orders.group_of(user_id));
        let kept = self.kept(Kind::List, vec![key.clone()]).await.filter(|kept| kept.is_vouched(Some(group)));
        let index = kept.as_ref().and_then(|kept| index_of(kept.values.first()?.as_deref()?));
        let has_index = index.is_some();
        if let Some(index) = index
            && let Some(orders) = self.copies(&index.orders, group).await
        {
            self.counts.hit(Kind::List);
            return Ok(orders);
        }
        self.counts.miss(Kind::List);
        let read = async {
            // Before the read: an order that is made after it takes the lease away.
            let lease = if kept.is_some() && !has_index { self.lease(&key).await } else { None };
            let _turn = self.turn(budget).await?;
            let rows: Vec<Order> =
                self.stored(user_id, 0, LONGEST_INDEX, &self.own_budget(budget)).await.map_err(Failure::from)?;
            if kept.is_some() {
                self.keep(&rows.iter().map(telling).collect::<Vec<_>>()).await;
            }
            if let Some(lease) = lease {
                let index = Index { at_ms: now_ms(), orders: rows.iter().map(|order| order.order_id).collect() };
                // IDs can always be written.
                let text = serde_json::to_vec(&index).unwrap_or_default();
                let life = spread(LIFE, user_id.0).as_millis().to_string();
                let arguments = [lease.as_bytes(), &text, life.as_bytes()];
                self.ask(Kind::List, self.cache().run(&REPLACE, &[&key], &arguments)).await;
            }
            Ok(rows)
        };
        self.lists.share(user_id, read).await
    }

    /// The copies of all these orders of a group, or nothing.
    async fn copies(&self, orders: &[OrderId], group: u16) -> Option<Vec<Order>> {
        let keys: Vec<String> = orders.iter().copied().map(order_key).collect();
        let kept = self.kept(Kind::Object, keys).await.filter(|kept| kept.is_vouched(Some(group)))?;
        let copies = kept.values.iter().map(|value| copy_of(value.as_deref()?)?.1.order);
        let mut all = Some(Vec::new());
        for copy in copies {
            match copy {
                Some(order) => {
                    self.counts.hit(Kind::Object);
                    if let Some(all) = &mut all {
                        all.push(order);
                    }
                }
                None => {
                    self.counts.miss(Kind::Object);
                    all = None;
                }
            }
        }
        all
    }

    /// The right to fill an index, unless somebody else has it.
    async fn lease(&self, key: &str) -> Option<String> {
        let token = format!("lease:{}:{}", self.instance, self.leases.fetch_add(1, Ordering::Relaxed));
        let taken = self.ask(Kind::List, self.cache().put_absent(key, &token, Some(LEASE))).await;
        (taken == Some(true)).then_some(token)
    }

    async fn keep(&self, tellings: &[(String, Vec<Vec<u8>>)]) {
        self.ask(Kind::Object, self.cache().run_each(&NEWER, tellings)).await;
    }

    /// A turn at the stores: without a cache they would get every read at once.
    async fn turn(&self, budget: &Budget) -> Result<SemaphorePermit<'_>, Failure> {
        match tokio::time::timeout(TURN_WITHIN.min(budget.left()), self.store.acquire()).await {
            Ok(Ok(turn)) => Ok(turn),
            _ => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                Err(Failure::unavailable(
                    "too_many_reads",
                    format!("{MOST_STORE_READS} reads wait for the stores already, and the cache has no answer"),
                ))
            }
        }
    }

    /// What the cache has under these keys, if it answers.
    async fn kept(&self, kind: Kind, mut keys: Vec<String>) -> Option<Kept> {
        let count = keys.len();
        keys.extend_from_slice(&self.vouchers);
        let mut values =
            self.ask(kind, self.cache().get_all(&keys)).await.filter(|values| values.len() == keys.len())?;
        let vouchers = values.split_off(count);
        // Looked at after the answer: it counts who vouched when this began, or later.
        let now_ms = now_ms();
        let vouched = vouchers.iter().map(|voucher| is_good(voucher.as_deref(), now_ms, self.good_for)).collect();
        Some(Kept { values, vouched })
    }

    /// What the cache answers, if it does.
    async fn ask<T>(&self, kind: Kind, asked: impl Future<Output = Result<T, KvError>>) -> Option<T> {
        if !self.may_ask() {
            return None;
        }
        match asked.await {
            Ok(answer) => {
                *self.away_until() = None;
                Some(answer)
            }
            Err(error) => {
                self.counts.error(kind);
                tracing::debug!(%error, "the cache has no answer");
                // A full one still knows what it knows.
                if !matches!(error, KvError::Refused { .. }) {
                    *self.away_until() = Some(Instant::now() + LOOK);
                }
                None
            }
        }
    }

    /// Whether the cache is asked: of one that is away, now and then by one.
    fn may_ask(&self) -> bool {
        let now = Instant::now();
        let mut away_until = self.away_until();
        match *away_until {
            Some(until) if now < until => false,
            Some(_) => {
                *away_until = Some(now + LOOK);
                true
            }
            None => true,
        }
    }

    fn away_until(&self) -> MutexGuard<'_, Option<Instant>> {
        self.away_until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

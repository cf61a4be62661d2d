//! Telling the cache of every change of an order: the store's side. All writes of orders pass the store of the user
//! dimension, so it is done there and nowhere else.
//!
//! A change is told after its commit and before its answer, so that whoever was answered reads it. What the cache did not
//! hear, because it was away or because the request ended first, is owed, and told as soon as it can be; until then the
//! store vouches for nothing there (`vouchers`).

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use sqlx::AnyConnection;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::debt::{Debt, Owed};
use super::{Counts, Kind, index_key, order_key, telling, vouchers};
use crate::config::now_ms;
use crate::frame::Frame;
use crate::ids::{OrderId, UserId};
use crate::kv::Purpose;
use crate::kv::client::{KvClients, KvError};
use crate::kv::script::NEWER;
use crate::migration::part::{self, Part};
use crate::orders::Order;
use crate::rpc::Directory;
use crate::store::{Store, StoreError, outbox, user_dimension};
use crate::switches::CacheDesign;

/// Pause between two tries to tell what is owed.
const PAUSE: Duration = Duration::from_millis(50);
/// How many of the last events before a start may not have been told.
const LAST_EVENTS: i64 = 200;

/// Tells the cache of changes.
pub(crate) struct CacheWrites {
    kv: KvClients,
    directory: Arc<Directory>,
    store: Store,
    /// The store's in a migration: only the side that decides has rows that may be copied.
    part: Option<Arc<Part>>,
    instance: String,
    /// The key of its voucher, and how long that is good.
    voucher: String,
    good_for: Duration,
    debt: Mutex<Debt>,
    /// Something is owed.
    more: Notify,
    /// Moves when nothing is owed any more.
    paid: watch::Sender<()>,
    /// The cache did not answer lately: what changes is owed at once, so that only one write waits for it in vain.
    away: AtomicBool,
    counts: Counts,
}

/// A change that is about to be made. Dropped before it is told, it is owed.
pub(crate) struct Intent<'a> {
    writes: &'a CacheWrites,
    owed: Owed,
}

impl CacheWrites {
    pub(crate) fn new(frame: &Frame, store: Store, part: Option<Arc<Part>>) -> Self {
        let good_for = vouchers::good_for(&frame.config.timeouts);
        Self {
            kv: frame.kv.clone(),
            directory: frame.directory(),
            store,
            part,
            instance: frame.plan.instance.clone(),
            voucher: vouchers::voucher_key(&frame.plan.service),
            good_for,
            debt: Mutex::new(Debt::new(Instant::now(), good_for)),
            more: Notify::new(),
            paid: watch::Sender::new(()),
            away: AtomicBool::default(),
            counts: Counts::default(),
        }
    }

    /// The lines of `/metrics`.
    pub(crate) fn write(&self, out: &mut String) {
        self.counts.write(&self.instance, out);
        let (name, owed) = ("cache_owed_orders", self.debt().orders());
        // Writing to a String cannot fail.
        let _ = writeln!(out, "# TYPE {name} gauge\n{name}{{instance=\"{}\"}} {owed}", self.instance);
    }

    /// Announces changes of orders, and a new order of a user. To be called before the commit.
    pub(crate) fn intend(&self, orders: impl IntoIterator<Item = OrderId>, new_of: Option<UserId>) -> Intent<'_> {
        // Readers may learn later than this store that copies are no longer kept.
        let owed = if self.has_copies() || self.debt().is_vouched(Instant::now()) {
            Owed { orders: orders.into_iter().collect(), users: new_of.into_iter().collect() }
        } else {
            Owed::default()
        };
        Intent { writes: self, owed }
    }

    /// Takes the last changes before this start for not told: the process may have died between commit and telling.
    async fn catch_up(&self) -> Result<(), StoreError> {
        let mut last = Owed::default();
        for order_id in outbox::last_orders(self.store.readers(), LAST_EVENTS).await? {
            let row = user_dimension::by_id_anywhere(self.store.readers(), order_id).await?;
            last.users.extend(row.map(|order| order.user_id));
            last.orders.insert(order_id);
        }
        self.owe(last);
        Ok(())
    }

    /// Tells what is owed, that of the life before first, and vouches for the rest, until told to stop.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let work = async {
            while let Err(error) = self.catch_up().await {
                tracing::warn!(%error, "what the cache may have missed is not known yet");
                tokio::time::sleep(PAUSE).await;
            }
            // A voucher may be late by as long as its predecessor has been there.
            let mut tick = tokio::time::interval(self.good_for / 2);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                while !self.pay_all().await {
                    tokio::time::sleep(PAUSE).await;
                }
                self.vouch().await;
                tokio::select! {
                    () = self.more.notified() => {}
                    _ = tick.tick() => {}
                }
            }
        };
        tokio::select! {
            () = work => {}
            () = stop.cancelled() => {}
        }
    }

    fn has_copies(&self) -> bool {
        self.directory.in_force().cache_design == CacheDesign::ObjectIndex
    }

    fn debt(&self) -> MutexGuard<'_, Debt> {
        self.debt.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From the moment on that this gives, nobody believes copies of what is owed.
    fn owe(&self, owed: Owed) -> Instant {
        let silent_from = self.debt().owe(owed);
        self.more.notify_one();
        silent_from
    }

    /// Whether all is told.
    async fn pay_all(&self) -> bool {
        loop {
            let taken = {
                let mut debt = self.debt();
                let taken = debt.take();
                // Before anybody can owe more: whoever owes from now on must not take this for his.
                if taken.is_none() {
                    self.paid.send_replace(());
                }
                taken
            };
            let Some(owed) = taken else { return true };
            if !self.pay(&owed).await {
                self.debt().failed(owed);
                return false;
            }
            self.debt().told();
            self.away.store(false, Ordering::Relaxed);
        }
    }

    /// Says in the cache that it was told everything, if it was.
    async fn vouch(&self) {
        if !self.has_copies() {
            return;
        }
        // The clock is read before what is owed: the word is given as of then.
        let at_ms = now_ms();
        let Some(before) = self.debt().vouch(Instant::now(), self.good_for) else { return };
        let given = self.kv.of(Purpose::Cache).put(&self.voucher, at_ms.to_string().as_bytes(), self.good_for).await;
        // A full one has not taken it.
        if let Err(KvError::Refused { .. }) = given {
            self.debt().is_not_given(before);
        }
    }

    async fn pay(&self, owed: &Owed) -> bool {
        // Another design has no copies, and the server is cleared when it changes.
        if !self.has_copies() {
            return true;
        }
        let orders: Vec<OrderId> = owed.orders.iter().copied().collect();
        let part = self.part.clone();
        // In the writer's turn: what was about to be committed when it became owed is committed by then.
        let rows = self.store.write(move |connection| {
            Box::pin(async move {
                let decides = part::decides(part.as_deref()).is_ok();
                if decides { rows(connection, orders).await.map(Some) } else { Ok(None) }
            })
        });
        let told = match rows.await {
            Ok(Some(rows)) => self.tell(&rows, &owed.users).await.map_err(|error| error.to_string()),
            Ok(None) => self.forget(owed).await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        told.inspect_err(|error| tracing::debug!(%error, orders = owed.orders.len(), "still owed to the cache")).is_ok()
    }

    /// Without rows to copy, what may be stale is removed.
    async fn forget(&self, owed: &Owed) -> Result<(), KvError> {
        let orders = owed.orders.iter().copied().map(order_key);
        let keys: Vec<String> = orders.chain(owed.users.iter().copied().map(index_key)).collect();
        self.kv.of(Purpose::Cache).remove(&keys).await
    }

    async fn tell(&self, rows: &[Order], users: &BTreeSet<UserId>) -> Result<(), KvError> {
        let cache = self.kv.of(Purpose::Cache);
        let indexes: Vec<String> = users.iter().copied().map(index_key).collect();
        let tellings: Vec<_> = rows.iter().map(telling).collect();
        let (copies, indexes) = tokio::join!(cache.run_each(&NEWER, &tellings), cache.remove(&indexes));
        let copies = match copies {
            // A full server takes no new copy, but must not keep the old one.
            Err(KvError::Refused { .. }) => {
                self.counts.error(Kind::Object);
                let keys: Vec<String> = rows.iter().map(|order| order_key(order.order_id)).collect();
                cache.remove(&keys).await
            }
            told => told.map(drop),
        };
        for (kind, failed) in [(Kind::Object, copies.is_err()), (Kind::List, indexes.is_err())] {
            if failed {
                self.counts.error(kind);
            }
        }
        copies.and(indexes)
    }
}

impl Intent<'_> {
    /// Tells what has become of it. `rows` are those that are answered with, changed or not; with none, nothing is told.
    /// What cannot be told is owed, and then this waits until it is told, or nobody believes the old copies any more.
    pub(crate) async fn told(mut self, rows: &[Order]) {
        if self.owed.is_empty() {
            return;
        }
        let writes = self.writes;
        // A repeated request is answered with the order of the first.
        self.owed.orders.extend(rows.iter().map(|order| order.order_id));
        if !rows.is_empty()
            && (writes.away.load(Ordering::Relaxed) || writes.tell(rows, &self.owed.users).await.is_err())
        {
            writes.away.store(true, Ordering::Relaxed);
            let silent_from = writes.owe(std::mem::take(&mut self.owed));
            let mut paid = writes.paid.subscribe();
            let _ = tokio::time::timeout_at(silent_from, paid.changed()).await;
            return;
        }
        self.owed = Owed::default();
    }
}

impl Drop for Intent<'_> {
    fn drop(&mut self) {
        if !self.owed.is_empty() {
            self.writes.owe(std::mem::take(&mut self.owed));
        }
    }
}

fn rows(connection: &mut AnyConnection, orders: Vec<OrderId>) -> BoxFuture<'_, Result<Vec<Order>, StoreError>> {
    Box::pin(async move {
        let mut rows = Vec::new();
        for order_id in orders {
            rows.extend(user_dimension::by_id_anywhere(&mut *connection, order_id).await?);
        }
        Ok(rows)
    })
}

//! Telling the cache of every change of an order: the store's side. All writes of orders pass the store of the user
//! dimension, so it is done there and nowhere else.
//!
//! A change is told after its commit and before its answer, so that whoever was answered reads it. What the cache did not
//! hear, because it was away or because the request ended first, is owed, and told as soon as it can be.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use sqlx::AnyConnection;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{Counts, Kind, index_key, order_key, telling};
use crate::ids::{OrderId, UserId};
use crate::kv::Purpose;
use crate::kv::client::{KvClients, KvError};
use crate::kv::script::NEWER;
use crate::migration::part::{self, Part};
use crate::orders::Order;
use crate::rpc::Directory;
use crate::store::{Store, StoreError, outbox, user_dimension};
use crate::switches::CacheDesign;

/// Pause between two tries to tell what is owed. Readers do not believe a cache that has come back for longer than this.
const PAUSE: Duration = Duration::from_millis(50);
/// The most orders that are told in one go.
const ROUND: usize = 100;
/// The most orders that are owed; beyond, copies live out their lives.
const MOST_OWED: usize = 50_000;
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
    owed: Mutex<Owed>,
    /// Something is owed.
    more: Notify,
    /// The cache did not answer lately: what changes is owed at once, so that only one write waits for it in vain.
    behind: AtomicBool,
    counts: Counts,
}

/// What the cache must be told.
#[derive(Debug, Default)]
struct Owed {
    /// Orders that changed.
    orders: BTreeSet<OrderId>,
    /// Users with a new order.
    users: BTreeSet<UserId>,
}

impl Owed {
    fn is_empty(&self) -> bool {
        self.orders.is_empty() && self.users.is_empty()
    }

    fn add(&mut self, mut more: Self) {
        self.orders.append(&mut more.orders);
        self.users.append(&mut more.users);
        while self.orders.len() > MOST_OWED {
            self.orders.pop_first();
        }
        while self.users.len() > MOST_OWED {
            self.users.pop_first();
        }
    }
}

/// A change that is about to be made. Dropped before it is told, it is owed.
pub(crate) struct Intent<'a> {
    writes: &'a CacheWrites,
    owed: Owed,
}

impl CacheWrites {
    pub(crate) fn new(
        kv: KvClients,
        directory: Arc<Directory>,
        store: Store,
        part: Option<Arc<Part>>,
        instance: &str,
    ) -> Self {
        Self {
            kv,
            directory,
            store,
            part,
            instance: instance.to_owned(),
            owed: Mutex::default(),
            more: Notify::new(),
            behind: AtomicBool::default(),
            counts: Counts::default(),
        }
    }

    /// The lines of `/metrics`.
    pub(crate) fn write(&self, out: &mut String) {
        self.counts.write(&self.instance, out);
        let (name, owed) = ("cache_owed_orders", self.owed().orders.len());
        // Writing to a String cannot fail.
        let _ = writeln!(out, "# TYPE {name} gauge\n{name}{{instance=\"{}\"}} {owed}", self.instance);
    }

    /// Announces changes of orders, and a new order of a user. To be called before the commit.
    pub(crate) fn intend(&self, orders: impl IntoIterator<Item = OrderId>, new_of: Option<UserId>) -> Intent<'_> {
        let owed = if self.has_copies() {
            Owed { orders: orders.into_iter().collect(), users: new_of.into_iter().collect() }
        } else {
            Owed::default()
        };
        Intent { writes: self, owed }
    }

    /// Takes the last changes before this start for not told: the process may have died between commit and telling.
    pub(crate) async fn catch_up(&self) -> Result<(), StoreError> {
        let mut last = Owed::default();
        for order_id in outbox::last_orders(self.store.readers(), LAST_EVENTS).await? {
            let row = user_dimension::by_id_anywhere(self.store.readers(), order_id).await?;
            last.users.extend(row.map(|order| order.user_id));
            last.orders.insert(order_id);
        }
        self.owe(last);
        while let Some(owed) = self.take() {
            if !self.pay(&owed).await {
                self.owe(owed);
                break;
            }
        }
        Ok(())
    }

    /// Tells what is owed until told to stop.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = self.more.notified() => {}
                () = stop.cancelled() => return,
            }
            while let Some(owed) = self.take() {
                if self.pay(&owed).await {
                    continue;
                }
                self.owe(owed);
                tokio::select! {
                    () = tokio::time::sleep(PAUSE) => {}
                    () = stop.cancelled() => return,
                }
            }
            self.behind.store(false, Ordering::Relaxed);
        }
    }

    fn has_copies(&self) -> bool {
        self.directory.in_force().cache_design == CacheDesign::ObjectIndex
    }

    fn owed(&self) -> MutexGuard<'_, Owed> {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn owe(&self, owed: Owed) {
        if !owed.is_empty() {
            self.owed().add(owed);
            self.more.notify_one();
        }
    }

    fn take(&self) -> Option<Owed> {
        let mut owed = self.owed();
        let mut taken = Owed { users: std::mem::take(&mut owed.users), ..Owed::default() };
        while taken.orders.len() < ROUND
            && let Some(order) = owed.orders.pop_first()
        {
            taken.orders.insert(order);
        }
        (!taken.is_empty()).then_some(taken)
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
    /// Tells what has become of it. `rows` are those that changed; with none, nothing is told.
    pub(crate) async fn told(mut self, rows: &[Order]) {
        if self.owed.is_empty() {
            return;
        }
        if !rows.is_empty() {
            let behind = &self.writes.behind;
            if behind.load(Ordering::Relaxed) {
                return;
            }
            if self.writes.tell(rows, &self.owed.users).await.is_err() {
                behind.store(true, Ordering::Relaxed);
                return;
            }
        }
        self.owed = Owed::default();
    }
}

impl Drop for Intent<'_> {
    fn drop(&mut self) {
        self.writes.owe(std::mem::take(&mut self.owed));
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

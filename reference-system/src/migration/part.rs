//! A store's part in a migration, as its handlers see it: whether it decides, what it must hand to the other side, and
//! how its reads are compared.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::StatusCode;
use sqlx::AnyConnection;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::task::TaskTracker;

use super::difference::difference;
use super::mirror::{Mirror, Touched};
use super::routing::not_deciding;
use super::stance::Kept;
use super::{Phase, Side};
use crate::config::now_ms;
use crate::frame::{Frame, RoleError};
use crate::ids::{OrderId, group};
use crate::orders::Order;
use crate::rpc::{Budget, CallError, Caller, Directory, Failure};
use crate::store::migration_tables::{self as tables, Difference};
use crate::store::user_dimension::by_id_anywhere;
use crate::store::{Store, StoreError};

/// The most reads that are compared at the same time; others are not compared.
const COMPARISONS: usize = 8;
/// How long a comparison may take.
const COMPARISON: Duration = Duration::from_secs(1);
/// A difference may be a write on its way: it is looked at again after this time.
const SECOND_LOOK: Duration = Duration::from_millis(200);

/// What a store did in a migration.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Orders that the other side took.
    pub(crate) carried: AtomicU64,
    /// Orders that it did not take.
    pub(crate) failed: AtomicU64,
    /// Reads that were compared.
    pub(crate) compared: AtomicU64,
    /// Reads that differed.
    pub(crate) differed: AtomicU64,
}

impl Counts {
    /// Lines of `/metrics`.
    fn tell(&self, text: &mut String) {
        let Self { carried, failed, compared, differed } = self;
        for (name, count) in [
            ("migration_orders_carried_total", carried),
            ("migration_orders_not_carried_total", failed),
            ("migration_reads_compared_total", compared),
            ("migration_reads_differed_total", differed),
        ] {
            text.push_str(&format!("# TYPE {name} counter\n{name} {}\n", count.load(Ordering::Relaxed)));
        }
    }
}

/// A store's part in a migration.
pub(crate) struct Part {
    pub(crate) side: Side,
    pub(crate) stance: Kept,
    pub(crate) counts: Arc<Counts>,
    touched: mpsc::UnboundedSender<Touched>,
    directory: Arc<Directory>,
    caller: Caller,
    /// How long a write waits for the other side before it is answered all the same.
    patience: Duration,
    comparisons: Arc<Semaphore>,
    tracker: TaskTracker,
}

/// Refuses a request that only the deciding side may answer. A store without a part always decides.
pub(crate) fn decides(part: Option<&Part>) -> Result<(), Failure> {
    if part.is_none_or(|part| part.stance.decides()) { Ok(()) } else { Err(not_deciding()) }
}

/// That the other side is about to be told of a change.
pub(crate) type Carried = oneshot::Receiver<()>;

impl Part {
    /// The part of the store of a role; none in a system without an old table.
    pub(crate) async fn of(frame: &Frame, store: &Store) -> Result<Option<Arc<Self>>, RoleError> {
        if !frame.config.migration {
            return Ok(None);
        }
        let service = &frame.plan.service;
        let failed = |source: StoreError| RoleError::Store { name: service.clone(), source };
        let place = frame.config.stores.of(service);
        place.prepare(tables::SCHEMA).await.map_err(|error| failed(error.into()))?;
        let side = Side::of(service);
        let stance = Kept::load(store, side).await.map_err(failed)?;
        let counts = Arc::new(Counts::default());
        let (touched, orders) = mpsc::unbounded_channel();
        let mirror = Mirror {
            side,
            store: store.clone(),
            caller: frame.caller.clone(),
            directory: frame.directory(),
            counts: Arc::clone(&counts),
        };
        frame.tracker.spawn(mirror.run(orders, frame.stop.clone()));
        let told = Arc::clone(&counts);
        frame.tell_more(Box::new(move |text| told.tell(text)));
        Ok(Some(Arc::new(Self {
            side,
            stance,
            counts,
            touched,
            directory: frame.directory(),
            caller: frame.caller.clone(),
            patience: Duration::from_millis(frame.config.timeouts.store_ms / 3),
            comparisons: Arc::new(Semaphore::new(COMPARISONS)),
            tracker: frame.tracker.clone(),
        })))
    }

    /// Notes in the transaction of a change which orders the other side must have, if both are written. The mirror
    /// learns of them here and not after the commit, where a request that ran out of time would forget it; it reads them
    /// in a later transaction.
    pub(crate) async fn note(
        &self,
        connection: &mut AnyConnection,
        orders: Vec<OrderId>,
    ) -> Result<Option<Carried>, StoreError> {
        if orders.is_empty() || !self.stance.writes_both() {
            return Ok(None);
        }
        if self.directory.in_force().log_failures {
            tables::log(connection, &orders, 0).await?;
        }
        let (done, carried) = oneshot::channel();
        // Fails only when the store is stopping.
        let _ = self.touched.send(Touched { orders, done });
        Ok(Some(carried))
    }

    /// Waits until the other side has what was noted, or for a moment: the change stands in any case.
    pub(crate) async fn wait(&self, carried: Option<Carried>) {
        if let Some(carried) = carried {
            let _ = tokio::time::timeout(self.patience, carried).await;
        }
    }

    /// In P3, compares an order that was read with what the other side has, in the background.
    pub(crate) fn compare(self: &Arc<Self>, store: &Store, shard: u16, order: &Order) {
        if self.stance.get().phase != Phase::P3 {
            return;
        }
        let Ok(permit) = Arc::clone(&self.comparisons).try_acquire_owned() else { return };
        let (part, store, order) = (Arc::clone(self), store.clone(), order.clone());
        self.tracker.spawn(async move {
            let _permit = permit;
            if let Err(error) = part.compare_now(&store, shard, order).await {
                tracing::debug!(%error, "a read is not compared");
            }
        });
    }

    async fn compare_now(&self, store: &Store, shard: u16, first: Order) -> Result<(), CallError> {
        let (order_id, budget) = (first.order_id, Budget::of(COMPARISON));
        let target = self.side.other().store(group(shard));
        let mut copy = self.read_there(target, order_id, &budget).await?;
        self.counts.compared.fetch_add(1, Ordering::Relaxed);
        if copy.as_ref() == Some(&first) {
            return Ok(());
        }
        tokio::time::sleep(SECOND_LOOK).await;
        copy = self.read_there(target, order_id, &budget).await?;
        let Ok(now) = by_id_anywhere(store.readers(), order_id).await else { return Ok(()) };
        let Some(what) = difference(Some(&first), copy.as_ref(), now.as_ref()) else { return Ok(()) };
        self.counts.differed.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(%order_id, what, "the two sides differ");
        let seen = Difference { order_id, at_ms: now_ms(), what };
        let log = self.directory.in_force().log_failures;
        let noted = store.write(move |connection| {
            Box::pin(async move {
                tables::note_differences(connection, &[seen]).await?;
                if log {
                    tables::log(connection, &[order_id], 1).await?;
                }
                Ok(())
            })
        });
        if let Err(error) = noted.await {
            tracing::warn!(%error, "a difference is not noted");
        }
        Ok(())
    }

    async fn read_there(
        &self,
        target: &'static str,
        order_id: OrderId,
        budget: &Budget,
    ) -> Result<Option<Order>, CallError> {
        match self.caller.get(target, &format!("/migration/orders/{order_id}"), budget).await {
            Ok(order) => Ok(Some(order)),
            Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

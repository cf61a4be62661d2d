//! Writing both sides: what the deciding store has committed is handed to the other side as whole orders, batch by batch.
//! What fails stays in the failure log and is tried again, if there is one (`mig.log_failures`), and is lost otherwise.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Side;
use super::part::Counts;
use crate::ids::{OrderId, group};
use crate::rpc::{Budget, CallError, Caller, Directory};
use crate::store::migration_tables as tables;
use crate::store::whole_order::{self, Guard, WholeOrder};
use crate::store::{Store, StoreError};

/// The most orders in a batch.
const BATCH: usize = 200;
/// The most changes of one batch.
const CHANGES: usize = 256;
/// How often what failed is tried again.
const REPAIR: Duration = Duration::from_millis(250);
/// A row of the log that is older than this was forgotten by whoever wrote it.
const FORGOTTEN: Duration = Duration::from_secs(2);
/// How long the other side may take.
const CALL: Duration = Duration::from_secs(1);

/// Orders that were changed.
pub(crate) struct Touched {
    pub(crate) orders: Vec<OrderId>,
    /// Told once the other side has them, or has refused.
    pub(crate) done: oneshot::Sender<()>,
}

/// Copies of orders.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Copies {
    pub(crate) orders: Vec<WholeOrder>,
    pub(crate) guard: Guard,
}

/// What became of copies.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Taken {
    /// Those that could not be written, because the same request has made another order there.
    pub(crate) refused: Vec<OrderId>,
}

/// Hands copies to the stores of a side.
pub(crate) async fn hand_over(
    caller: &Caller,
    to: Side,
    orders: Vec<WholeOrder>,
    guard: Guard,
) -> BTreeMap<&'static str, (Vec<OrderId>, Result<Taken, CallError>)> {
    let mut by_store: BTreeMap<&'static str, Vec<WholeOrder>> = BTreeMap::new();
    for whole in orders {
        by_store.entry(to.store(group(whole.shard))).or_default().push(whole);
    }
    let handed = by_store.into_iter().map(|(store, orders)| async move {
        let ids = orders.iter().map(|whole| whole.order.order_id).collect();
        let copies = Copies { orders, guard };
        (store, (ids, caller.post(store, "/migration/apply", &copies, &Budget::of(CALL)).await))
    });
    futures::future::join_all(handed).await.into_iter().collect()
}

/// The part of a store that hands its changes over.
pub(super) struct Mirror {
    pub(super) side: Side,
    pub(super) store: Store,
    pub(super) caller: Caller,
    pub(super) directory: Arc<Directory>,
    pub(super) counts: Arc<Counts>,
}

impl Mirror {
    pub(super) async fn run(self, mut touched: mpsc::UnboundedReceiver<Touched>, stop: CancellationToken) {
        // What an earlier life left is not under way any more.
        if let Err(error) = self.store.write(|connection| Box::pin(tables::all_have_failed(connection))).await {
            tracing::error!(%error, "the failure log cannot be read");
        }
        let (mut repair_at, mut horizon) = (Instant::now(), None);
        loop {
            let mut batch = Vec::new();
            tokio::select! {
                taken = touched.recv_many(&mut batch, CHANGES) => if taken == 0 { return },
                () = tokio::time::sleep_until(repair_at) => {}
                () = stop.cancelled() => return,
            }
            if !batch.is_empty() {
                let orders: BTreeSet<OrderId> = batch.iter().flat_map(|touched| &touched.orders).copied().collect();
                self.carry(orders.into_iter().collect()).await;
                for touched in batch {
                    // Whoever waited may have gone.
                    let _ = touched.done.send(());
                }
            }
            if Instant::now() >= repair_at {
                self.repair(&mut horizon).await.unwrap_or_else(|error| tracing::warn!(%error, "repairs wait"));
                repair_at = Instant::now() + REPAIR;
            }
        }
    }

    /// Tries again what failed; without a log, forgets it.
    async fn repair(&self, horizon: &mut Option<(Instant, i64)>) -> Result<(), StoreError> {
        if !self.directory.in_force().log_failures {
            let dropped = self.store.write(|connection| Box::pin(tables::drop_failed(connection))).await?;
            if dropped > 0 {
                tracing::warn!(dropped, "failed writes are forgotten");
            }
            return Ok(());
        }
        if horizon.is_none_or(|(seen, _)| seen.elapsed() >= FORGOTTEN) {
            let before = horizon.map(|(_, last)| last);
            let last = self.store.write(move |connection| Box::pin(tables::forgotten(connection, before))).await?;
            *horizon = Some((Instant::now(), last));
        }
        let orders = tables::failed(self.store.readers(), BATCH as i64).await?;
        if !orders.is_empty() {
            self.carry(orders).await;
        }
        Ok(())
    }

    async fn carry(&self, orders: Vec<OrderId>) {
        for orders in orders.chunks(BATCH) {
            if let Err(error) = self.carry_batch(orders.to_vec()).await {
                tracing::warn!(%error, "the failure log is behind");
            }
        }
    }

    async fn carry_batch(&self, orders: Vec<OrderId>) -> Result<(), StoreError> {
        // By the writer, so that log and orders are of one moment.
        let (logged, wholes) = self
            .store
            .write(move |connection| {
                Box::pin(async move {
                    let logged = tables::logged(connection, &orders).await?;
                    Ok((logged, whole_order::read(connection, &orders).await?))
                })
            })
            .await?;
        let mut failed: HashSet<OrderId> = HashSet::new();
        let mut count = 0;
        for (store, (orders, taken)) in hand_over(&self.caller, self.side.other(), wholes, Guard::NotOlder).await {
            count += orders.len() as u64;
            match taken {
                Ok(taken) => failed.extend(taken.refused),
                Err(error) => {
                    tracing::warn!(%error, store, orders = orders.len(), "the other side did not take a write");
                    failed.extend(orders);
                }
            }
        }
        self.counts.failed.fetch_add(failed.len() as u64, Ordering::Relaxed);
        self.counts.carried.fetch_add(count - failed.len() as u64, Ordering::Relaxed);
        if logged.is_empty() {
            return Ok(());
        }
        let (waiting, arrived): (Vec<_>, Vec<_>) = logged.into_iter().partition(|(_, order)| failed.contains(order));
        let rows = |rows: Vec<(i64, OrderId)>| rows.into_iter().map(|(row, _)| row).collect::<Vec<_>>();
        let (waiting, arrived) = (rows(waiting), rows(arrived));
        self.store
            .write(move |connection| {
                Box::pin(async move {
                    tables::settle(connection, &arrived, true).await?;
                    tables::settle(connection, &waiting, false).await
                })
            })
            .await
    }
}

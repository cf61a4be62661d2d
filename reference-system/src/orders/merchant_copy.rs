//! How a change of an order reaches the merchant dimension (`dim.write`): the user dimension's store decides, since the
//! row that it commits is the master.

use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

use tokio_util::task::TaskTracker;

use super::Order;
use super::change::{TaskKind, TaskWrite};
use super::service::merchant_store;
use crate::ids::{SlotHash, group};
use crate::rpc::{Budget, CallError, Caller, Failure};
use crate::switches::DimensionWrite;

/// How long a copy that nobody waits for may take.
const UNATTENDED: Duration = Duration::from_secs(1);

/// Writes copies of rows to the merchant dimension.
pub(crate) struct MerchantCopies {
    pub(crate) caller: Caller,
    pub(crate) slot_hash: SlotHash,
    /// Owns the copies that nobody waits for.
    pub(crate) tracker: TaskTracker,
}

impl MerchantCopies {
    /// How copies are written now. A request asks once, so that a switch that is turned meanwhile leaves no row without
    /// either.
    pub(crate) fn way(&self) -> DimensionWrite {
        self.caller.in_force().dimension_write
    }

    /// Writes the copies of rows that were committed, unless task rows do.
    ///
    /// # Errors
    ///
    /// With `both_sync`, that the master rows are changed and the copies are not.
    pub(crate) async fn write(&self, way: DimensionWrite, rows: Vec<Order>, budget: &Budget) -> Result<(), Failure> {
        if way == DimensionWrite::Task || rows.is_empty() {
            return Ok(());
        }
        if way == DimensionWrite::BothSync {
            return apply(&self.caller, self.slot_hash, &rows, budget).await.map_err(|error| {
                Failure::unavailable("half_written", format!("the order is changed, but not for its merchant: {error}"))
            });
        }
        let (caller, slot_hash) = (self.caller.clone(), self.slot_hash);
        self.tracker.spawn(async move {
            if let Err(error) = apply(&caller, slot_hash, &rows, &Budget::of(UNATTENDED)).await {
                tracing::warn!(%error, rows = rows.len(), "merchant rows are lost");
            }
        });
        Ok(())
    }
}

/// The task rows that a write keeps: without `task`, none is a promise of a copy.
pub(crate) fn tasks_of(way: DimensionWrite, tasks: &mut Vec<TaskWrite>) {
    if way != DimensionWrite::Task {
        tasks.retain(|task| task.kind != TaskKind::MerchantRow);
    }
}

async fn apply(caller: &Caller, slot_hash: SlotHash, rows: &[Order], budget: &Budget) -> Result<(), CallError> {
    let mut groups: BTreeMap<u16, Vec<&Order>> = BTreeMap::new();
    for order in rows {
        groups.entry(group(slot_hash.merchant_shard(order.restaurant_id))).or_default().push(order);
    }
    for (group, rows) in groups {
        let _: Value = caller.post(merchant_store(group), "/orders/apply", &rows, budget).await?;
    }
    Ok(())
}

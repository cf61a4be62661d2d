//! The order service's code that its pools share: reading, changing by compare-and-set, charging.

use std::sync::Arc;

use super::Order;
use super::change::Change;
use super::plan::{Refusal, Timers, payment_id};
use crate::config::SystemConfig;
use crate::ids::{OrderId, RestaurantId, SlotHash, UserId, group};
use crate::locks::{Guard, LockUse, Locks};
use crate::migration::routing;
use crate::roles::eus::Hold;
use crate::roles::pay::Charge;
use crate::roles::st_u::Written;
use crate::rpc::{Budget, CallError, Caller, Failure};

/// `settle.basis = accepted_timer`: a short stand-in for the historic week.
const SETTLE_ACCEPTED_MS: i64 = 1_000;
/// How often a change is planned anew when another one came between.
const ATTEMPTS: usize = 4;

/// The order service as any of its pools sees it.
#[derive(Clone)]
pub(crate) struct Orders {
    pub(crate) caller: Caller,
    pub(crate) config: Arc<SystemConfig>,
}

/// The store that holds a group of the user dimension.
pub(crate) const fn user_store(group: u16) -> &'static str {
    if group == 0 { "st-u0" } else { "st-u1" }
}

/// The store that holds a group of the merchant dimension.
pub(crate) const fn merchant_store(group: u16) -> &'static str {
    if group == 0 { "st-r0" } else { "st-r1" }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::conflict(refusal.code(), refusal.to_string())
    }
}

impl Orders {
    /// How IDs become slots.
    pub(crate) fn slot_hash(&self) -> SlotHash {
        self.config.slot_hash
    }

    /// The timers as the switches have them now.
    pub(crate) fn timers(&self) -> Timers {
        let flawed = self.caller.in_force().settle_on_accept;
        Timers { settle_accepted_ms: flawed.then_some(SETTLE_ACCEPTED_MS), ..self.config.timers }
    }

    /// The group of the user dimension that holds a user's orders.
    pub(crate) fn group_of(&self, user_id: UserId) -> u16 {
        group(self.slot_hash().user_shard(user_id))
    }

    /// The store that holds a restaurant's orders.
    pub(crate) fn merchant_store_of(&self, restaurant_id: RestaurantId) -> &'static str {
        merchant_store(group(self.slot_hash().merchant_shard(restaurant_id)))
    }

    /// The order, from its master row.
    pub(crate) async fn read(&self, order_id: OrderId, budget: &Budget) -> Result<Order, CallError> {
        let (group, path) = self.way_to(order_id, budget).await?;
        routing::get(&self.caller, group, &path, budget).await
    }

    /// Reads, plans and compares-and-sets, again if another change came between. A plan of `None`
    /// means that there is nothing to do.
    pub(crate) async fn change(
        &self,
        order_id: OrderId,
        budget: &Budget,
        plan: impl Fn(&Order) -> Result<Option<Change>, Failure>,
    ) -> Result<Order, Failure> {
        let order = self.read(order_id, budget).await?;
        self.change_as(order, budget, None, plan).await
    }

    /// As [`Self::change`], under the order's lock.
    pub(crate) async fn change_locked(
        &self,
        locks: &Locks,
        order_id: OrderId,
        budget: &Budget,
        plan: impl Fn(&Order) -> Result<Option<Change>, Failure>,
    ) -> Result<Order, Failure> {
        let held = locks.take(LockUse::Order, order_id.0, budget).await?;
        let changed = async {
            let order = self.read(order_id, budget).await?;
            locks.section().await;
            self.change_as(order, budget, held.guard(), plan).await
        }
        .await;
        held.release().await;
        changed
    }

    async fn change_as(
        &self,
        mut order: Order,
        budget: &Budget,
        guard: Option<Guard>,
        plan: impl Fn(&Order) -> Result<Option<Change>, Failure>,
    ) -> Result<Order, Failure> {
        for _ in 0..ATTEMPTS {
            let Some(mut change) = plan(&order)? else {
                return Ok(order);
            };
            change.guard.clone_from(&guard);
            let group = self.group_of(order.user_id);
            let written: Written = routing::post(&self.caller, group, "/changes", &change, budget).await?;
            if written.applied {
                return Ok(written.order);
            }
            order = written.order;
        }
        Err(Failure::unavailable("contended", "the order is being changed by others; try again"))
    }

    /// Holds the money and asks the payment service to charge it. Repeating it does nothing new.
    pub(crate) async fn charge(&self, order: &Order, budget: &Budget) -> Result<(), CallError> {
        let payment_id = payment_id(order.order_id);
        let hold = Hold {
            payment_id: payment_id.clone(),
            order_id: order.order_id,
            user_id: order.user_id,
            amount_fen: order.total_fen,
        };
        let _: serde_json::Value = self.caller.post("eus", "/wallet/hold", &hold, budget).await?;
        let charge = Charge { payment_id, order_id: order.order_id, amount_fen: order.total_fen };
        let _: serde_json::Value = self.caller.post("pay", "/charges", &charge, budget).await?;
        Ok(())
    }
}

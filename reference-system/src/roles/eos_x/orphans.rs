//! Coupons and stock that were taken for an order which nobody confirmed: kept if the order was made, and given back if it
//! was not and nobody can make it any more.

use std::time::Duration;

use futures::future::join_all;
use http::StatusCode;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::ids::OrderId;
use crate::orders::Order;
use crate::orders::service::Orders;
use crate::roles::eps::{CouponSettlement, CouponStep, Unconfirmed};
use crate::rpc::{Budget, CallError};

/// The pause between two sweeps that leave nothing behind.
const SWEEP: Duration = Duration::from_secs(2);
/// From which age on they are looked at, in milliseconds: no request for an order lives so long.
const AGE_MS: i64 = 10_000;
/// A sweep of so many may not have seen all.
const MANY: usize = 200;
/// How many orders are looked for at the same time.
const AT_ONCE: usize = 8;
/// The time for each call. Many orders that were never made come with an overload, when each takes long.
const CALL: Duration = Duration::from_secs(2);

/// Sweeps until told to stop.
pub(super) async fn sweep(orders: Orders, stop: CancellationToken) {
    loop {
        let swept = async {
            let coupons = sweep_coupons(&orders).await;
            let stock = sweep_stock(&orders).await;
            coupons.and_then(|more| Ok(more | stock?))
        };
        let more = tokio::select! {
            swept = swept => swept.unwrap_or_else(|error| {
                tracing::debug!(%error, "the sweep waits");
                false
            }),
            () = stop.cancelled() => return,
        };
        if more {
            continue;
        }
        tokio::select! {
            () = tokio::time::sleep(SWEEP) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Whether there may be more that can be done at once.
async fn sweep_coupons(orders: &Orders) -> Result<bool, CallError> {
    let path = format!("/coupons/unconfirmed?older_than_ms={AGE_MS}");
    let locks: Vec<Unconfirmed> = orders.caller.get("eps", &path, &Budget::of(CALL)).await?;
    let locked: Vec<OrderId> = locks.iter().map(|lock| lock.order_id).collect();
    let found = look_for(orders, &locked).await;
    let step = |order: &OrderId| match (found.made.contains(order), found.missing.contains(order)) {
        (true, _) => Some(CouponStep::Confirm),
        (_, true) => Some(CouponStep::Return),
        _ => None,
    };
    let settlements: Vec<CouponSettlement> = locks
        .iter()
        .filter_map(|lock| {
            let (coupon_id, order_id) = (lock.coupon_id, lock.order_id);
            Some(CouponSettlement { coupon_id, order_id, step: step(&order_id)? })
        })
        .collect();
    if settlements.is_empty() {
        return Ok(false);
    }
    let _: Value = orders.caller.post("eps", "/coupons/settle", &settlements, &Budget::of(CALL)).await?;
    Ok(locks.len() >= MANY)
}

/// Whether there may be more that can be done at once.
async fn sweep_stock(orders: &Orders) -> Result<bool, CallError> {
    let path = format!("/stock/unconfirmed?older_than_ms={AGE_MS}");
    let held: Vec<OrderId> = orders.caller.get("ers", &path, &Budget::of(CALL)).await?;
    let more = held.len() >= MANY;
    let Found { made, missing } = look_for(orders, &held).await;
    let moved = !(made.is_empty() && missing.is_empty());
    for (path, orders_of) in [("/stock/confirm", made), ("/stock/release", missing)] {
        if !orders_of.is_empty() {
            let _: Value = orders.caller.post("ers", path, &orders_of, &Budget::of(CALL)).await?;
        }
    }
    Ok(more && moved)
}

/// Orders that are there and that are not; those of which nobody can tell now are in neither.
#[derive(Default)]
struct Found {
    made: Vec<OrderId>,
    missing: Vec<OrderId>,
}

async fn look_for(orders: &Orders, ids: &[OrderId]) -> Found {
    let mut found = Found::default();
    for part in ids.chunks(AT_ONCE) {
        let reads = join_all(part.iter().map(|id| read(orders, *id))).await;
        for (id, read) in part.iter().zip(reads) {
            match read {
                Ok(_) => found.made.push(*id),
                Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => found.missing.push(*id),
                Err(_) => {}
            }
        }
    }
    found
}

async fn read(orders: &Orders, id: OrderId) -> Result<Order, CallError> {
    orders.read(id, &Budget::of(CALL)).await
}

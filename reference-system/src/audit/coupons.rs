//! Coupons in the audit: what the marketing service has bound to orders, and I13.

use std::collections::{BTreeMap, HashMap, HashSet};

use sqlx::{Connection, Row};

use super::Finding;
use super::books::{OrderRow, UserDimension};
use crate::orders::lifecycle::Status;
use crate::roles::eps;
use crate::store::Place;

/// A coupon that no order has confirmed is freed when it is ten seconds old; after so long, somebody has forgotten it.
const FORGOTTEN_MS: i64 = 30_000;

/// A row of a coupon and an order that ever bound it.
#[derive(Debug, Clone)]
pub(crate) struct CouponRow {
    pub(crate) coupon_id: i64,
    pub(crate) order_id: i64,
    pub(crate) state: i64,
    confirmed: bool,
    locked_at_ms: i64,
}

pub(super) async fn read(store: &Place) -> Result<Vec<CouponRow>, sqlx::Error> {
    let mut file = store.reader().await?;
    let rows = sqlx::query("SELECT coupon_id, order_id, state, confirmed, locked_at_ms FROM coupons")
        .fetch_all(&mut file)
        .await?;
    file.close().await?;
    rows.iter()
        .map(|row| {
            Ok(CouponRow {
                coupon_id: row.try_get(0)?,
                order_id: row.try_get(1)?,
                state: row.try_get(2)?,
                confirmed: row.try_get::<i64, _>(3)? != 0,
                locked_at_ms: row.try_get(4)?,
            })
        })
        .collect()
}

/// I13. What is still on its way is looked at only at rest.
pub(super) fn used_once(finding: &mut Finding, users: &UserDimension, coupons: &[CouponRow], quiet: bool) {
    let mut bound: HashMap<i64, i64> = HashMap::new();
    let mut live: BTreeMap<(i64, i64), &OrderRow> = BTreeMap::new();
    for row in &users.orders {
        let dead = Status::from_code(row.status).is_some_and(Status::is_dead);
        let Some(coupon) = row.coupon_id.filter(|_| !dead) else {
            continue;
        };
        finding.checked += 1;
        live.insert((coupon, row.order_id), row);
        if let Some(other) = bound.insert(coupon, row.order_id) {
            finding.violate(|| format!("coupon {coupon} is used by orders {other} and {}", row.order_id));
        }
    }
    if !quiet {
        return;
    }
    let resting = |order_id: i64| !users.in_motion.contains(&order_id);
    let newest =
        users.orders.iter().map(|row| row.updated_at_ms).chain(coupons.iter().map(|row| row.locked_at_ms)).max();
    let mut held = HashSet::new();
    for row in coupons.iter().filter(|row| resting(row.order_id)) {
        finding.checked += 1;
        let order = live.get(&(row.coupon_id, row.order_id));
        match (row.state, order) {
            (eps::LOCKED | eps::USED, Some(order)) => {
                held.insert((row.coupon_id, row.order_id));
                if row.state == eps::LOCKED && is_paid(order) {
                    finding.violate(|| {
                        format!("coupon {} of order {}, which is paid, is not used", row.coupon_id, row.order_id)
                    });
                }
            }
            (eps::USED, None) => finding
                .violate(|| format!("coupon {} is used by order {}, which is not live", row.coupon_id, row.order_id)),
            (eps::LOCKED, None) => {
                // Bound after the orders were read, or by a request that came to nothing a moment ago.
                let young = row.locked_at_ms >= users.read_at_ms
                    || (!row.confirmed && newest.is_none_or(|newest| row.locked_at_ms + FORGOTTEN_MS > newest));
                if !young {
                    finding.violate(|| {
                        format!("coupon {} is locked by order {}, which is not live", row.coupon_id, row.order_id)
                    });
                }
            }
            _ => {}
        }
    }
    for (coupon, order_id) in live.into_keys().filter(|(_, order_id)| resting(*order_id)) {
        if !held.contains(&(coupon, order_id)) {
            finding.violate(|| format!("order {order_id} has coupon {coupon}, which is not bound to it"));
        }
    }
}

fn is_paid(order: &OrderRow) -> bool {
    Status::from_code(order.status)
        .is_some_and(|status| matches!(status, Status::Paid | Status::Waiting | Status::Accepted | Status::Completed))
}

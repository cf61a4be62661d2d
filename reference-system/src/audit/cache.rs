//! The caches in the audit: what the key-value server holds of orders, and I22.

use std::collections::{BTreeMap, HashMap};

use super::Finding;
use super::books::{OrderRow, UserDimension};
use super::history::{History, Read};
use crate::config::now_ms;
use crate::kv::client::{Kv, KvError};
use crate::orders::Order;
use crate::orders::cache::{self, LIFE, LIFE_OF_NOTHING, LONGEST_INDEX};

/// How many values are read in one go.
const STEP: usize = 500;
/// Lives are spread by a tenth, and a row may be stamped this long before it is committed.
const MARGIN_MS: i64 = 1_000;

/// What is cached.
#[derive(Default)]
pub(crate) struct Cached {
    copies: Vec<CachedOrder>,
    /// (user, orders), the latest first.
    indexes: Vec<(i64, Vec<i64>)>,
    /// When reading began, in milliseconds since 1970.
    read_at_ms: i64,
}

struct CachedOrder {
    order_id: i64,
    revision: i64,
    at_ms: i64,
    /// `None`: that there is no such order.
    order: Option<Order>,
}

/// Reads the caches; nothing is cached in a system that is down.
pub(super) async fn read(server: Option<&Kv>) -> Result<Cached, KvError> {
    let mut all = Cached { read_at_ms: now_ms(), ..Cached::default() };
    let Some(server) = server else { return Ok(all) };
    for pattern in ["o:*", "ul:*"] {
        let mut keys = server.keys(pattern).await?;
        keys.sort_unstable();
        keys.dedup();
        for keys in keys.chunks(STEP) {
            let values = server.get_all(keys).await?;
            for (key, value) in keys.iter().zip(values) {
                // What has gone meanwhile need not be true.
                if let Some(value) = value {
                    all.take(key, &value);
                }
            }
        }
    }
    Ok(all)
}

impl Cached {
    fn take(&mut self, key: &str, value: &[u8]) {
        if let (Some(order_id), Some((revision, copied))) = (cache::order_of(key), cache::copy_of(value)) {
            self.copies.push(CachedOrder { order_id: order_id.0, revision, at_ms: copied.at_ms, order: copied.order });
        } else if let (Some(user_id), Some(index)) = (cache::user_of(key), cache::index_of(value)) {
            self.indexes.push((user_id.0, index.orders.into_iter().map(|order_id| order_id.0).collect()));
        }
    }
}

/// No copy is ahead of its row, none is behind it for longer than it may live, and each index names the user's latest
/// orders. The caches were read before the rows.
pub(super) fn coherent(finding: &mut Finding, users: &UserDimension, cached: &Cached) {
    let rows: HashMap<i64, &OrderRow> = users.orders.iter().map(|row| (row.order_id, row)).collect();
    for copy in &cached.copies {
        finding.checked += 1;
        let old = |life: std::time::Duration| {
            cached.read_at_ms - copy.at_ms > life.mul_f64(1.1).as_millis() as i64 + MARGIN_MS
        };
        let id = copy.order_id;
        match (rows.get(&id), &copy.order) {
            (None, Some(_)) => finding.violate(|| format!("order {id} is cached and does not exist")),
            (Some(row), Some(order)) if copy.revision > row.revision || order.version > row.version => {
                finding.violate(|| {
                    format!(
                        "order {id} is cached with revision {} and version {}, its row has {} and {}",
                        copy.revision, order.version, row.revision, row.version
                    )
                });
            }
            (Some(row), Some(order)) if copy.revision == row.revision && facts(order) != facts_of(row) => {
                finding.violate(|| {
                    format!(
                        "order {id} is cached as {:?}, its row of the same revision is {:?} \
                         (status, version, total, refund, delivery)",
                        facts(order),
                        facts_of(row)
                    )
                });
            }
            (Some(row), Some(_)) if copy.revision < row.revision && old(LIFE) => {
                finding.violate(|| {
                    format!(
                        "order {id} has been cached with revision {} for {} s, its row has {}",
                        copy.revision,
                        (cached.read_at_ms - copy.at_ms) / 1_000,
                        row.revision
                    )
                });
            }
            (Some(_), None) if old(LIFE_OF_NOTHING) => {
                finding.violate(|| format!("order {id} exists and is cached as missing"));
            }
            _ => {}
        }
    }
    let latest = latest_by_user(users);
    for (user_id, index) in &cached.indexes {
        let rows = latest.get(user_id).map_or(&[][..], Vec::as_slice);
        // An order that came while this was read may be in one and not in the other.
        if rows.iter().any(|row| row.created_at_ms >= cached.read_at_ms - MARGIN_MS) {
            continue;
        }
        finding.checked += 1;
        let expected: Vec<i64> = rows.iter().take(LONGEST_INDEX).map(|row| row.order_id).collect();
        if *index != expected {
            finding
                .violate(|| format!("the latest orders of user {user_id} are {expected:?}, its index has {index:?}"));
        }
    }
}

/// Whoever was answered reads what he was answered, or newer: no read finds less than what had been acknowledged before it
/// was sent.
pub(super) fn own_writes_are_read(finding: &mut Finding, history: &History) {
    let known = history.revisions();
    for Read { order_id, revision, sent_us } in &history.reads {
        let before = known.get(order_id).into_iter().flatten().filter(|(done_us, _)| done_us <= sent_us);
        let Some(promised) = before.map(|(_, revision)| *revision).max() else { continue };
        finding.checked += 1;
        if revision.is_none_or(|found| found < promised) {
            finding.violate(|| {
                let found = revision.map_or("as missing".to_owned(), |found| format!("with revision {found}"));
                format!("order {order_id} was read {found}, after its revision {promised} had been acknowledged")
            });
        }
    }
}

/// Each user's orders, the latest first.
fn latest_by_user(users: &UserDimension) -> BTreeMap<i64, Vec<&OrderRow>> {
    let mut latest: BTreeMap<i64, Vec<&OrderRow>> = BTreeMap::new();
    for row in &users.orders {
        latest.entry(row.user_id).or_default().push(row);
    }
    for rows in latest.values_mut() {
        rows.sort_by_key(|row| std::cmp::Reverse((row.created_at_ms, row.order_id)));
    }
    latest
}

fn facts(order: &Order) -> (i64, i64, i64, i64, i64) {
    (order.status.code(), order.version, order.total_fen, order.refund_status, order.delivery_status)
}

fn facts_of(row: &OrderRow) -> (i64, i64, i64, i64, i64) {
    (row.status, row.version, row.total_fen, row.refund_status, row.delivery_status)
}

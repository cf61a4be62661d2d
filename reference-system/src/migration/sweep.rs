//! P3: every order of both sides compared, page by page, again and again.

use std::collections::BTreeMap;
use std::time::Duration;

use http::StatusCode;

use super::difference::difference;
use super::endpoints::Found;
use super::{OLD_STORE, Side};
use crate::config::now_ms;
use crate::ids::{OrderId, group};
use crate::orders::Order;
use crate::rpc::{Budget, CallError, Caller};
use crate::store::copying::{Digest, Position};
use crate::store::migration_tables::Difference;

/// Orders of a page.
const PAGE: usize = 1_000;
/// How long a store may take.
const CALL: Duration = Duration::from_secs(2);
/// A difference may be a write on its way: it is looked at again after this time.
const SECOND_LOOK: Duration = Duration::from_millis(300);
/// The most differences of a page that are looked at again; with more, something is wrong in any case.
const LOOKED_AT: usize = 50;

/// A walk over all orders.
#[derive(Debug, Clone)]
pub(crate) struct Sweep {
    /// When it began.
    pub(crate) began_ms: i64,
    after: Position,
    /// How many orders it has compared.
    pub(crate) compared: u64,
    /// How many of them differ.
    pub(crate) differ: u64,
}

impl Sweep {
    pub(crate) fn begin() -> Self {
        Self { began_ms: now_ms(), after: Position::START, compared: 0, differ: 0 }
    }

    /// Compares the next page; `true` at the end. What differs is noted at the old store, and repaired if `repair`.
    pub(crate) async fn page(&mut self, caller: &Caller, repair: bool) -> Result<bool, CallError> {
        let old = digests(caller, OLD_STORE, self.after, Position::END).await?;
        let ends = old.len() < PAGE;
        let until = if ends { Position::END } else { old.last().map_or(Position::END, |digest| digest.position) };
        let mut rows: BTreeMap<Position, [Option<Digest>; 2]> = BTreeMap::new();
        for digest in &old {
            rows.entry(digest.position).or_default()[0] = Some(*digest);
        }
        for store in Side::New.stores() {
            for digest in digests(caller, store, self.after, until).await? {
                rows.entry(digest.position).or_default()[1] = Some(digest);
            }
        }
        self.compared += rows.len() as u64;
        let suspects: Vec<Position> =
            rows.into_iter().filter(|(_, [old, new])| old != new).map(|(position, _)| position).collect();
        let seen = second_look(caller, &suspects[..suspects.len().min(LOOKED_AT)]).await?;
        if !seen.is_empty() {
            self.differ += seen.len() as u64 + suspects.len().saturating_sub(LOOKED_AT) as u64;
            for difference in &seen {
                tracing::warn!(order_id = %difference.order_id, what = difference.what, "the two sides differ");
            }
            let found = Found { seen, repair };
            let _: serde_json::Value = caller.post(OLD_STORE, "/migration/log", &found, &Budget::of(CALL)).await?;
        }
        self.after = until;
        Ok(ends)
    }
}

async fn digests(
    caller: &Caller,
    store: &'static str,
    after: Position,
    until: Position,
) -> Result<Vec<Digest>, CallError> {
    // Beyond a page of the old side, the new one may have orders that the old one has not.
    let limit = if store == OLD_STORE { PAGE } else { 2 * PAGE };
    let path = format!(
        "/migration/digests?shard={}&order_id={}&until_shard={}&until_order_id={}&limit={limit}",
        after.shard, after.order_id, until.shard, until.order_id
    );
    caller.get(store, &path, &Budget::of(CALL)).await
}

async fn second_look(caller: &Caller, suspects: &[Position]) -> Result<Vec<Difference>, CallError> {
    let mut before = Vec::with_capacity(suspects.len());
    for position in suspects {
        before.push(read(caller, OLD_STORE, OrderId(position.order_id)).await?);
    }
    if !suspects.is_empty() {
        tokio::time::sleep(SECOND_LOOK).await;
    }
    let mut seen = Vec::new();
    for (position, before) in suspects.iter().zip(before) {
        let order_id = OrderId(position.order_id);
        let shard = u16::try_from(position.shard).unwrap_or(0);
        let copy = read(caller, Side::New.store(group(shard)), order_id).await?;
        let after = read(caller, OLD_STORE, order_id).await?;
        if let Some(what) = difference(before.as_ref(), copy.as_ref(), after.as_ref()) {
            seen.push(Difference { order_id, at_ms: now_ms(), what });
        }
    }
    Ok(seen)
}

async fn read(caller: &Caller, store: &'static str, order_id: OrderId) -> Result<Option<Order>, CallError> {
    match caller.get(store, &format!("/migration/orders/{order_id}"), &Budget::of(CALL)).await {
        Ok(order) => Ok(Some(order)),
        Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => Ok(None),
        Err(error) => Err(error),
    }
}

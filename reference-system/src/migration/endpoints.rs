//! What a store of the user dimension answers about a migration, beside what it answers about orders.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::mirror::{Copies, Taken};
use super::part::Part;
use super::stance::Stance;
use super::{Phase, Side};
use crate::config::now_ms;
use crate::extract::{Ask, At, Body};
use crate::ids::{OrderId, group};
use crate::orders::Order;
use crate::rpc::Failure;
use crate::store::Store;
use crate::store::copying::{self, Digest, Position};
use crate::store::migration_tables::{self as tables, Difference};
use crate::store::outbox::{self, Waiting};
use crate::store::user_dimension::by_id_anywhere;
use crate::store::whole_order::{self, WholeOrder};

/// The most rows that may be asked for.
const MOST: i64 = 2_000;

#[derive(Clone)]
struct Shared {
    store: Store,
    part: Arc<Part>,
}

/// The routes of a store that takes part.
pub(crate) fn routes(store: Store, part: Arc<Part>) -> Router {
    Router::new()
        .route("/migration/state", get(state))
        .route("/migration/stance", post(set_stance))
        .route("/migration/apply", post(apply))
        .route("/migration/orders/{id}", get(read))
        .route("/migration/older", get(older))
        .route("/migration/older/count", get(count_older))
        .route("/migration/digests", get(digests))
        .route("/migration/log", post(log))
        .route("/migration/differences", get(differences))
        .route("/migration/outbox", get(waiting).post(take_over))
        .route("/migration/outbox/done", post(done))
        .route("/migration/drop", post(drop_old))
        .with_state(Shared { store, part })
}

/// How a store is doing.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StoreState {
    pub(crate) stance: Stance,
    /// Orders that it holds.
    pub(crate) orders: i64,
    /// Orders that it has to hand over, those that failed before included.
    pub(crate) log: i64,
    /// Those that failed.
    pub(crate) failed: i64,
    /// Some of them.
    pub(crate) failed_orders: Vec<OrderId>,
    /// Reads that were compared in this life of the store, and those that differed.
    pub(crate) compared: u64,
    pub(crate) differed: u64,
}

async fn state(State(Shared { store, part }): State<Shared>) -> Result<Json<StoreState>, Failure> {
    const EXAMPLES: i64 = 20;
    let (log, failed) = tables::depth(store.readers()).await?;
    let failed_orders = if failed > 0 { tables::failed(store.readers(), EXAMPLES).await? } else { Vec::new() };
    Ok(Json(StoreState {
        stance: part.stance.get(),
        orders: copying::count(store.readers(), i64::MAX).await?,
        log,
        failed,
        failed_orders,
        compared: part.counts.compared.load(Ordering::Relaxed),
        differed: part.counts.differed.load(Ordering::Relaxed),
    }))
}

/// What a store tells when its stance has changed.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Changed {
    /// When, in milliseconds since 1970.
    pub(crate) at_ms: i64,
}

async fn set_stance(
    State(Shared { store, part }): State<Shared>,
    Body(stance): Body<Stance>,
) -> Result<Json<Changed>, Failure> {
    part.stance.set(&store, stance).await?;
    if !stance.phase.writes_both() {
        // The other side is not written any more, or not yet.
        store.write(|connection| Box::pin(tables::clear_log(connection))).await?;
    }
    tracing::info!(phase = %stance.phase, fenced = stance.fenced, "the migration moves");
    Ok(Json(Changed { at_ms: now_ms() }))
}

async fn apply(
    State(Shared { store, part }): State<Shared>,
    Body(copies): Body<Copies>,
) -> Result<Json<Taken>, Failure> {
    let stance = part.stance.clone();
    let taken = store
        .write(move |connection| {
            Box::pin(async move {
                if stance.decides() || !stance.get().phase.writes_both() {
                    return Ok(None);
                }
                let mut taken = Taken::default();
                for whole in &copies.orders {
                    if !whole_order::apply(connection, whole, copies.guard).await? {
                        taken.refused.push(whole.order.order_id);
                    }
                }
                Ok(Some(taken))
            })
        })
        .await?;
    taken.map(Json).ok_or_else(|| Failure::conflict("no_copies", "this store takes no copies in this phase"))
}

/// The row, whoever decides.
async fn read(State(Shared { store, .. }): State<Shared>, At(order_id): At<OrderId>) -> Result<Json<Order>, Failure> {
    by_id_anywhere(store.readers(), order_id)
        .await?
        .map(Json)
        .ok_or_else(|| Failure::not_found(format!("there is no order {order_id} here")))
}

#[derive(Deserialize)]
struct Older {
    /// In milliseconds since 1970.
    created_until_ms: i64,
    shard: i64,
    order_id: i64,
    limit: i64,
}

/// The next orders that are to be copied, whole.
async fn older(
    State(Shared { store, .. }): State<Shared>,
    Ask(older): Ask<Older>,
) -> Result<Json<Vec<WholeOrder>>, Failure> {
    let limit = bounded(older.limit)?;
    let after = Position { shard: older.shard, order_id: older.order_id };
    // By the writer, so that every part of an order is of one moment.
    let page = store.write(move |connection| {
        Box::pin(async move {
            let ids = copying::behind(connection, after, older.created_until_ms, limit).await?;
            whole_order::read(connection, &ids).await
        })
    });
    Ok(Json(page.await?))
}

#[derive(Deserialize)]
struct Until {
    created_until_ms: i64,
}

async fn count_older(State(Shared { store, .. }): State<Shared>, Ask(until): Ask<Until>) -> Result<Json<i64>, Failure> {
    Ok(Json(copying::count(store.readers(), until.created_until_ms).await?))
}

#[derive(Deserialize)]
struct Range {
    shard: i64,
    order_id: i64,
    until_shard: i64,
    until_order_id: i64,
    limit: i64,
}

async fn digests(
    State(Shared { store, .. }): State<Shared>,
    Ask(range): Ask<Range>,
) -> Result<Json<Vec<Digest>>, Failure> {
    let after = Position { shard: range.shard, order_id: range.order_id };
    let until = Position { shard: range.until_shard, order_id: range.until_order_id };
    Ok(Json(copying::digests(store.readers(), after, until, bounded(range.limit)?).await?))
}

fn bounded(limit: i64) -> Result<i64, Failure> {
    if (1..=MOST).contains(&limit) { Ok(limit) } else { Err(Failure::invalid(format!("limit is 1 to {MOST}"))) }
}

/// Differences that somebody else has found.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Found {
    pub(crate) seen: Vec<Difference>,
    /// Whether they are to be repaired.
    pub(crate) repair: bool,
}

async fn log(State(Shared { store, .. }): State<Shared>, Body(found): Body<Found>) -> Result<Json<Value>, Failure> {
    store
        .write(move |connection| {
            Box::pin(async move {
                tables::note_differences(connection, &found.seen).await?;
                if found.repair {
                    let orders: Vec<OrderId> = found.seen.iter().map(|difference| difference.order_id).collect();
                    tables::log(connection, &orders, 1).await?;
                }
                Ok(())
            })
        })
        .await?;
    Ok(Json(json!({})))
}

#[derive(Deserialize)]
struct Since {
    since_ms: i64,
    limit: i64,
}

/// Differences since a moment.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Differences {
    pub(crate) count: i64,
    pub(crate) latest: Vec<Difference>,
}

async fn differences(
    State(Shared { store, .. }): State<Shared>,
    Ask(since): Ask<Since>,
) -> Result<Json<Differences>, Failure> {
    let (count, latest) = tables::differences(store.readers(), since.since_ms, bounded(since.limit)?).await?;
    Ok(Json(Differences { count, latest }))
}

/// A row of the outbox, and the group of its order.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Unsent {
    pub(crate) group: u16,
    pub(crate) row: Waiting,
}

#[derive(Deserialize)]
struct Limit {
    limit: i64,
}

/// What waits in the outbox of a store that decides nothing any more.
async fn waiting(
    State(Shared { store, part }): State<Shared>,
    Ask(Limit { limit }): Ask<Limit>,
) -> Result<Json<Vec<Unsent>>, Failure> {
    if part.stance.decides() {
        return Err(Failure::conflict("deciding", "this store decides, and its outbox is published by the relay"));
    }
    let mut unsent = Vec::new();
    for row in outbox::waiting(store.readers(), bounded(limit)?).await? {
        let shard = match outbox::order_of(&row.message.id) {
            Some(order_id) => copying::shard_of(store.readers(), order_id).await?,
            None => None,
        };
        // What is about no order that is here can be told by any store.
        unsent.push(Unsent { group: shard.map_or(0, group), row });
    }
    Ok(Json(unsent))
}

async fn take_over(
    State(Shared { store, part }): State<Shared>,
    Body(rows): Body<Vec<Waiting>>,
) -> Result<Json<Value>, Failure> {
    if part.stance.decides() {
        return Err(Failure::conflict("deciding", "this store decides already"));
    }
    store.write(move |connection| Box::pin(async move { outbox::take_over(connection, &rows).await })).await?;
    Ok(Json(json!({})))
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Done {
    pub(crate) sent: Vec<i64>,
}

/// What the other side has taken over.
async fn done(
    State(Shared { store, .. }): State<Shared>,
    Body(Done { sent }): Body<Done>,
) -> Result<Json<Value>, Failure> {
    store.write(move |connection| Box::pin(async move { outbox::mark(connection, &sent).await })).await?;
    Ok(Json(json!({})))
}

/// P6.
async fn drop_old(State(Shared { store, part }): State<Shared>) -> Result<Json<Value>, Failure> {
    if part.side != Side::Old || part.stance.get().phase < Phase::P6 {
        return Err(Failure::conflict("in_use", "only the old table is dropped, and only in P6"));
    }
    store.write(|connection| Box::pin(tables::drop_orders(connection))).await?;
    Ok(Json(json!({})))
}

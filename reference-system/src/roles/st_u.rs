//! The data-access role of the user dimension: owns one group's file, routes by what statements name, and keeps which
//! numbers of orders are given away. As `st-old` it is the one table that was there before: it holds every group.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::AnyConnection;
use tokio::time::Instant;

use super::dal;
use crate::bus::teller::Teller;
use crate::config::now_ms;
use crate::extract::{Ask, At, Body};
use crate::frame::{Frame, RoleError};
use crate::ids::{OrderId, UserId};
use crate::locks::{Fenced, Guard};
use crate::migration::part::{self, Part};
use crate::migration::routing::not_deciding;
use crate::migration::{OLD_STORE, endpoints};
use crate::orders::Order;
use crate::orders::cache::writes::CacheWrites;
use crate::orders::change::{Change, TaskWrite};
use crate::orders::merchant_copy::{self, MerchantCopies};
use crate::orders::quote::Quoted;
use crate::orders::routing::{self, Holding, Mapping, Named, Statement};
use crate::orders::write_cap::WriteCap;
use crate::rpc::{Budget, Failure};
use crate::store::lock_writes;
use crate::store::outbox::{self, Telling, Waiting};
use crate::store::sequence::{self, BlockClaim, BlockGrant};
use crate::store::tasks::{self, DueTask, Retry};
use crate::store::user_dimension::{self as rows, Created, order_from, select_order};
use crate::store::{Store, StoreError, order_mapping};

/// A new order and the tasks that come with it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct NewOrder {
    pub(crate) order: Order,
    /// What its user was shown.
    pub(crate) quoted: Quoted,
    pub(crate) tasks: Vec<TaskWrite>,
    /// The lock on its user's submissions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) guard: Option<Guard>,
}

/// An order after a write, and whether this write made the difference.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Written {
    pub(crate) order: Order,
    pub(crate) applied: bool,
}

/// The outcome of a round of tasks, applied in one transaction.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct TaskOutcome {
    pub(crate) changes: Vec<Change>,
    pub(crate) done: Vec<i64>,
    pub(crate) retry: Vec<Retry>,
}

struct Dimension {
    store: Store,
    holding: Holding,
    /// In a system with an old table.
    part: Option<Arc<Part>>,
    teller: Teller,
    copies: MerchantCopies,
    cache: Arc<CacheWrites>,
    cap: Arc<WriteCap>,
}

pub(super) async fn run(frame: Frame) -> Result<(), RoleError> {
    let service = frame.plan.service.clone();
    let store = frame.open_store(&service, rows::SCHEMA).await?;
    let part = Part::of(&frame, &store).await?;
    let cache = Arc::new(CacheWrites::new(&frame, store.clone(), part.clone()));
    frame.tracker.spawn(Arc::clone(&cache).run(frame.stop.clone()));
    let metrics = Arc::clone(&cache);
    frame.tell_more(Box::new(move |out| metrics.write(out)));
    let cap = Arc::new(WriteCap::new(&frame.plan.instance, frame.directory()));
    let turns = Arc::clone(&cap);
    frame.tell_more(Box::new(move |out| turns.write(out)));
    let dimension = Arc::new(Dimension {
        store: store.clone(),
        holding: Holding {
            dimension: routing::Dimension::User,
            group: (service != OLD_STORE).then(|| super::group_of(&service)),
            slot_hash: frame.config.slot_hash,
        },
        part: part.clone(),
        teller: frame.teller(),
        copies: MerchantCopies {
            caller: frame.caller.clone(),
            slot_hash: frame.config.slot_hash,
            tracker: frame.tracker.clone(),
        },
        cache,
        cap,
    });
    let mut routes = Router::new()
        .route("/orders", post(create))
        .route("/users/{user}/orders", get(list))
        .route("/mapping", post(map))
        .route("/mapping/{id}", get(mapping))
        .route("/changes", post(change))
        .route("/tasks", get(due))
        .route("/tasks/settle", post(settle))
        .route("/outbox", get(outbox))
        .route("/outbox/mark", post(mark))
        .route("/blocks", post(claim))
        .with_state(Arc::clone(&dimension))
        .merge(dal::reads(store.clone(), dimension.holding, part.clone()));
    if let Some(part) = part {
        routes = routes.merge(endpoints::routes(store, part));
    }
    let describe = Box::new(move || json!({ "dimension": "user", "group": dimension.holding.group }));
    frame.serve(routes, describe, std::future::ready(())).await
}

impl Dimension {
    /// Refuses what only the deciding side of a migration may answer.
    fn decides(&self) -> Result<(), Failure> {
        part::decides(self.part.as_deref())
    }

    /// Runs a write of orders and tells the bus of it; while both sides of a migration are written, hands on the orders
    /// that it names.
    async fn decide<T, F>(&self, budget: &Budget, work: F) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(
                &'c mut AnyConnection,
                &'c mut Telling,
            ) -> BoxFuture<'c, Result<(T, Vec<OrderId>), StoreError>>
            + Send
            + 'static,
    {
        let Some(part) = self.part.clone() else {
            return Ok(self.teller.write(&self.store, budget, work).await?.0);
        };
        let noting = Arc::clone(&part);
        let done = self.teller.write(&self.store, budget, move |connection, telling| {
            Box::pin(async move {
                // Here and not before: the stance changes between two writes.
                if !noting.stance.decides() {
                    return Ok(None);
                }
                let (done, changed) = work(&mut *connection, telling).await?;
                Ok(Some((done, noting.note(connection, changed).await?)))
            })
        });
        let (done, carried) = done.await?.ok_or_else(not_deciding)?;
        part.wait(carried).await;
        Ok(done)
    }
}

async fn create(
    State(dimension): State<Arc<Dimension>>,
    budget: Budget,
    Statement(mut new): Statement<NewOrder>,
) -> Result<Json<Written>, Failure> {
    let shard = dimension.holding.write(&Named::of(&new.order))?;
    dimension.cap.turn([shard], &budget).await?;
    let order_id = new.order.order_id;
    let way = dimension.copies.way();
    merchant_copy::tasks_of(way, &mut new.tasks);
    let intent = dimension.cache.intend([new.order.order_id], Some(new.order.user_id));
    let made = dimension
        .decide(&budget, move |c, telling| {
            Box::pin(async move {
                let guard = new.guard.as_ref();
                if !lock_writes::admits(c, guard).await? {
                    return Ok((Err(Fenced), Vec::new()));
                }
                let created = rows::create(c, shard, new.order, &new.quoted, &new.tasks, telling).await?;
                let mut changed = Vec::new();
                if let Created::New(order) = &created {
                    lock_writes::note(c, guard, now_ms()).await?;
                    changed.push(order.order_id);
                }
                Ok((Ok(created), changed))
            })
        })
        .await?;
    let (order, applied) = match made? {
        Created::New(order) => (order, true),
        Created::Before(order) => (order, false),
        // No conflict of the caller's making, and what is held under this ID is another order's.
        Created::IdTaken => {
            return Err(Failure::unavailable("id_taken", format!("the ID {order_id} is another order's")));
        }
    };
    let copied = if applied { vec![order.clone()] } else { Vec::new() };
    intent.told(std::slice::from_ref(&order)).await;
    dimension.copies.write(way, copied, &budget).await?;
    Ok(Json(Written { order, applied }))
}

async fn map(
    State(dimension): State<Arc<Dimension>>,
    Statement(mapping): Statement<Mapping>,
) -> Result<Json<Value>, Failure> {
    dimension.holding.own(dimension.holding.slot_hash.mapping_shard(mapping.order_id))?;
    dimension.store.write(move |c| Box::pin(async move { order_mapping::write(c, &mapping).await })).await?;
    Ok(Json(json!({})))
}

async fn mapping(State(dimension): State<Arc<Dimension>>, At(order_id): At<OrderId>) -> Result<Json<Mapping>, Failure> {
    dimension.holding.own(dimension.holding.slot_hash.mapping_shard(order_id))?;
    order_mapping::read(dimension.store.readers(), order_id)
        .await?
        .map(Json)
        .ok_or_else(|| Failure::not_found(format!("there is no order {order_id}")))
}

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    since: i64,
    limit: Limit,
}

/// The most rows that an answer may have: 1 to 1,000.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "i64")]
struct Limit(i64);

impl TryFrom<i64> for Limit {
    type Error = String;

    fn try_from(limit: i64) -> Result<Self, String> {
        if (1..=1_000).contains(&limit) { Ok(Self(limit)) } else { Err(format!("limit is 1 to 1000, not {limit}")) }
    }
}

/// How long an answer may wait for something to tell, in milliseconds: whoever has more time asks again.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "u64")]
struct Patience(u64);

impl TryFrom<u64> for Patience {
    type Error = String;

    fn try_from(wait_ms: u64) -> Result<Self, String> {
        if wait_ms <= 30_000 { Ok(Self(wait_ms)) } else { Err(format!("wait_ms is 0 to 30000, not {wait_ms}")) }
    }
}

async fn list(
    State(dimension): State<Arc<Dimension>>,
    At(user_id): At<UserId>,
    Ask(page): Ask<Page>,
) -> Result<Json<Vec<Order>>, Failure> {
    let shard = dimension.holding.read(&Named { user_id: Some(user_id), ..Named::default() })?;
    dimension.decides()?;
    let found = sqlx::query(select_order!(
        "FROM orders o WHERE o.shard = $1 AND o.user_id = $2 AND o.created_at_ms >= $3 \
         ORDER BY o.created_at_ms DESC, o.order_id DESC LIMIT $4"
    ))
    .bind(i64::from(shard))
    .bind(user_id.0)
    .bind(page.since)
    .bind(page.limit.0)
    .fetch_all(dimension.store.readers())
    .await
    .map_err(StoreError::from)?;
    Ok(Json(found.iter().map(order_from).collect::<Result<_, _>>()?))
}

async fn change(
    State(dimension): State<Arc<Dimension>>,
    budget: Budget,
    Statement(mut change): Statement<Change>,
) -> Result<Json<Written>, Failure> {
    let shard = dimension.holding.write(&change.named())?;
    dimension.cap.turn([shard], &budget).await?;
    let order_id = change.order_id;
    let way = dimension.copies.way();
    merchant_copy::tasks_of(way, &mut change.tasks);
    let intent = dimension.cache.intend([order_id], None);
    let written = dimension
        .decide(&budget, move |c, telling| {
            Box::pin(async move {
                let guard = change.guard.as_ref();
                if !lock_writes::admits(c, guard).await? {
                    return Ok((Err(Fenced), Vec::new()));
                }
                let written = rows::change(c, shard, &change, now_ms(), telling).await?;
                let mut changed = Vec::new();
                if written.as_ref().is_some_and(|(_, applied)| *applied) {
                    lock_writes::note(c, guard, now_ms()).await?;
                    changed.push(order_id);
                }
                Ok((Ok(written), changed))
            })
        })
        .await?;
    let written = written?;
    let answered: Vec<Order> = written.iter().map(|(order, _)| order.clone()).collect();
    let copied: Vec<Order> = written.iter().filter(|(_, applied)| *applied).map(|(order, _)| order.clone()).collect();
    intent.told(&answered).await;
    dimension.copies.write(way, copied, &budget).await?;
    written
        .map(|(order, applied)| Json(Written { order, applied }))
        .ok_or_else(|| Failure::not_found(format!("there is no order {order_id}")))
}

#[derive(Deserialize)]
struct Wait {
    limit: Limit,
    wait_ms: Patience,
}

impl Wait {
    fn deadline(&self) -> Instant {
        Instant::now() + Duration::from_millis(self.wait_ms.0)
    }
}

/// Answers as soon as a task is due, at the latest after `wait_ms`.
async fn due(State(dimension): State<Arc<Dimension>>, Ask(wait): Ask<Wait>) -> Result<Json<Vec<DueTask>>, Failure> {
    /// How often it is looked whether this side has begun to decide.
    const LOOK: Duration = Duration::from_millis(100);
    let deadline = wait.deadline();
    let mut written = dimension.teller.written();
    loop {
        written.borrow_and_update();
        if dimension.decides().is_err() {
            // The tasks of the side that decides are the ones to do; this may change any moment.
            tokio::time::sleep_until(deadline.min(Instant::now() + LOOK)).await;
            if Instant::now() >= deadline {
                return Ok(Json(Vec::new()));
            }
            continue;
        }
        let tasks = tasks::due(dimension.store.readers(), now_ms(), wait.limit.0).await?;
        let now = Instant::now();
        if !tasks.is_empty() || now >= deadline {
            return Ok(Json(tasks));
        }
        // Timers come due without a write; whoever adds one writes.
        let next_ms = tasks::next_due_ms(dimension.store.readers()).await?;
        let timer =
            next_ms.map(|at_ms| now + Duration::from_millis(at_ms.saturating_sub(now_ms()).max(1).unsigned_abs()));
        let until = timer.map_or(deadline, |timer| timer.min(deadline));
        // Either way, look again.
        let _ = tokio::time::timeout_at(until, written.changed()).await;
    }
}

async fn settle(
    State(dimension): State<Arc<Dimension>>,
    budget: Budget,
    Body(mut outcome): Body<TaskOutcome>,
) -> Result<Json<Value>, Failure> {
    let way = dimension.copies.way();
    let mut shards = Vec::with_capacity(outcome.changes.len());
    for change in &mut outcome.changes {
        shards.push(dimension.holding.write(&change.named())?);
        merchant_copy::tasks_of(way, &mut change.tasks);
    }
    // One transaction is one write of each shard.
    dimension.cap.turn(shards.iter().copied(), &budget).await?;
    let intent = dimension.cache.intend(outcome.changes.iter().map(|change| change.order_id), None);
    let tells_tasks = dimension.part.is_some();
    let changed = dimension
        .decide(&budget, move |connection, telling| {
            Box::pin(async move {
                let mut changed: Vec<Order> = Vec::new();
                let mut touched: BTreeSet<OrderId> = BTreeSet::new();
                if tells_tasks {
                    // The other side must not do again what is done.
                    touched.extend(tasks::orders_of(connection, &outcome.done).await?);
                }
                for (change, shard) in outcome.changes.iter().zip(shards) {
                    // A change that lost its race changes nothing: the order went another way,
                    // and what that way needs has task rows of its own.
                    let written = rows::change(connection, shard, change, now_ms(), telling).await?;
                    changed.extend(written.filter(|(_, applied)| *applied).map(|(order, _)| order));
                }
                tasks::settle(connection, &outcome.done, &outcome.retry).await?;
                touched.extend(changed.iter().map(|order| order.order_id));
                Ok((changed, touched.into_iter().collect()))
            })
        })
        .await?;
    intent.told(&changed).await;
    dimension.copies.write(way, changed, &budget).await?;
    Ok(Json(json!({})))
}

/// Answers as soon as an event waits to be published, at the latest after `wait_ms`.
async fn outbox(State(dimension): State<Arc<Dimension>>, Ask(wait): Ask<Wait>) -> Result<Json<Vec<Waiting>>, Failure> {
    let deadline = wait.deadline();
    if dimension.decides().is_err() {
        // The outbox of a side that decides no more is handed over.
        tokio::time::sleep_until(deadline).await;
        return Ok(Json(Vec::new()));
    }
    let mut written = dimension.teller.written();
    Ok(Json(outbox::next_waiting(&dimension.store, wait.limit.0, deadline, &mut written).await?))
}

#[derive(Deserialize)]
struct Sent {
    sent: Vec<i64>,
}

async fn mark(
    State(dimension): State<Arc<Dimension>>,
    Body(Sent { sent }): Body<Sent>,
) -> Result<Json<Value>, Failure> {
    dimension.store.write(move |c| Box::pin(async move { outbox::mark(c, &sent).await })).await?;
    Ok(Json(json!({})))
}

async fn claim(
    State(dimension): State<Arc<Dimension>>,
    Body(claim): Body<BlockClaim>,
) -> Result<Json<BlockGrant>, Failure> {
    /// The longest name of a life; Redis' has 40 characters.
    const LONGEST_LIFE: usize = 100;
    if claim.life.len() > LONGEST_LIFE {
        return Err(Failure::invalid(format!("life has at most {LONGEST_LIFE} bytes")));
    }
    // One place knows all blocks.
    dimension.holding.own(0)?;
    Ok(Json(dimension.store.write(move |c| Box::pin(async move { sequence::claim(c, &claim).await })).await?))
}

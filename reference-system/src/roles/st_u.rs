//! The data-access role of the user dimension: owns one group's file, routes by slot, refuses what
//! names no key of its own.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::bus::teller::Teller;
use crate::config::now_ms;
use crate::extract::{Ask, At, Body};
use crate::frame::{Frame, RoleError};
use crate::ids::{OrderId, SlotHash, UserId, group, shard};
use crate::locks::{Fenced, Guard};
use crate::orders::Order;
use crate::orders::change::{Change, TaskWrite};
use crate::orders::merchant_copy::{self, MerchantCopies};
use crate::rpc::{Budget, Failure};
use crate::store::lock_writes;
use crate::store::outbox::{self, Waiting};
use crate::store::user_dimension::{self as rows, DueTask, Retry, SequenceBlock, order_from, select_order};
use crate::store::{Store, StoreError};

/// A new order and the tasks that come with it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct NewOrder {
    pub(crate) order: Order,
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
    group: u16,
    slot_hash: SlotHash,
    teller: Teller,
    copies: MerchantCopies,
}

pub(super) async fn run(frame: Frame) -> Result<(), RoleError> {
    let service = frame.plan.service.clone();
    let store = frame.open_store(&service, rows::SCHEMA).await?;
    store
        .write(|connection| Box::pin(rows::raise_epoch(connection)))
        .await
        .map_err(|source| RoleError::Store { name: service.clone(), source })?;
    let dimension = Arc::new(Dimension {
        store,
        group: super::group_of(&service),
        slot_hash: frame.config.slot_hash,
        teller: frame.teller(),
        copies: MerchantCopies { caller: frame.caller.clone(), tracker: frame.tracker.clone() },
    });
    let routes = Router::new()
        .route("/orders", post(create))
        .route("/orders/{id}", get(read))
        .route("/users/{user}/orders", get(list))
        .route("/users/{user}/request", get(by_request))
        .route("/changes", post(change))
        .route("/tasks", get(due))
        .route("/tasks/settle", post(settle))
        .route("/outbox", get(outbox))
        .route("/outbox/mark", post(mark))
        .route("/sequence", post(sequence))
        .with_state(Arc::clone(&dimension));
    let describe = Box::new(move || json!({ "dimension": "user", "group": dimension.group }));
    frame.serve(routes, describe, std::future::ready(())).await
}

impl Dimension {
    fn owns(&self, owner: u16) -> Result<(), Failure> {
        if owner == self.group {
            return Ok(());
        }
        Err(Failure::new(
            StatusCode::MISDIRECTED_REQUEST,
            "wrong_group",
            format!("group {} was asked for a row of group {owner}", self.group),
        ))
    }

    fn shard_of(&self, user_id: UserId) -> Result<u16, Failure> {
        let shard = shard(self.slot_hash.slot(user_id.0));
        self.owns(group(shard))?;
        Ok(shard)
    }
}

async fn create(
    State(dimension): State<Arc<Dimension>>,
    budget: Budget,
    Body(mut new): Body<NewOrder>,
) -> Result<Json<Written>, Failure> {
    dimension.owns(new.order.order_id.user_group())?;
    if dimension.shard_of(new.order.user_id)? != new.order.order_id.user_shard() {
        return Err(Failure::invalid("the order ID does not carry its user's slot"));
    }
    let way = dimension.copies.way();
    merchant_copy::tasks_of(way, &mut new.tasks);
    let made = dimension
        .teller
        .write(&dimension.store, &budget, move |c, telling| {
            Box::pin(async move {
                let guard = new.guard.as_ref();
                if !lock_writes::admits(c, guard).await? {
                    return Ok(Err(Fenced));
                }
                let (order, applied) = rows::create(c, new.order, &new.tasks, telling).await?;
                if applied {
                    lock_writes::note(c, guard, now_ms()).await?;
                }
                Ok(Ok((order, applied)))
            })
        })
        .await?;
    let (order, applied) = made?;
    let copied = if applied { vec![order.clone()] } else { Vec::new() };
    dimension.copies.write(way, copied, &budget).await?;
    Ok(Json(Written { order, applied }))
}

async fn read(State(dimension): State<Arc<Dimension>>, At(order_id): At<OrderId>) -> Result<Json<Order>, Failure> {
    dimension.owns(order_id.user_group())?;
    rows::by_id(dimension.store.readers(), order_id.user_shard(), order_id)
        .await?
        .map(Json)
        .ok_or_else(|| Failure::not_found(format!("there is no order {order_id}")))
}

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    since: i64,
    limit: i64,
}

async fn list(
    State(dimension): State<Arc<Dimension>>,
    At(user_id): At<UserId>,
    Ask(page): Ask<Page>,
) -> Result<Json<Vec<Order>>, Failure> {
    let shard = dimension.shard_of(user_id)?;
    let found = sqlx::query(select_order!(
        "FROM orders o WHERE o.shard = $1 AND o.user_id = $2 AND o.created_at_ms >= $3 \
         ORDER BY o.created_at_ms DESC LIMIT $4"
    ))
    .bind(i64::from(shard))
    .bind(user_id.0)
    .bind(page.since)
    .bind(page.limit)
    .fetch_all(dimension.store.readers())
    .await
    .map_err(StoreError::from)?;
    Ok(Json(found.iter().map(order_from).collect::<Result<_, _>>()?))
}

#[derive(Deserialize)]
struct RequestKey {
    req_id: String,
}

async fn by_request(
    State(dimension): State<Arc<Dimension>>,
    At(user_id): At<UserId>,
    Ask(key): Ask<RequestKey>,
) -> Result<Json<Order>, Failure> {
    let shard = dimension.shard_of(user_id)?;
    let found = sqlx::query(select_order!("FROM orders o WHERE o.shard = $1 AND o.user_id = $2 AND o.req_id = $3"))
        .bind(i64::from(shard))
        .bind(user_id.0)
        .bind(key.req_id)
        .fetch_optional(dimension.store.readers())
        .await
        .map_err(StoreError::from)?;
    match found {
        Some(row) => Ok(Json(order_from(&row)?)),
        None => Err(Failure::not_found("this request made no order")),
    }
}

async fn change(
    State(dimension): State<Arc<Dimension>>,
    budget: Budget,
    Body(mut change): Body<Change>,
) -> Result<Json<Written>, Failure> {
    dimension.owns(change.order_id.user_group())?;
    let order_id = change.order_id;
    let way = dimension.copies.way();
    merchant_copy::tasks_of(way, &mut change.tasks);
    let written = dimension
        .teller
        .write(&dimension.store, &budget, move |c, telling| {
            Box::pin(async move {
                let guard = change.guard.as_ref();
                if !lock_writes::admits(c, guard).await? {
                    return Ok(Err(Fenced));
                }
                let written = rows::change(c, &change, now_ms(), telling).await?;
                if written.as_ref().is_some_and(|(_, applied)| *applied) {
                    lock_writes::note(c, guard, now_ms()).await?;
                }
                Ok(Ok(written))
            })
        })
        .await?;
    let written = written?;
    let copied = written.iter().filter(|(_, applied)| *applied).map(|(order, _)| order.clone()).collect();
    dimension.copies.write(way, copied, &budget).await?;
    written
        .map(|(order, applied)| Json(Written { order, applied }))
        .ok_or_else(|| Failure::not_found(format!("there is no order {order_id}")))
}

#[derive(Deserialize)]
struct Wait {
    limit: i64,
    wait_ms: u64,
}

/// Answers as soon as a task is due, at the latest after `wait_ms`.
async fn due(State(dimension): State<Arc<Dimension>>, Ask(wait): Ask<Wait>) -> Result<Json<Vec<DueTask>>, Failure> {
    /// Timers come due without a write, so the table is looked at now and then.
    const LOOK: Duration = Duration::from_millis(100);
    let deadline = Instant::now() + Duration::from_millis(wait.wait_ms);
    let mut written = dimension.teller.written();
    loop {
        written.borrow_and_update();
        let tasks = rows::due_tasks(dimension.store.readers(), now_ms(), wait.limit).await?;
        let now = Instant::now();
        if !tasks.is_empty() || now >= deadline {
            return Ok(Json(tasks));
        }
        let until = deadline.min(now + LOOK);
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
    for change in &mut outcome.changes {
        dimension.owns(change.order_id.user_group())?;
        merchant_copy::tasks_of(way, &mut change.tasks);
    }
    let changed = dimension
        .teller
        .write(&dimension.store, &budget, move |connection, telling| {
            Box::pin(async move {
                let mut changed = Vec::new();
                for change in &outcome.changes {
                    // A change that lost its race changes nothing: the order went another way,
                    // and what that way needs has task rows of its own.
                    let written = rows::change(connection, change, now_ms(), telling).await?;
                    changed.extend(written.filter(|(_, applied)| *applied).map(|(order, _)| order));
                }
                rows::settle_tasks(connection, &outcome.done, &outcome.retry).await?;
                Ok(changed)
            })
        })
        .await?;
    dimension.copies.write(way, changed, &budget).await?;
    Ok(Json(json!({})))
}

/// Answers as soon as an event waits to be published, at the latest after `wait_ms`.
async fn outbox(State(dimension): State<Arc<Dimension>>, Ask(wait): Ask<Wait>) -> Result<Json<Vec<Waiting>>, Failure> {
    let deadline = Instant::now() + Duration::from_millis(wait.wait_ms);
    let mut written = dimension.teller.written();
    Ok(Json(outbox::next_waiting(&dimension.store, wait.limit, deadline, &mut written).await?))
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

#[derive(Deserialize)]
struct Count {
    count: i64,
}

async fn sequence(
    State(dimension): State<Arc<Dimension>>,
    Body(Count { count }): Body<Count>,
) -> Result<Json<SequenceBlock>, Failure> {
    if !(1..=100_000).contains(&count) {
        return Err(Failure::invalid("count must be 1 to 100000"));
    }
    let block = dimension.store.write(move |connection| Box::pin(rows::take_block(connection, count))).await?;
    Ok(Json(block))
}

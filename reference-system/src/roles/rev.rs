//! The reverse flow: refunds that somebody applies for after acceptance, and who grants them.
//!
//! A refund's row here is the master of its state; the order's row mirrors it by compare-and-set, and where a mirror
//! does not get through, a loop brings it up to date. The money moves as the order's own tasks say.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};
use tokio_util::sync::CancellationToken;

use crate::bus::event::{Event, RefundEvent};
use crate::bus::relay::{Outbox, Relay};
use crate::bus::teller::Teller;
use crate::config::now_ms;
use crate::extract::{At, Body};
use crate::frame::{Frame, RoleError};
use crate::ids::{OrderId, RestaurantId, UserId};
use crate::orders::plan::{self, RefundStep};
use crate::orders::service::Orders;
use crate::orders::{
    Order, REFUND_APPLIED, REFUND_FAILED, REFUND_GRANTED, REFUND_IN_ARBITRATION, REFUND_REJECTED, REFUND_SUCCEEDED,
};
use crate::rpc::{Budget, Failure};
use crate::store::outbox::{Telling, outbox_table};
use crate::store::{Store, StoreError};

/// Repeatable. `mirrored` says whether the order's row knows the state; `version` counts states.
const SCHEMA: &str = concat!(
    outbox_table!(),
    "
CREATE TABLE IF NOT EXISTS requests (
  refund_no IDENTITY, order_id BIGINT NOT NULL, req_id TEXT NOT NULL, amount_fen BIGINT NOT NULL,
  reason TEXT NOT NULL, state BIGINT NOT NULL, arbitrated BIGINT NOT NULL DEFAULT 0,
  mirrored BIGINT NOT NULL DEFAULT 0, created_at_ms BIGINT NOT NULL, version BIGINT NOT NULL DEFAULT 1,
  user_id BIGINT NOT NULL, restaurant_id BIGINT NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS requests_by_key ON requests (order_id, req_id);
CREATE INDEX IF NOT EXISTS requests_behind ON requests (refund_no) WHERE mirrored = 0;
CREATE INDEX IF NOT EXISTS requests_unanswered ON requests (created_at_ms) WHERE state = 1;
"
);

/// The store's name.
pub(crate) const STORE: &str = "rev";

/// How often rows are looked for that the order does not know yet.
const LOOK: Duration = Duration::from_millis(200);
/// The time for one of them.
const CATCH_UP: Duration = Duration::from_secs(1);
/// The longest reason and idempotency key, in bytes.
const LONGEST_TEXT: usize = 200;

#[derive(Clone)]
struct Reverse {
    orders: Orders,
    store: Store,
    teller: Arc<Teller>,
}

/// A request for a refund.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RefundRequest {
    #[serde(alias = "order_id")]
    pub(crate) order: OrderId,
    pub(crate) amount_fen: i64,
    #[serde(default)]
    pub(crate) reason: String,
}

/// A refund as clients see it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Refund {
    pub(crate) refund_no: i64,
    pub(crate) order_id: OrderId,
    pub(crate) amount_fen: i64,
    pub(crate) reason: String,
    /// As an order's `refund_status`.
    pub(crate) state: i64,
}

pub(super) async fn run(frame: Frame) -> Result<(), RoleError> {
    let reverse = Reverse {
        orders: Orders { caller: frame.caller.clone(), config: Arc::clone(&frame.config) },
        store: frame.open_store(STORE, SCHEMA).await?,
        teller: Arc::new(frame.teller()),
    };
    let outbox = Outbox::Own { store: reverse.store.clone(), written: reverse.teller.written() };
    frame.tracker.spawn(Relay { outbox, directory: frame.directory(), bus: frame.bus() }.run(frame.stop.clone()));
    frame.tracker.spawn(reverse.clone().keep_orders_up_to_date(frame.stop.clone()));
    let routes = Router::new()
        .route("/refunds", post(apply))
        .route("/refunds/{refund}", get(read))
        .route("/refunds/{refund}/approve", post(async |state, budget, at| decide(state, budget, at, APPROVE).await))
        .route("/refunds/{refund}/reject", post(async |state, budget, at| decide(state, budget, at, REJECT).await))
        .route(
            "/refunds/{refund}/arbitrate",
            post(async |state, budget, at| decide(state, budget, at, ARBITRATE).await),
        )
        .with_state(reverse);
    frame.serve(routes, Box::new(|| json!({})), frame.wait_for(&["st-u0", "st-u1"])).await
}

fn refund_from(row: &AnyRow) -> Result<Refund, StoreError> {
    Ok(Refund {
        refund_no: row.try_get(0)?,
        order_id: OrderId(row.try_get(1)?),
        amount_fen: row.try_get(2)?,
        reason: row.try_get(3)?,
        state: row.try_get(4)?,
    })
}

/// Selects what [`refund_from`] reads.
macro_rules! select_refund {
    ($rest:literal) => {
        concat!("SELECT refund_no, order_id, amount_fen, reason, state FROM requests ", $rest)
    };
}

async fn by_number(
    executor: impl sqlx::Executor<'_, Database = sqlx::Any>,
    refund_no: i64,
) -> Result<Option<Refund>, StoreError> {
    let row = sqlx::query(select_refund!("WHERE refund_no = $1")).bind(refund_no).fetch_optional(executor).await?;
    row.as_ref().map(refund_from).transpose()
}

async fn by_key(
    executor: impl sqlx::Executor<'_, Database = sqlx::Any>,
    order_id: OrderId,
    req_id: &str,
) -> Result<Option<Refund>, StoreError> {
    let query = sqlx::query(select_refund!("WHERE order_id = $1 AND req_id = $2")).bind(order_id.0).bind(req_id);
    query.fetch_optional(executor).await?.as_ref().map(refund_from).transpose()
}

async fn is_open(connection: &mut AnyConnection, order_id: OrderId) -> Result<bool, StoreError> {
    let open: i64 = sqlx::query_scalar("SELECT count(*) FROM requests WHERE order_id = $1 AND state IN (1, 3, 5)")
        .bind(order_id.0)
        .fetch_one(connection)
        .await?;
    Ok(open > 0)
}

fn no_refund(refund_no: i64) -> Failure {
    Failure::not_found(format!("there is no refund {refund_no}"))
}

fn open_already() -> Failure {
    plan::Refusal::RefundOpen.into()
}

async fn read(State(reverse): State<Reverse>, At(refund_no): At<i64>) -> Result<Json<Refund>, Failure> {
    by_number(reverse.store.readers(), refund_no).await?.map(Json).ok_or_else(|| no_refund(refund_no))
}

async fn apply(
    State(reverse): State<Reverse>,
    budget: Budget,
    Body(request): Body<RefundRequest>,
) -> Result<Json<Refund>, Failure> {
    let req_id = match budget.request_id() {
        Some(key) if (1..=LONGEST_TEXT).contains(&key.len()) => key.to_owned(),
        _ => {
            return Err(Failure::invalid(format!(
                "the header x-req-id (1 to {LONGEST_TEXT} characters) is required: it makes a retry safe"
            )));
        }
    };
    if request.reason.len() > LONGEST_TEXT || request.reason.contains('\0') {
        return Err(Failure::invalid(format!("a reason is text of at most {LONGEST_TEXT} bytes")));
    }
    if request.amount_fen <= 0 {
        return Err(Failure::invalid("amount_fen must be positive"));
    }
    let order_id = request.order;
    if let Some(refund) = by_key(reverse.store.readers(), order_id, &req_id).await? {
        return Ok(Json(refund));
    }
    // Refused before anything is written, if it is to be refused.
    let order = reverse.orders.read(order_id, &budget).await?;
    plan::refundable(&order, request.amount_fen, &reverse.orders.config.timers, now_ms())?;
    let entered = reverse
        .teller
        .write(&reverse.store, &budget, move |connection, telling| {
            Box::pin(async move { enter(connection, &request, &req_id, &order, telling).await })
        })
        .await?;
    let refund = entered.ok_or_else(open_already)?;
    reverse.mirror(refund, &budget).await.map(Json)
}

/// A new row; the one that this request made before; or `None` if another refund of the order is open.
async fn enter(
    connection: &mut AnyConnection,
    request: &RefundRequest,
    req_id: &str,
    order: &Order,
    telling: &mut Telling,
) -> Result<Option<Refund>, StoreError> {
    if let Some(refund) = by_key(&mut *connection, request.order, req_id).await? {
        return Ok(Some(refund));
    }
    if is_open(connection, request.order).await? {
        return Ok(None);
    }
    let row = sqlx::query(
        "INSERT INTO requests (order_id, req_id, amount_fen, reason, state, created_at_ms, user_id, restaurant_id) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING refund_no, order_id, amount_fen, reason, state",
    )
    .bind(request.order.0)
    .bind(req_id)
    .bind(request.amount_fen)
    .bind(&request.reason)
    .bind(REFUND_APPLIED)
    .bind(now_ms())
    .bind(order.user_id.0)
    .bind(order.restaurant_id.0)
    .fetch_one(&mut *connection)
    .await?;
    let refund = refund_from(&row)?;
    tell(connection, refund.refund_no, telling).await?;
    Ok(Some(refund))
}

/// Notes for the bus that a refund has come to the state that its row has now.
async fn tell(connection: &mut AnyConnection, refund_no: i64, telling: &mut Telling) -> Result<(), StoreError> {
    let row = sqlx::query(
        "SELECT version, state, order_id, user_id, restaurant_id, amount_fen FROM requests WHERE refund_no = $1",
    )
    .bind(refund_no)
    .fetch_one(&mut *connection)
    .await?;
    let kind = match row.try_get::<i64, _>(1)? {
        REFUND_APPLIED => "applied",
        REFUND_REJECTED => "rejected",
        REFUND_IN_ARBITRATION => "arbitrated",
        REFUND_FAILED => "failed",
        REFUND_GRANTED => "granted",
        REFUND_SUCCEEDED => "succeeded",
        state => return Err(StoreError::Row(format!("{state} is no state of a refund"))),
    };
    let event = RefundEvent {
        refund_no,
        version: row.try_get(0)?,
        kind: kind.to_owned(),
        order_id: OrderId(row.try_get(2)?),
        user_id: UserId(row.try_get(3)?),
        restaurant_id: RestaurantId(row.try_get(4)?),
        amount_fen: row.try_get(5)?,
        at_ms: now_ms(),
        cause: telling.cause.clone(),
    };
    telling.note(connection, &Event::Refund(event)).await
}

/// What somebody decides about a refund: from which states, to which one.
#[derive(Clone, Copy)]
struct Decision {
    from: &'static [i64],
    to: i64,
    /// Repeating it in these states changes nothing.
    done: &'static [i64],
}

const APPROVE: Decision = Decision {
    from: &[REFUND_APPLIED, REFUND_IN_ARBITRATION],
    to: REFUND_GRANTED,
    done: &[REFUND_GRANTED, REFUND_SUCCEEDED],
};
const REJECT: Decision =
    Decision { from: &[REFUND_APPLIED, REFUND_IN_ARBITRATION], to: REFUND_REJECTED, done: &[REFUND_REJECTED] };
const ARBITRATE: Decision =
    Decision { from: &[REFUND_REJECTED], to: REFUND_IN_ARBITRATION, done: &[REFUND_IN_ARBITRATION] };

async fn decide(
    State(reverse): State<Reverse>,
    budget: Budget,
    At(refund_no): At<i64>,
    decision: Decision,
) -> Result<Json<Refund>, Failure> {
    let decided = reverse.decide(refund_no, decision, &budget).await??;
    reverse.mirror(decided, &budget).await.map(Json)
}

async fn decide_row(
    connection: &mut AnyConnection,
    refund_no: i64,
    decision: Decision,
    telling: &mut Telling,
) -> Result<Result<Refund, Failure>, StoreError> {
    let Some(mut refund) = by_number(&mut *connection, refund_no).await? else {
        return Ok(Err(no_refund(refund_no)));
    };
    if decision.done.contains(&refund.state) {
        return Ok(Ok(refund));
    }
    if !decision.from.contains(&refund.state) {
        let why = format!("the refund has state {}, which does not allow this", refund.state);
        return Ok(Err(Failure::conflict("wrong_state", why)));
    }
    let appeal = decision.to == REFUND_IN_ARBITRATION;
    if appeal {
        let before: i64 = sqlx::query_scalar("SELECT arbitrated FROM requests WHERE refund_no = $1")
            .bind(refund_no)
            .fetch_one(&mut *connection)
            .await?;
        if before != 0 {
            return Ok(Err(Failure::conflict("arbitrated", "the platform has decided on this refund already")));
        }
        if is_open(connection, refund.order_id).await? {
            return Ok(Err(open_already()));
        }
    }
    sqlx::query(
        "UPDATE requests SET state = $1, mirrored = 0, arbitrated = arbitrated + $2, version = version + 1 \
         WHERE refund_no = $3",
    )
    .bind(decision.to)
    .bind(i64::from(appeal))
    .bind(refund_no)
    .execute(&mut *connection)
    .await?;
    tell(connection, refund_no, telling).await?;
    refund.state = decision.to;
    Ok(Ok(refund))
}

impl Reverse {
    async fn decide(
        &self,
        refund_no: i64,
        decision: Decision,
        budget: &Budget,
    ) -> Result<Result<Refund, Failure>, Failure> {
        self.teller
            .write(&self.store, budget, move |connection, telling| {
                Box::pin(async move { decide_row(connection, refund_no, decision, telling).await })
            })
            .await
    }

    /// Tells the order's row. What the order refuses has failed; what does not get through is told again later.
    async fn mirror(&self, mut refund: Refund, budget: &Budget) -> Result<Refund, Failure> {
        let step = match refund.state {
            REFUND_APPLIED => RefundStep::Apply,
            REFUND_REJECTED => RefundStep::Reject,
            REFUND_IN_ARBITRATION => RefundStep::Arbitrate,
            REFUND_GRANTED => RefundStep::Grant,
            _ => return Ok(refund),
        };
        let timers = &self.orders.config.timers;
        let (refund_no, amount_fen) = (refund.refund_no, refund.amount_fen);
        let told = self
            .orders
            .change(refund.order_id, budget, |order| {
                Ok(plan::refund(order, step, refund_no, amount_fen, timers, now_ms())?)
            })
            .await;
        match told {
            Ok(order) if step == RefundStep::Grant => {
                // Not done before the money is there.
                if order.refund_no == Some(refund_no) && order.refund_status == REFUND_SUCCEEDED {
                    self.note(&mut refund, REFUND_SUCCEEDED, budget).await?;
                }
                Ok(refund)
            }
            Ok(_) => {
                let state = refund.state;
                self.note(&mut refund, state, budget).await?;
                Ok(refund)
            }
            Err(failure) if failure.status == StatusCode::CONFLICT => {
                self.note(&mut refund, REFUND_FAILED, budget).await?;
                Err(failure)
            }
            Err(failure) => {
                tracing::warn!(refund_no, error = failure.body.error, "an order does not know its refund yet");
                Ok(refund)
            }
        }
    }

    /// Notes that the order knows, unless the row has moved on meanwhile.
    async fn note(&self, refund: &mut Refund, state: i64, budget: &Budget) -> Result<(), Failure> {
        let (refund_no, seen) = (refund.refund_no, refund.state);
        self.teller
            .write(&self.store, budget, move |connection, telling| {
                Box::pin(async move {
                    let moves_on = state != seen;
                    let noted = sqlx::query(
                        "UPDATE requests SET state = $1, mirrored = 1, version = version + $2 \
                         WHERE refund_no = $3 AND state = $4",
                    )
                    .bind(state)
                    .bind(i64::from(moves_on))
                    .bind(refund_no)
                    .bind(seen)
                    .execute(&mut *connection)
                    .await?;
                    if moves_on && noted.rows_affected() > 0 {
                        tell(connection, refund_no, telling).await?;
                    }
                    Ok(())
                })
            })
            .await?;
        refund.state = state;
        Ok(())
    }

    async fn keep_orders_up_to_date(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = stop.cancelled() => return,
            }
            if let Err(failure) = self.catch_up().await {
                tracing::warn!(error = failure.body.error, "refunds wait");
            }
        }
    }

    async fn catch_up(&self) -> Result<(), Failure> {
        // A merchant who does not answer has agreed.
        let since = now_ms() - self.orders.config.timers.unanswered_ms;
        let unanswered = sqlx::query(select_refund!("WHERE state = 1 AND created_at_ms < $1 LIMIT 100"))
            .bind(since)
            .fetch_all(self.store.readers())
            .await
            .map_err(StoreError::from)?;
        for row in &unanswered {
            let refund_no = refund_from(row)?.refund_no;
            // Somebody else may have decided meanwhile.
            let _ = self.decide(refund_no, APPROVE, &Budget::of(CATCH_UP)).await?;
        }
        let behind = sqlx::query(select_refund!("WHERE mirrored = 0 ORDER BY refund_no LIMIT 100"))
            .fetch_all(self.store.readers())
            .await
            .map_err(StoreError::from)?;
        for row in &behind {
            let refund = refund_from(row)?;
            let refund_no = refund.refund_no;
            if let Err(failure) = self.mirror(refund, &Budget::of(CATCH_UP)).await {
                tracing::warn!(refund_no, error = failure.body.error, "a refund failed");
            }
        }
        Ok(())
    }
}

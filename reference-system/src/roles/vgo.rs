//! Virtual goods: breakfast tickets and membership cards, on a small system of their own.
//!
//! An order is a core row (buyer, seller, amount, state) and an extension row (items, promotion). It goes 1 new → 2
//! paid → 3 delivered → 9 done, or −1 cancelled before it is paid. A loop carries on whatever a call left half done.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use futures::future::BoxFuture;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};
use tokio_util::sync::CancellationToken;

use super::eus::Purchase;
use crate::bus::event::{Event, VirtualOrderEvent};
use crate::bus::relay::{Outbox, Relay};
use crate::bus::teller::Teller;
use crate::config::now_ms;
use crate::extract::{At, Body};
use crate::frame::{Frame, RoleError};
use crate::ids::{UserId, mix64};
use crate::population::Population;
use crate::rpc::{Budget, CallError, Caller, Failure};
use crate::store::outbox::{Telling, outbox_table};
use crate::store::{Store, StoreError};

/// Repeatable. `paying` says that the money may be under way: then the order can no longer be cancelled.
const SCHEMA: &str = concat!(
    outbox_table!(),
    "
CREATE TABLE IF NOT EXISTS vorders (
  vorder_id IDENTITY, user_id BIGINT NOT NULL, seller TEXT NOT NULL, req_id TEXT NOT NULL,
  amount_fen BIGINT NOT NULL, state BIGINT NOT NULL, paying BIGINT NOT NULL DEFAULT 0,
  created_at_ms BIGINT NOT NULL, changed_at_ms BIGINT NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS vorders_by_request ON vorders (user_id, req_id);
CREATE INDEX IF NOT EXISTS vorders_under_way ON vorders (vorder_id) WHERE paying = 1;
CREATE TABLE IF NOT EXISTS vorder_extensions (
  vorder_id BIGINT PRIMARY KEY, product TEXT NOT NULL, quantity BIGINT NOT NULL, promotion TEXT
);
CREATE TABLE IF NOT EXISTS cards (card_no TEXT NOT NULL, vorder_id BIGINT NOT NULL, at_ms BIGINT NOT NULL);
CREATE UNIQUE INDEX IF NOT EXISTS cards_by_number ON cards (card_no);
"
);

/// The store's name.
pub(crate) const STORE: &str = "vgo";

/// `vorders.state`: given up before it was paid.
pub(crate) const CANCELLED: i64 = -1;
const NEW: i64 = 1;
/// `vorders.state`: the seller has the money.
pub(crate) const PAID: i64 = 2;
/// `vorders.state`: the buyer has the cards.
pub(crate) const DELIVERED: i64 = 3;
const DONE: i64 = 9;

/// The most of one product in an order.
const MOST: i64 = 20;
/// The longest idempotency key.
const LONGEST_TEXT: usize = 200;
/// How often orders are looked for that are half done.
const LOOK: Duration = Duration::from_millis(200);
/// The time for one of them.
const CATCH_UP: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Product {
    BreakfastTicket,
    MembershipCard,
}

impl Product {
    fn name(self) -> &'static str {
        match self {
            Self::BreakfastTicket => "breakfast_ticket",
            Self::MembershipCard => "membership_card",
        }
    }

    fn seller(self) -> &'static str {
        match self {
            Self::BreakfastTicket => "breakfast",
            Self::MembershipCard => "membership",
        }
    }

    fn price_fen(self) -> i64 {
        match self {
            Self::BreakfastTicket => 800,
            Self::MembershipCard => 2_000,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Promotion {
    /// A tenth off.
    OpeningWeek,
}

#[derive(Clone)]
struct VirtualGoods {
    population: Arc<Population>,
    caller: Caller,
    store: Store,
    teller: Arc<Teller>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewVirtualOrder {
    user_id: UserId,
    product: Product,
    quantity: i64,
    promotion: Option<Promotion>,
}

/// A virtual order as clients see it.
#[derive(Debug, Clone, Serialize)]
struct VirtualOrder {
    vorder_id: i64,
    user_id: UserId,
    amount_fen: i64,
    state: i64,
    product: String,
    quantity: i64,
    promotion: Option<String>,
    cards: Vec<String>,
    #[serde(skip)]
    seller: String,
    #[serde(skip)]
    paying: bool,
}

pub(super) async fn run(frame: Frame) -> Result<(), RoleError> {
    let goods = VirtualGoods {
        population: Arc::new(Population::new(frame.config.seed)),
        caller: frame.caller.clone(),
        store: frame.open_store(STORE, SCHEMA).await?,
        teller: Arc::new(frame.teller()),
    };
    let outbox = Outbox::Own { store: goods.store.clone(), written: goods.teller.written() };
    frame.tracker.spawn(Relay { outbox, directory: frame.directory(), bus: frame.bus() }.run(frame.stop.clone()));
    frame.tracker.spawn(goods.clone().carry_on(frame.stop.clone()));
    let routes = Router::new()
        .route("/vorders", post(create))
        .route("/vorders/{id}", get(read))
        .route("/vorders/{id}/pay", post(pay))
        .route("/vorders/{id}/cancel", post(cancel))
        .with_state(goods);
    frame.serve(routes, Box::new(|| json!({})), frame.wait_for(&["eus"])).await
}

/// Selects what [`order_from`] reads.
macro_rules! select_vorder {
    ($rest:literal) => {
        concat!(
            "SELECT v.vorder_id, v.user_id, v.amount_fen, v.state, v.seller, v.paying, x.product, x.quantity, ",
            "x.promotion FROM vorders v JOIN vorder_extensions x ON x.vorder_id = v.vorder_id ",
            $rest
        )
    };
}

fn order_from(row: &AnyRow) -> Result<VirtualOrder, StoreError> {
    Ok(VirtualOrder {
        vorder_id: row.try_get(0)?,
        user_id: UserId(row.try_get(1)?),
        amount_fen: row.try_get(2)?,
        state: row.try_get(3)?,
        seller: row.try_get(4)?,
        paying: row.try_get::<i64, _>(5)? != 0,
        product: row.try_get(6)?,
        quantity: row.try_get(7)?,
        promotion: row.try_get(8)?,
        cards: Vec::new(),
    })
}

async fn by_id(connection: &mut AnyConnection, vorder_id: i64) -> Result<Option<VirtualOrder>, StoreError> {
    let row = sqlx::query(select_vorder!("WHERE v.vorder_id = $1")).bind(vorder_id);
    row.fetch_optional(connection).await?.as_ref().map(order_from).transpose()
}

fn nothing(vorder_id: i64) -> Failure {
    Failure::not_found(format!("there is no virtual order {vorder_id}"))
}

fn wrong_state(order: &VirtualOrder) -> Failure {
    let why = format!("the virtual order has state {}, which does not allow this", order.state);
    Failure::conflict("wrong_state", why)
}

async fn create(
    State(goods): State<VirtualGoods>,
    budget: Budget,
    Body(new): Body<NewVirtualOrder>,
) -> Result<Json<VirtualOrder>, Failure> {
    let req_id = match budget.request_id() {
        Some(key) if (1..=LONGEST_TEXT).contains(&key.len()) => key.to_owned(),
        _ => {
            return Err(Failure::invalid(format!(
                "the header x-req-id (1 to {LONGEST_TEXT} characters) is required: it makes a retry safe"
            )));
        }
    };
    if goods.population.user(new.user_id).is_none() {
        return Err(Failure::not_found(format!("there is no user {}", new.user_id)));
    }
    if !(1..=MOST).contains(&new.quantity) {
        return Err(Failure::invalid(format!("a quantity is 1 to {MOST}")));
    }
    let order = goods
        .teller
        .write(&goods.store, &budget, move |connection, telling| {
            Box::pin(async move { insert(connection, &new, &req_id, telling).await })
        })
        .await?;
    Ok(Json(order))
}

/// Both rows, or the order that this request made before.
async fn insert(
    connection: &mut AnyConnection,
    new: &NewVirtualOrder,
    req_id: &str,
    telling: &mut Telling,
) -> Result<VirtualOrder, StoreError> {
    let before = sqlx::query(select_vorder!("WHERE v.user_id = $1 AND v.req_id = $2")).bind(new.user_id.0).bind(req_id);
    if let Some(row) = before.fetch_optional(&mut *connection).await? {
        return order_from(&row);
    }
    let full_fen = new.product.price_fen() * new.quantity;
    let (promotion, amount_fen) = match new.promotion {
        Some(Promotion::OpeningWeek) => (Some("opening_week"), full_fen - full_fen / 10),
        None => (None, full_fen),
    };
    let vorder_id: i64 = sqlx::query_scalar(
        "INSERT INTO vorders (user_id, seller, req_id, amount_fen, state, created_at_ms, changed_at_ms) \
         VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING vorder_id",
    )
    .bind(new.user_id.0)
    .bind(new.product.seller())
    .bind(req_id)
    .bind(amount_fen)
    .bind(NEW)
    .bind(now_ms())
    .bind(now_ms())
    .fetch_one(&mut *connection)
    .await?;
    sqlx::query("INSERT INTO vorder_extensions (vorder_id, product, quantity, promotion) VALUES ($1, $2, $3, $4)")
        .bind(vorder_id)
        .bind(new.product.name())
        .bind(new.quantity)
        .bind(promotion)
        .execute(&mut *connection)
        .await?;
    tell(connection, vorder_id, telling).await
}

/// Notes for the bus that a virtual order has come to the state that its row has now.
async fn tell(
    connection: &mut AnyConnection,
    vorder_id: i64,
    telling: &mut Telling,
) -> Result<VirtualOrder, StoreError> {
    let order = by_id(connection, vorder_id).await?;
    let order = order.ok_or_else(|| StoreError::Row(format!("virtual order {vorder_id} is gone")))?;
    let (version, kind) = match order.state {
        NEW => (1, "created"),
        PAID => (2, "paid"),
        // In place of being paid.
        CANCELLED => (2, "cancelled"),
        DELIVERED => (3, "delivered"),
        DONE => (4, "done"),
        state => return Err(StoreError::Row(format!("{state} is no state of a virtual order"))),
    };
    let event = VirtualOrderEvent {
        vorder_id,
        version,
        kind: kind.to_owned(),
        user_id: order.user_id,
        product: order.product.clone(),
        quantity: order.quantity,
        amount_fen: order.amount_fen,
        at_ms: now_ms(),
        cause: telling.cause.clone(),
    };
    telling.note(connection, &Event::VirtualOrder(event)).await?;
    Ok(order)
}

async fn read(State(goods): State<VirtualGoods>, At(vorder_id): At<i64>) -> Result<Json<VirtualOrder>, Failure> {
    let row = sqlx::query(select_vorder!("WHERE v.vorder_id = $1"))
        .bind(vorder_id)
        .fetch_optional(goods.store.readers())
        .await
        .map_err(StoreError::from)?;
    let mut order = order_from(&row.ok_or_else(|| nothing(vorder_id))?)?;
    order.cards = sqlx::query_scalar("SELECT card_no FROM cards WHERE vorder_id = $1 ORDER BY card_no")
        .bind(vorder_id)
        .fetch_all(goods.store.readers())
        .await
        .map_err(StoreError::from)?;
    Ok(Json(order))
}

async fn pay(
    State(goods): State<VirtualGoods>,
    budget: Budget,
    At(vorder_id): At<i64>,
) -> Result<Json<VirtualOrder>, Failure> {
    let begun = goods.store.write(move |c| Box::pin(async move { begin_payment(c, vorder_id).await })).await??;
    if begun.state != NEW {
        return Ok(Json(begun));
    }
    Ok(Json(goods.charge(begun, &budget).await?))
}

/// From here on the money may be under way. An order that is paid already stays as it is.
async fn begin_payment(
    connection: &mut AnyConnection,
    vorder_id: i64,
) -> Result<Result<VirtualOrder, Failure>, StoreError> {
    let Some(order) = by_id(&mut *connection, vorder_id).await? else {
        return Ok(Err(nothing(vorder_id)));
    };
    if order.state == CANCELLED {
        return Ok(Err(wrong_state(&order)));
    }
    sqlx::query("UPDATE vorders SET paying = 1 WHERE vorder_id = $1 AND state = 1")
        .bind(vorder_id)
        .execute(connection)
        .await?;
    Ok(Ok(order))
}

async fn cancel(
    State(goods): State<VirtualGoods>,
    budget: Budget,
    At(vorder_id): At<i64>,
) -> Result<Json<VirtualOrder>, Failure> {
    let cancelled = goods
        .teller
        .write(&goods.store, &budget, move |connection, telling| {
            Box::pin(async move {
                let Some(mut order) = by_id(&mut *connection, vorder_id).await? else {
                    return Ok(Err(nothing(vorder_id)));
                };
                if order.state == NEW && order.paying {
                    return Ok(Err(Failure::conflict("payment_in_progress", "a payment is in progress")));
                }
                if order.state != NEW {
                    return Ok(Err(wrong_state(&order)));
                }
                move_on(connection, vorder_id, NEW, CANCELLED, telling).await?;
                order.state = CANCELLED;
                Ok(Ok(order))
            })
        })
        .await??;
    Ok(Json(cancelled))
}

async fn move_on(
    connection: &mut AnyConnection,
    vorder_id: i64,
    from: i64,
    to: i64,
    telling: &mut Telling,
) -> Result<bool, StoreError> {
    let moved = sqlx::query("UPDATE vorders SET state = $1, changed_at_ms = $2 WHERE vorder_id = $3 AND state = $4")
        .bind(to)
        .bind(now_ms())
        .bind(vorder_id)
        .bind(from)
        .execute(&mut *connection)
        .await?;
    let moved = moved.rows_affected() > 0;
    if moved {
        tell(connection, vorder_id, telling).await?;
    }
    Ok(moved)
}

impl VirtualGoods {
    /// 1 → 2; back to unpaid if the wallet refuses.
    async fn charge(&self, mut order: VirtualOrder, budget: &Budget) -> Result<VirtualOrder, Failure> {
        let vorder_id = order.vorder_id;
        let purchase = Purchase {
            purchase_id: vorder_id,
            user_id: order.user_id,
            seller: order.seller.clone(),
            amount_fen: order.amount_fen,
        };
        let paid: Result<Value, CallError> = self.caller.post("eus", "/wallet/purchase", &purchase, budget).await;
        match paid {
            Ok(_) => {
                self.teller
                    .write(&self.store, budget, move |c, telling| Box::pin(move_on(c, vorder_id, NEW, PAID, telling)))
                    .await?;
                order.state = PAID;
                Ok(order)
            }
            Err(error) if error.status() == Some(StatusCode::CONFLICT) => {
                self.store
                    .write(move |connection| {
                        Box::pin(async move {
                            sqlx::query("UPDATE vorders SET paying = 0 WHERE vorder_id = $1 AND state = 1")
                                .bind(vorder_id)
                                .execute(connection)
                                .await?;
                            Ok(())
                        })
                    })
                    .await?;
                Err(error.into())
            }
            // Nobody knows whether it was paid; the loop asks again.
            Err(error) => Err(error.into()),
        }
    }

    async fn carry_on(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = stop.cancelled() => return,
            }
            if let Err(failure) = self.catch_up().await {
                tracing::warn!(error = failure.body.error, "virtual orders wait");
            }
        }
    }

    async fn catch_up(&self) -> Result<(), Failure> {
        let rows = sqlx::query(select_vorder!("WHERE v.paying = 1 ORDER BY v.vorder_id LIMIT 100"))
            .fetch_all(self.store.readers())
            .await
            .map_err(StoreError::from)?;
        for row in &rows {
            let (order, budget) = (order_from(row)?, Budget::of(CATCH_UP));
            match order.state {
                NEW => drop(self.charge(order, &budget).await),
                _ => self.teller.write(&self.store, &budget, move |c, telling| go_on(c, order, telling)).await?,
            }
        }
        Ok(())
    }
}

/// What a paid order still lacks.
fn go_on<'c>(
    connection: &'c mut AnyConnection,
    order: VirtualOrder,
    telling: &'c mut Telling,
) -> BoxFuture<'c, Result<(), StoreError>> {
    Box::pin(async move {
        match order.state {
            PAID => deliver(connection, &order, telling).await,
            _ => finish(connection, order.vorder_id, telling).await,
        }
    })
}

/// 2 → 3: the state and the cards in one transaction, so that no card is handed out twice.
async fn deliver(
    connection: &mut AnyConnection,
    order: &VirtualOrder,
    telling: &mut Telling,
) -> Result<(), StoreError> {
    if !move_on(&mut *connection, order.vorder_id, PAID, DELIVERED, telling).await? {
        return Ok(());
    }
    for n in 1..=order.quantity {
        let check = mix64(order.vorder_id as u64 ^ (n as u64) << 48) >> 40;
        sqlx::query("INSERT INTO cards (card_no, vorder_id, at_ms) VALUES ($1, $2, $3)")
            .bind(format!("{}-{n}-{check:06x}", order.vorder_id))
            .bind(order.vorder_id)
            .bind(now_ms())
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// 3 → 9.
async fn finish(connection: &mut AnyConnection, vorder_id: i64, telling: &mut Telling) -> Result<(), StoreError> {
    move_on(&mut *connection, vorder_id, DELIVERED, DONE, telling).await?;
    sqlx::query("UPDATE vorders SET paying = 0 WHERE vorder_id = $1 AND state = $2")
        .bind(vorder_id)
        .bind(DONE)
        .execute(connection)
        .await?;
    Ok(())
}

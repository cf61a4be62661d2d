//! The settlement service: the book of every transaction that touches no wallet.
//!
//! The user service books what moves a wallet (payment, refund, after-sales), because a wallet and its lines must
//! change together; this book has the rest: escrow → merchant, platform fee and rider, once per order. Each
//! transaction lies whole in one book, and an account's balance is the sum over both.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::{AnyConnection, Row};

use crate::bus::event::Event;
use crate::bus::{Message, dead_letters, topology};
use crate::config::now_ms;
use crate::extract::{Ask, At, Body};
use crate::frame::{Frame, RoleError};
use crate::ids::{OrderId, RestaurantId};
use crate::population::Population;
use crate::rpc::Failure;
use crate::store::log::{self, After};
use crate::store::outbox::inbox_table;
use crate::store::{Store, StoreError};

/// Repeatable. Statements are what events told, for restaurants to read: no money hangs on them.
const SCHEMA: &str = concat!(
    inbox_table!(),
    "
CREATE TABLE IF NOT EXISTS settlements (
  order_id BIGINT PRIMARY KEY, restaurant_id BIGINT NOT NULL, gross_fen BIGINT NOT NULL,
  merchant_fen BIGINT NOT NULL, fee_fen BIGINT NOT NULL, rider_fen BIGINT NOT NULL, at_ms BIGINT NOT NULL
);
CREATE TABLE IF NOT EXISTS ledger (
  line_no IDENTITY, txn TEXT NOT NULL, account TEXT NOT NULL, order_id BIGINT NOT NULL, amount_fen BIGINT NOT NULL,
  UNIQUE (txn, account)
);
CREATE TABLE IF NOT EXISTS statements (
  line IDENTITY, event_id TEXT NOT NULL, restaurant_id BIGINT NOT NULL, order_id BIGINT NOT NULL,
  kind TEXT NOT NULL, amount_fen BIGINT NOT NULL, at_ms BIGINT NOT NULL
);
CREATE INDEX IF NOT EXISTS statements_by_restaurant ON statements (restaurant_id, line);
"
);

/// The store's name.
pub(crate) const STORE: &str = "ledger";
/// Its name in the inbox.
pub(crate) const CONSUMER: &str = "ledger";

/// What the platform pays for coupons comes from here.
pub(crate) const SUBSIDY: &str = "subsidy";
/// What the platform earns.
const FEE: &str = "fee";
/// What couriers earn.
const RIDER: &str = "rider";
/// The platform's share of what was eaten, in percent.
const FEE_PERCENT: i64 = 6;
/// The most orders in one request.
const MOST: usize = 1_000;

/// The account that holds an order's money until it is settled or given back.
pub(crate) fn escrow_account(order_id: OrderId) -> String {
    format!("escrow:{order_id}")
}

/// The account of a restaurant.
pub(crate) fn merchant_account(restaurant_id: RestaurantId) -> String {
    format!("merchant:{restaurant_id}")
}

/// An order whose escrow is to be settled.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Escrow {
    pub(crate) order_id: OrderId,
    pub(crate) restaurant_id: RestaurantId,
    /// What lies in escrow: payment and subsidy.
    pub(crate) gross_fen: i64,
    pub(crate) delivery_fee_fen: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shares {
    merchant_fen: i64,
    fee_fen: i64,
    rider_fen: i64,
}

/// Who gets what of an order; the parts sum to the whole.
fn share(gross_fen: i64, delivery_fee_fen: i64) -> Shares {
    let rider_fen = delivery_fee_fen.clamp(0, gross_fen);
    let eaten = gross_fen - rider_fen;
    let fee_fen = eaten / 100 * FEE_PERCENT + eaten % 100 * FEE_PERCENT / 100;
    Shares { merchant_fen: eaten - fee_fen, fee_fen, rider_fen }
}

#[derive(Clone)]
struct Settlements {
    population: Arc<Population>,
    store: Store,
}

pub(super) async fn run(frame: Frame) -> Result<(), RoleError> {
    let store = frame.open_store(STORE, SCHEMA).await?;
    let subscription = frame.subscription(topology::SETTLE, CONSUMER, &store, Arc::new(state));
    let (bus, counts) = (subscription.bus.clone(), Arc::clone(&subscription.counts));
    let settlements = Settlements { population: Arc::new(Population::new(frame.config.seed)), store };
    let routes = Router::new()
        .route("/settlements", post(settle))
        .route("/settlements/{order}", get(read))
        .route("/statements/{restaurant}", get(statement))
        .with_state(settlements)
        .merge(dead_letters::routes(bus, topology::SETTLE));
    // Settlement comes as a request; it needs no broker.
    frame.tracker.spawn(subscription.run(frame.stop.clone()));
    frame.serve(routes, Box::new(move || counts.describe()), std::future::ready(())).await
}

/// The most money in one step, in fen: a million yuan. Sums of such amounts stay far from what a number can hold.
const MOST_FEN: i64 = 100_000_000;

/// Refuses an amount that no step has.
pub(super) fn amount(field: &str, fen: i64, least: i64) -> Result<(), Failure> {
    if (least..=MOST_FEN).contains(&fen) {
        return Ok(());
    }
    Err(Failure::invalid(format!("{field} is {least} to {MOST_FEN} fen, not {fen}")))
}

async fn settle(State(settlements): State<Settlements>, Body(due): Body<Vec<Escrow>>) -> Result<Json<Value>, Failure> {
    if due.len() > MOST {
        return Err(Failure::invalid(format!("at most {MOST} orders at a time")));
    }
    for escrow in &due {
        if settlements.population.restaurant(escrow.restaurant_id).is_none() {
            return Err(Failure::not_found(format!("there is no restaurant {}", escrow.restaurant_id)));
        }
        amount("gross_fen", escrow.gross_fen, 1)?;
        amount("delivery_fee_fen", escrow.delivery_fee_fen, 0)?;
    }
    settlements
        .store
        .write(move |connection| {
            Box::pin(async move {
                for escrow in &due {
                    settle_one(connection, escrow).await?;
                }
                Ok(())
            })
        })
        .await?;
    Ok(Json(json!({})))
}

async fn settle_one(connection: &mut AnyConnection, escrow: &Escrow) -> Result<(), StoreError> {
    let shares = share(escrow.gross_fen, escrow.delivery_fee_fen);
    let new = sqlx::query(
        "INSERT INTO settlements (order_id, restaurant_id, gross_fen, merchant_fen, fee_fen, rider_fen, at_ms) \
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
    )
    .bind(escrow.order_id.0)
    .bind(escrow.restaurant_id.0)
    .bind(escrow.gross_fen)
    .bind(shares.merchant_fen)
    .bind(shares.fee_fen)
    .bind(shares.rider_fen)
    .bind(now_ms())
    .execute(&mut *connection)
    .await?;
    if new.rows_affected() == 0 {
        return Ok(());
    }
    let txn = format!("o{}:settle", escrow.order_id);
    let (from, merchant) = (escrow_account(escrow.order_id), merchant_account(escrow.restaurant_id));
    let lines = [
        (from.as_str(), -escrow.gross_fen),
        (merchant.as_str(), shares.merchant_fen),
        (FEE, shares.fee_fen),
        (RIDER, shares.rider_fen),
    ];
    for (account, amount) in lines.into_iter().filter(|(_, amount)| *amount != 0) {
        sqlx::query("INSERT INTO ledger (txn, account, order_id, amount_fen) VALUES ($1, $2, $3, $4)")
            .bind(&txn)
            .bind(account)
            .bind(escrow.order_id.0)
            .bind(amount)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

async fn read(State(settlements): State<Settlements>, At(order_id): At<OrderId>) -> Result<Json<Value>, Failure> {
    let found = sqlx::query(
        "SELECT restaurant_id, gross_fen, merchant_fen, fee_fen, rider_fen, at_ms FROM settlements WHERE order_id = $1",
    )
    .bind(order_id.0)
    .fetch_optional(settlements.store.readers())
    .await
    .map_err(StoreError::from)?
    .ok_or_else(|| Failure::not_found(format!("order {order_id} has not been settled")))?;
    let number = |n: usize| found.try_get::<i64, _>(n).map_err(StoreError::from);
    Ok(Json(json!({
        "order_id": order_id,
        "restaurant_id": RestaurantId(number(0)?),
        "gross_fen": number(1)?,
        "merchant_fen": number(2)?,
        "fee_fen": number(3)?,
        "rider_fen": number(4)?,
        "at_ms": number(5)?,
    })))
}

/// A line of its restaurant's statement: what an order brought, or a step of a refund.
fn state(connection: &mut AnyConnection, event: Event, message: Message) -> BoxFuture<'_, Result<(), StoreError>> {
    Box::pin(async move {
        let event_id = event.id();
        let (restaurant_id, order_id, amount_fen) = match &event {
            Event::Order(order) => (order.restaurant_id, order.order_id, order.paid_fen + order.discount_fen),
            Event::Refund(refund) => (refund.restaurant_id, refund.order_id, refund.amount_fen),
            Event::Delivery(_) | Event::VirtualOrder(_) => return Ok(()),
        };
        sqlx::query(
            "INSERT INTO statements (event_id, restaurant_id, order_id, kind, amount_fen, at_ms) \
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(event_id)
        .bind(restaurant_id.0)
        .bind(order_id.0)
        .bind(message.key)
        .bind(amount_fen)
        .bind(event.at_ms())
        .execute(connection)
        .await?;
        Ok(())
    })
}

/// A restaurant's statement, the oldest line first.
async fn statement(
    State(settlements): State<Settlements>,
    At(restaurant_id): At<RestaurantId>,
    Ask(after): Ask<After>,
) -> Result<Json<Vec<Value>>, Failure> {
    if settlements.population.restaurant(restaurant_id).is_none() {
        return Err(Failure::not_found(format!("there is no restaurant {restaurant_id}")));
    }
    let query = "SELECT line, order_id, kind, amount_fen, at_ms FROM statements \
                 WHERE restaurant_id = $1 AND line > $2 ORDER BY line LIMIT 200";
    let lines = log::read_on(&settlements.store, query, restaurant_id.0, after, |row| {
        let (line, kind): (i64, String) = (row.try_get(0)?, row.try_get(2)?);
        let (amount_fen, at_ms): (i64, i64) = (row.try_get(3)?, row.try_get(4)?);
        let order_id = OrderId(row.try_get(1)?);
        Ok(json!({ "line": line, "order_id": order_id, "kind": kind, "amount_fen": amount_fen, "at_ms": at_ms }))
    });
    Ok(Json(lines.await?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_rider_gets_the_delivery_fee_and_the_platform_six_percent_of_the_rest() {
        assert_eq!(share(3_300, 300), Shares { merchant_fen: 2_820, fee_fen: 180, rider_fen: 300 });
    }

    proptest! {
        #[test]
        fn shares_sum_to_the_whole_and_none_is_negative(gross in 1_i64.., delivery in 0_i64..) {
            let Shares { merchant_fen, fee_fen, rider_fen } = share(gross, delivery);
            prop_assert_eq!(merchant_fen + fee_fen + rider_fen, gross);
            prop_assert!(merchant_fen >= 0 && fee_fen >= 0 && rider_fen >= 0);
        }
    }
}

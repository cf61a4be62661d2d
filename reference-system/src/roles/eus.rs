//! The user service: users, and wallets as a double-entry book.
//!
//! A payment moves money in two steps: *hold* (user → hold) and *capture* (hold → escrow of the
//! order); *release* and *refund* move it back. Each step is keyed by payment, so repeating it
//! changes nothing.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::{AnyConnection, Row};

use crate::extract::{At, Body};
use crate::frame::{Frame, RoleError};
use crate::ids::{OrderId, UserId};
use crate::population::{OPENING_WALLET_FEN, Population};
use crate::rpc::Failure;
use crate::store::{Store, StoreError};

/// Repeatable. The balance of a wallet is its opening plus its ledger lines; `wallets` keeps the
/// sum at hand.
const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS wallets (user_id BIGINT PRIMARY KEY, balance_fen BIGINT NOT NULL);
CREATE TABLE IF NOT EXISTS holds (
  payment_id TEXT PRIMARY KEY, user_id BIGINT NOT NULL, order_id BIGINT NOT NULL,
  amount_fen BIGINT NOT NULL, state BIGINT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ledger (
  txn TEXT NOT NULL, account TEXT NOT NULL, order_id BIGINT NOT NULL, amount_fen BIGINT NOT NULL,
  PRIMARY KEY (txn, account)
) WITHOUT ROWID;
";

/// The store file's name.
pub(crate) const STORE: &str = "eus";

const HELD: i64 = 0;
const CAPTURED: i64 = 1;
const RETURNED: i64 = 2;

#[derive(Clone)]
struct Users {
    population: Arc<Population>,
    store: Store,
}

/// A request to hold money for a payment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Hold {
    pub(crate) payment_id: String,
    pub(crate) order_id: OrderId,
    pub(crate) user_id: UserId,
    pub(crate) amount_fen: i64,
}

/// What becomes of held money.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WalletStep {
    /// Hold → escrow.
    Capture,
    /// Back to the wallet, from the hold or from escrow.
    Return,
}

/// A step on one payment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Settlement {
    pub(crate) payment_id: String,
    pub(crate) step: WalletStep,
}

pub(super) async fn run(frame: Frame) -> Result<(), RoleError> {
    let users = Users {
        population: Arc::new(Population::new(frame.config.seed)),
        store: frame.open_store(STORE, SCHEMA).await?,
    };
    let routes = Router::new()
        .route("/users/{user}", get(read))
        .route("/wallet/hold", post(hold))
        .route("/wallet/settle", post(settle))
        .with_state(users);
    frame.serve(routes, Box::new(|| json!({})), std::future::ready(())).await
}

async fn read(State(users): State<Users>, At(user_id): At<UserId>) -> Result<Json<Value>, Failure> {
    let user = known(&users.population, user_id)?;
    let balance: Option<i64> = sqlx::query_scalar("SELECT balance_fen FROM wallets WHERE user_id = $1")
        .bind(user_id.0)
        .fetch_optional(users.store.readers())
        .await
        .map_err(StoreError::from)?;
    Ok(Json(json!({
        "user_id": user_id,
        "name": user.name,
        "balance_fen": balance.unwrap_or(OPENING_WALLET_FEN),
    })))
}

fn known(population: &Population, user_id: UserId) -> Result<crate::population::User, Failure> {
    population.user(user_id).ok_or_else(|| Failure::not_found(format!("there is no user {user_id}")))
}

async fn hold(State(users): State<Users>, Body(hold): Body<Hold>) -> Result<Json<Value>, Failure> {
    known(&users.population, hold.user_id)?;
    if hold.amount_fen <= 0 {
        return Err(Failure::invalid("amount_fen must be positive"));
    }
    let held = users.store.write(move |c| Box::pin(async move { place(c, &hold).await })).await?;
    match held {
        Placed::Held => Ok(Json(json!({ "held": true }))),
        Placed::Poor => Err(Failure::conflict("insufficient_funds", "the wallet holds too little")),
        Placed::Returned => Err(Failure::conflict("payment_returned", "this payment was given back already")),
    }
}

enum Placed {
    Held,
    Poor,
    Returned,
}

async fn place(connection: &mut AnyConnection, hold: &Hold) -> Result<Placed, StoreError> {
    let state: Option<i64> = sqlx::query_scalar("SELECT state FROM holds WHERE payment_id = $1")
        .bind(&hold.payment_id)
        .fetch_optional(&mut *connection)
        .await?;
    match state {
        Some(RETURNED) => return Ok(Placed::Returned),
        Some(_) => return Ok(Placed::Held),
        None => {}
    }
    sqlx::query("INSERT INTO wallets VALUES ($1, $2) ON CONFLICT (user_id) DO NOTHING")
        .bind(hold.user_id.0)
        .bind(OPENING_WALLET_FEN)
        .execute(&mut *connection)
        .await?;
    let paid =
        sqlx::query("UPDATE wallets SET balance_fen = balance_fen - $1 WHERE user_id = $2 AND balance_fen >= $3")
            .bind(hold.amount_fen)
            .bind(hold.user_id.0)
            .bind(hold.amount_fen)
            .execute(&mut *connection)
            .await?;
    if paid.rows_affected() == 0 {
        return Ok(Placed::Poor);
    }
    sqlx::query("INSERT INTO holds VALUES ($1, $2, $3, $4, $5)")
        .bind(&hold.payment_id)
        .bind(hold.user_id.0)
        .bind(hold.order_id.0)
        .bind(hold.amount_fen)
        .bind(HELD)
        .execute(&mut *connection)
        .await?;
    let (user, held) = (account_of(hold.user_id.0), held_account(&hold.payment_id));
    book(connection, &hold.payment_id, "hold", (&user, &held), hold.order_id.0, hold.amount_fen).await?;
    Ok(Placed::Held)
}

async fn settle(State(users): State<Users>, Body(settlements): Body<Vec<Settlement>>) -> Result<Json<Value>, Failure> {
    users
        .store
        .write(move |connection| {
            Box::pin(async move {
                for settlement in &settlements {
                    settle_one(connection, settlement).await?;
                }
                Ok(())
            })
        })
        .await?;
    Ok(Json(json!({})))
}

async fn settle_one(connection: &mut AnyConnection, settlement: &Settlement) -> Result<(), StoreError> {
    let payment = &settlement.payment_id;
    let row = sqlx::query("SELECT user_id, order_id, amount_fen, state FROM holds WHERE payment_id = $1")
        .bind(payment)
        .fetch_optional(&mut *connection)
        .await?;
    let Some(row) = row else {
        // Nothing was held. A late hold must not come after its own return.
        if settlement.step == WalletStep::Return {
            sqlx::query("INSERT INTO holds VALUES ($1, 0, 0, 0, $2)")
                .bind(payment)
                .bind(RETURNED)
                .execute(connection)
                .await?;
        }
        return Ok(());
    };
    let (user, order, amount, state): (i64, i64, i64, i64) =
        (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
    let (held, escrow, wallet) = (held_account(payment), format!("escrow:{order}"), account_of(user));
    let (next, name, from, to) = match (settlement.step, state) {
        (WalletStep::Capture, HELD) => (CAPTURED, "capture", &held, &escrow),
        (WalletStep::Return, HELD) => (RETURNED, "release", &held, &wallet),
        (WalletStep::Return, CAPTURED) => (RETURNED, "refund", &escrow, &wallet),
        _ => return Ok(()),
    };
    book(connection, payment, name, (from, to), order, amount).await?;
    sqlx::query("UPDATE holds SET state = $1 WHERE payment_id = $2")
        .bind(next)
        .bind(payment)
        .execute(&mut *connection)
        .await?;
    if next == RETURNED {
        sqlx::query("UPDATE wallets SET balance_fen = balance_fen + $1 WHERE user_id = $2")
            .bind(amount)
            .bind(user)
            .execute(connection)
            .await?;
    }
    Ok(())
}

fn account_of(user: i64) -> String {
    format!("user:{user}")
}

fn held_account(payment: &str) -> String {
    format!("hold:{payment}")
}

/// Two lines that sum to zero.
async fn book(
    connection: &mut AnyConnection,
    payment: &str,
    name: &str,
    (from, to): (&str, &str),
    order: i64,
    amount: i64,
) -> Result<(), StoreError> {
    let txn = format!("{payment}:{name}");
    for (account, signed) in [(from, -amount), (to, amount)] {
        sqlx::query("INSERT INTO ledger VALUES ($1, $2, $3, $4)")
            .bind(&txn)
            .bind(account)
            .bind(order)
            .bind(signed)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

//! The user service: users, and the book of every transaction that touches a wallet.
//!
//! There are two books, so that no transaction spans two stores: this one, and the settlement service's, which has
//! what touches no wallet. An account's balance is the sum over both.
//!
//! A payment moves money in two steps: *hold* (user → hold) and *capture* (hold and subsidy → escrow of the order);
//! *release* and *refund* move it back; *after-sales* moves it from the merchant to the user. Each step is keyed, by
//! payment or by what an order has given back so far, so repeating it changes nothing.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::{AnyConnection, Row};

use super::ledger::{SUBSIDY, amount, escrow_account, merchant_account};
use crate::extract::{At, Body};
use crate::frame::{Frame, RoleError};
use crate::ids::{OrderId, RestaurantId, UserId};
use crate::orders::plan::payment_id;
use crate::population::{OPENING_WALLET_FEN, Population};
use crate::rpc::Failure;
use crate::store::{Store, StoreError};

/// Repeatable. The balance of a wallet is its opening plus its ledger lines; `wallets` keeps the
/// sum at hand.
const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS wallets (user_id BIGINT PRIMARY KEY, balance_fen BIGINT NOT NULL);
CREATE TABLE IF NOT EXISTS holds (
  payment_id TEXT PRIMARY KEY, user_id BIGINT NOT NULL, order_id BIGINT NOT NULL,
  amount_fen BIGINT NOT NULL, subsidy_fen BIGINT NOT NULL DEFAULT 0, state BIGINT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS after_sales (order_id BIGINT PRIMARY KEY, refunded_fen BIGINT NOT NULL);
CREATE TABLE IF NOT EXISTS canaries (name TEXT PRIMARY KEY, round BIGINT NOT NULL);
CREATE TABLE IF NOT EXISTS purchases (purchase_id BIGINT PRIMARY KEY, user_id BIGINT NOT NULL);
CREATE TABLE IF NOT EXISTS ledger (
  line_no IDENTITY, txn TEXT NOT NULL, account TEXT NOT NULL, order_id BIGINT NOT NULL, amount_fen BIGINT NOT NULL,
  UNIQUE (txn, account)
);
";

/// The store file's name.
pub(crate) const STORE: &str = "eus";

/// Where the historic intake of refunds left them for a nightly run, which is gone.
const CLEARING: &str = "refund-clearing";
/// A payment that is none: whoever returns it wants to know whether returns arrive.
const CANARY: &str = "canary:";

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
    /// What the platform adds to the payment when it is captured: the coupon's discount.
    #[serde(default)]
    pub(crate) subsidy_fen: i64,
}

/// The return that only shows whether returns arrive. Rounds rise.
pub(crate) fn canary(round: i64) -> Settlement {
    Settlement { payment_id: format!("{CANARY}{round}"), step: WalletStep::Return, subsidy_fen: 0 }
}

/// The latest canary that has arrived.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct CanarySeen {
    pub(crate) round: i64,
}

/// Where returned money goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Returns {
    /// To the wallet that it came from.
    Wallet,
    /// To the account of the nightly run.
    Clearing,
}

/// A purchase of virtual goods: user → seller, at once.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Purchase {
    pub(crate) purchase_id: i64,
    pub(crate) user_id: UserId,
    pub(crate) seller: String,
    pub(crate) amount_fen: i64,
}

/// What an order has given back after its completion, all in all.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct AfterSales {
    pub(crate) order_id: OrderId,
    pub(crate) user_id: UserId,
    pub(crate) restaurant_id: RestaurantId,
    pub(crate) refunded_fen: i64,
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
        .route("/wallet/refunds", post(take_in))
        .route("/wallet/canary", get(canary_seen))
        .route("/wallet/after-sales", post(after_sales))
        .route("/wallet/purchase", post(purchase))
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
    amount("amount_fen", hold.amount_fen, 1)?;
    let held = users.store.write(move |c| Box::pin(async move { place(c, &hold).await })).await?;
    match held {
        Placed::Held => Ok(Json(json!({ "held": true }))),
        Placed::Poor => Err(Failure::conflict("insufficient_funds", "the wallet holds too little")),
        Placed::Returned => Err(Failure::conflict("payment_returned", "this payment was given back already")),
        Placed::Other => Err(Failure::conflict("other_payment", "this payment is of another user, order or amount")),
    }
}

enum Placed {
    Held,
    Poor,
    Returned,
    Other,
}

async fn place(connection: &mut AnyConnection, hold: &Hold) -> Result<Placed, StoreError> {
    let before = sqlx::query("SELECT state, user_id, order_id, amount_fen FROM holds WHERE payment_id = $1")
        .bind(&hold.payment_id)
        .fetch_optional(&mut *connection)
        .await?;
    if let Some(before) = before {
        let (state, user, order, amount): (i64, i64, i64, i64) =
            (before.try_get(0)?, before.try_get(1)?, before.try_get(2)?, before.try_get(3)?);
        return Ok(match state {
            RETURNED => Placed::Returned,
            _ if (user, order, amount) != (hold.user_id.0, hold.order_id.0, hold.amount_fen) => Placed::Other,
            _ => Placed::Held,
        });
    }
    if !debit(connection, hold.user_id, hold.amount_fen).await? {
        return Ok(Placed::Poor);
    }
    sqlx::query("INSERT INTO holds (payment_id, user_id, order_id, amount_fen, state) VALUES ($1, $2, $3, $4, $5)")
        .bind(&hold.payment_id)
        .bind(hold.user_id.0)
        .bind(hold.order_id.0)
        .bind(hold.amount_fen)
        .bind(HELD)
        .execute(&mut *connection)
        .await?;
    let (user, held) = (account_of(hold.user_id.0), held_account(&hold.payment_id));
    let lines = [(user.as_str(), -hold.amount_fen), (held.as_str(), hold.amount_fen)];
    book(connection, &format!("{}:hold", hold.payment_id), hold.order_id, &lines).await?;
    Ok(Placed::Held)
}

async fn settle(State(users): State<Users>, Body(settlements): Body<Vec<Settlement>>) -> Result<Json<Value>, Failure> {
    settle_all(&users, settlements, Returns::Wallet).await
}

/// The first intake of refunds, which was never taken down: it books what comes and says yes.
async fn take_in(State(users): State<Users>, Body(settlements): Body<Vec<Settlement>>) -> Result<Json<Value>, Failure> {
    settle_all(&users, settlements, Returns::Clearing).await
}

async fn settle_all(users: &Users, settlements: Vec<Settlement>, returns: Returns) -> Result<Json<Value>, Failure> {
    for settlement in &settlements {
        amount("subsidy_fen", settlement.subsidy_fen, 0)?;
    }
    users
        .store
        .write(move |connection| {
            Box::pin(async move {
                for settlement in &settlements {
                    settle_one(connection, settlement, returns).await?;
                }
                Ok(())
            })
        })
        .await?;
    Ok(Json(json!({})))
}

async fn canary_seen(State(users): State<Users>) -> Result<Json<CanarySeen>, Failure> {
    let round: Option<i64> = sqlx::query_scalar("SELECT round FROM canaries WHERE name = $1")
        .bind(CANARY)
        .fetch_optional(users.store.readers())
        .await
        .map_err(StoreError::from)?;
    Ok(Json(CanarySeen { round: round.unwrap_or_default() }))
}

async fn settle_one(
    connection: &mut AnyConnection,
    settlement: &Settlement,
    returns: Returns,
) -> Result<(), StoreError> {
    let payment = &settlement.payment_id;
    if let Some(round) = payment.strip_prefix(CANARY).and_then(|round| round.parse::<i64>().ok()) {
        if returns == Returns::Wallet {
            sqlx::query("INSERT INTO canaries VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET round = excluded.round")
                .bind(CANARY)
                .bind(round)
                .execute(connection)
                .await?;
        }
        return Ok(());
    }
    let row = sqlx::query("SELECT user_id, order_id, amount_fen, state, subsidy_fen FROM holds WHERE payment_id = $1")
        .bind(payment)
        .fetch_optional(&mut *connection)
        .await?;
    let Some(row) = row else {
        // Nothing was held. A late hold must not come after its own return.
        if settlement.step == WalletStep::Return {
            sqlx::query(
                "INSERT INTO holds (payment_id, user_id, order_id, amount_fen, state) VALUES ($1, 0, 0, 0, $2)",
            )
            .bind(payment)
            .bind(RETURNED)
            .execute(connection)
            .await?;
        }
        return Ok(());
    };
    let (user, order, amount, state): (i64, i64, i64, i64) =
        (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
    let captured_with: i64 = row.try_get(4)?;
    let (held, escrow) = (held_account(payment), escrow_account(OrderId(order)));
    let wallet = match returns {
        Returns::Wallet => account_of(user),
        Returns::Clearing => CLEARING.to_owned(),
    };
    let (next, subsidy, name, lines) = match (settlement.step, state) {
        (WalletStep::Capture, HELD) => {
            let subsidy = settlement.subsidy_fen;
            (CAPTURED, subsidy, "capture", vec![(&*held, -amount), (SUBSIDY, -subsidy), (&*escrow, amount + subsidy)])
        }
        (WalletStep::Return, HELD) => (RETURNED, 0, "release", vec![(&*held, -amount), (&*wallet, amount)]),
        (WalletStep::Return, CAPTURED) => {
            let subsidy = captured_with;
            (RETURNED, subsidy, "refund", vec![(&*escrow, -amount - subsidy), (&*wallet, amount), (SUBSIDY, subsidy)])
        }
        _ => return Ok(()),
    };
    book(connection, &format!("{payment}:{name}"), OrderId(order), &lines).await?;
    sqlx::query("UPDATE holds SET state = $1, subsidy_fen = $2 WHERE payment_id = $3")
        .bind(next)
        .bind(subsidy)
        .bind(payment)
        .execute(&mut *connection)
        .await?;
    if next == RETURNED && returns == Returns::Wallet {
        credit(connection, user, amount).await?;
    }
    Ok(())
}

/// Takes money from a wallet, if it holds enough.
async fn debit(connection: &mut AnyConnection, user_id: UserId, amount_fen: i64) -> Result<bool, StoreError> {
    sqlx::query("INSERT INTO wallets VALUES ($1, $2) ON CONFLICT (user_id) DO NOTHING")
        .bind(user_id.0)
        .bind(OPENING_WALLET_FEN)
        .execute(&mut *connection)
        .await?;
    let paid =
        sqlx::query("UPDATE wallets SET balance_fen = balance_fen - $1 WHERE user_id = $2 AND balance_fen >= $3")
            .bind(amount_fen)
            .bind(user_id.0)
            .bind(amount_fen)
            .execute(connection)
            .await?;
    Ok(paid.rows_affected() > 0)
}

async fn credit(connection: &mut AnyConnection, user: i64, amount: i64) -> Result<(), StoreError> {
    sqlx::query("UPDATE wallets SET balance_fen = balance_fen + $1 WHERE user_id = $2")
        .bind(amount)
        .bind(user)
        .execute(connection)
        .await?;
    Ok(())
}

async fn after_sales(State(users): State<Users>, Body(granted): Body<Vec<AfterSales>>) -> Result<Json<Value>, Failure> {
    for one in &granted {
        known(&users.population, one.user_id)?;
        amount("refunded_fen", one.refunded_fen, 1)?;
    }
    let refused = users
        .store
        .write(move |connection| {
            Box::pin(async move {
                for one in &granted {
                    if !is_covered(connection, one).await? {
                        return Ok(Some(one.order_id));
                    }
                }
                for one in &granted {
                    give_back(connection, one).await?;
                }
                Ok(None)
            })
        })
        .await?;
    match refused {
        None => Ok(Json(json!({}))),
        Some(order) => {
            let why = format!("order {order} was not paid by this user, or with less than refunded_fen");
            Err(Failure::conflict("not_paid", why))
        }
    }
}

/// Whether the order was paid by this user, with at least what shall have been given back.
async fn is_covered(connection: &mut AnyConnection, granted: &AfterSales) -> Result<bool, StoreError> {
    let paid: Option<i64> = sqlx::query_scalar(
        "SELECT amount_fen FROM holds WHERE payment_id = $1 AND user_id = $2 AND order_id = $3 AND state = $4",
    )
    .bind(payment_id(granted.order_id))
    .bind(granted.user_id.0)
    .bind(granted.order_id.0)
    .bind(CAPTURED)
    .fetch_optional(connection)
    .await?;
    Ok(paid.is_some_and(|paid| granted.refunded_fen <= paid))
}

async fn purchase(State(users): State<Users>, Body(purchase): Body<Purchase>) -> Result<Json<Value>, Failure> {
    known(&users.population, purchase.user_id)?;
    let named = (1..=40).contains(&purchase.seller.len()) && purchase.seller.bytes().all(|b| b.is_ascii_lowercase());
    amount("amount_fen", purchase.amount_fen, 1)?;
    if !named {
        return Err(Failure::invalid("seller is a word of 1 to 40 small letters"));
    }
    let bought = users.store.write(move |c| Box::pin(async move { buy(c, &purchase).await })).await?;
    if !bought {
        return Err(Failure::conflict("insufficient_funds", "the wallet holds too little"));
    }
    Ok(Json(json!({ "paid": true })))
}

/// Whether the wallet held enough, now or when this purchase came the first time.
async fn buy(connection: &mut AnyConnection, purchase: &Purchase) -> Result<bool, StoreError> {
    let before: Option<i64> = sqlx::query_scalar("SELECT user_id FROM purchases WHERE purchase_id = $1")
        .bind(purchase.purchase_id)
        .fetch_optional(&mut *connection)
        .await?;
    if before.is_some() {
        return Ok(true);
    }
    if !debit(connection, purchase.user_id, purchase.amount_fen).await? {
        return Ok(false);
    }
    sqlx::query("INSERT INTO purchases VALUES ($1, $2)")
        .bind(purchase.purchase_id)
        .bind(purchase.user_id.0)
        .execute(&mut *connection)
        .await?;
    let (wallet, seller) = (account_of(purchase.user_id.0), format!("seller:{}", purchase.seller));
    let lines = [(wallet.as_str(), -purchase.amount_fen), (seller.as_str(), purchase.amount_fen)];
    book(connection, &format!("v{}:purchase", purchase.purchase_id), OrderId(0), &lines).await?;
    Ok(true)
}

/// Merchant → user, up to what the order has given back all in all.
async fn give_back(connection: &mut AnyConnection, granted: &AfterSales) -> Result<(), StoreError> {
    let before: Option<i64> = sqlx::query_scalar("SELECT refunded_fen FROM after_sales WHERE order_id = $1")
        .bind(granted.order_id.0)
        .fetch_optional(&mut *connection)
        .await?;
    let missing = granted.refunded_fen - before.unwrap_or(0);
    if missing <= 0 {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO after_sales VALUES ($1, $2) \
         ON CONFLICT (order_id) DO UPDATE SET refunded_fen = excluded.refunded_fen",
    )
    .bind(granted.order_id.0)
    .bind(granted.refunded_fen)
    .execute(&mut *connection)
    .await?;
    let (merchant, wallet) = (merchant_account(granted.restaurant_id), account_of(granted.user_id.0));
    let txn = format!("o{}:after-sales:{}", granted.order_id, granted.refunded_fen);
    book(connection, &txn, granted.order_id, &[(&merchant, -missing), (&wallet, missing)]).await?;
    credit(connection, granted.user_id.0, missing).await
}

fn account_of(user: i64) -> String {
    format!("user:{user}")
}

fn held_account(payment: &str) -> String {
    format!("hold:{payment}")
}

/// Lines that sum to zero; those of nothing are left out.
async fn book(
    connection: &mut AnyConnection,
    txn: &str,
    order_id: OrderId,
    lines: &[(&str, i64)],
) -> Result<(), StoreError> {
    for (account, amount) in lines.iter().filter(|(_, amount)| *amount != 0) {
        sqlx::query("INSERT INTO ledger (txn, account, order_id, amount_fen) VALUES ($1, $2, $3, $4)")
            .bind(txn)
            .bind(*account)
            .bind(order_id.0)
            .bind(*amount)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

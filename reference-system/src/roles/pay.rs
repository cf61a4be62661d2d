//! The payment mock: takes charges and calls the order service back, later and until it is heard, or as badly as the
//! switches `pay.callback` and `pay.outcome` say.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::ledger::amount;
use crate::extract::Body;
use crate::frame::{Frame, RoleError};
use crate::ids::{OrderId, mix64};
use crate::rpc::{Budget, CallError, Caller, Failure};
use crate::store::{Store, StoreError};
use crate::switches::Callbacks;

/// The store's name.
pub(crate) const STORE: &str = "pay";

/// Repeatable. `delivered` says whether the callback was heard; `lost`, that it goes out only when the charge is asked
/// for again.
const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS charges (
  payment_id TEXT PRIMARY KEY, order_id BIGINT NOT NULL, amount_fen BIGINT NOT NULL,
  delivered BIGINT NOT NULL DEFAULT 0, succeeded BIGINT NOT NULL DEFAULT 1, lost BIGINT NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS charges_open ON charges (payment_id) WHERE delivered = 0;
";

/// `pay.callback = late`: this much later.
const LATE: Duration = Duration::from_secs(6);
/// `pay.outcome = some_fail`: one payment of so many.
const FAILS: u64 = 4;
/// The longest pause between two tries to call back.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How long a callback may take.
const TRY: Duration = Duration::from_secs(2);

/// A charge; its callback says the same and whether it succeeded.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Charge {
    pub(crate) payment_id: String,
    pub(crate) order_id: OrderId,
    pub(crate) amount_fen: i64,
}

/// The callback.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Callback {
    pub(crate) payment_id: String,
    pub(crate) order_id: OrderId,
    pub(crate) amount_fen: i64,
    pub(crate) succeeded: bool,
}

struct Payments {
    store: Store,
    /// Payments whose callback goes out, again and again, until it is heard.
    calling: Mutex<HashSet<String>>,
    caller: Caller,
    delay: Duration,
    tracker: TaskTracker,
    stop: CancellationToken,
}

pub(super) async fn run(frame: Frame) -> Result<(), RoleError> {
    let payments = Arc::new(Payments {
        store: frame.open_store(STORE, SCHEMA).await?,
        calling: Mutex::default(),
        caller: frame.caller.clone(),
        delay: Duration::from_millis(frame.config.callback_delay_ms),
        tracker: frame.tracker.clone(),
        stop: frame.stop.clone(),
    });
    for callback in
        unheard(&payments.store).await.map_err(|source| RoleError::Store { name: STORE.to_owned(), source })?
    {
        payments.call_back_later(callback, &Budget::of(TRY), payments.delay);
    }
    let routes = Router::new().route("/charges", post(charge)).with_state(payments);
    frame.serve(routes, Box::new(|| json!({})), std::future::ready(())).await
}

async fn unheard(store: &Store) -> Result<Vec<Callback>, StoreError> {
    let rows =
        sqlx::query("SELECT payment_id, order_id, amount_fen, succeeded FROM charges WHERE delivered = 0 AND lost = 0")
            .fetch_all(store.readers())
            .await?;
    rows.iter().map(callback_from).collect()
}

fn callback_from(row: &AnyRow) -> Result<Callback, StoreError> {
    Ok(Callback {
        payment_id: row.try_get(0)?,
        order_id: OrderId(row.try_get(1)?),
        amount_fen: row.try_get(2)?,
        succeeded: row.try_get::<i64, _>(3)? != 0,
    })
}

async fn charge(
    State(payments): State<Arc<Payments>>,
    budget: Budget,
    Body(charge): Body<Charge>,
) -> Result<Json<Value>, Failure> {
    amount("amount_fen", charge.amount_fen, 1)?;
    let in_force = payments.caller.in_force();
    // The same payment always ends the same way.
    let fails = in_force.some_payments_fail && mix64(charge.order_id.0 as u64).is_multiple_of(FAILS);
    let lost = in_force.callbacks == Callbacks::Lost;
    let due = payments.store.write(move |c| Box::pin(async move { enter(c, &charge, !fails, lost).await })).await?;
    if let Some(callback) = due {
        let late = if in_force.callbacks == Callbacks::Late { LATE } else { Duration::ZERO };
        let pause = payments.delay + late;
        let again = (in_force.callbacks == Callbacks::Doubled).then(|| callback.clone());
        if payments.call_back_later(callback, &budget, pause)
            && let Some(again) = again
        {
            payments.spawn_callback(again, &budget, pause);
        }
    }
    Ok(Json(json!({ "accepted": true })))
}

/// The callback that is to go out now: of a charge that is not heard yet, unless its callback is lost and nobody has asked
/// for it again.
///
/// Whoever asked first may have been cut off between the row and the callback, so that the row alone does not say that the
/// callback goes out.
async fn enter(
    connection: &mut AnyConnection,
    charge: &Charge,
    succeeds: bool,
    lost: bool,
) -> Result<Option<Callback>, StoreError> {
    let new = sqlx::query(
        "INSERT INTO charges (payment_id, order_id, amount_fen, succeeded, lost) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT DO NOTHING",
    )
    .bind(&charge.payment_id)
    .bind(charge.order_id.0)
    .bind(charge.amount_fen)
    .bind(i64::from(succeeds))
    .bind(i64::from(lost))
    .execute(&mut *connection)
    .await?;
    if new.rows_affected() == 0 {
        sqlx::query("UPDATE charges SET lost = 0 WHERE payment_id = $1 AND lost = 1")
            .bind(&charge.payment_id)
            .execute(&mut *connection)
            .await?;
    }
    sqlx::query(
        "SELECT payment_id, order_id, amount_fen, succeeded FROM charges \
         WHERE payment_id = $1 AND delivered = 0 AND lost = 0",
    )
    .bind(&charge.payment_id)
    .fetch_optional(connection)
    .await?
    .as_ref()
    .map(callback_from)
    .transpose()
}

impl Payments {
    /// Sees to it that the callback goes out; `false` if it does already.
    /// `cause` is the request that asked for the charge.
    fn call_back_later(self: &Arc<Self>, callback: Callback, cause: &Budget, pause: Duration) -> bool {
        let is_new = self.calling().insert(callback.payment_id.clone());
        if is_new {
            self.spawn_callback(callback, cause, pause);
        }
        is_new
    }

    fn calling(&self) -> MutexGuard<'_, HashSet<String>> {
        self.calling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spawn_callback(self: &Arc<Self>, callback: Callback, cause: &Budget, pause: Duration) {
        let (payments, cause) = (Arc::clone(self), cause.afterwards(TRY));
        self.tracker.spawn(async move {
            let stop = payments.stop.clone();
            tokio::select! {
                () = payments.call_back(callback, &cause, pause) => {}
                () = stop.cancelled() => {}
            }
        });
    }

    async fn call_back(&self, callback: Callback, cause: &Budget, mut pause: Duration) {
        loop {
            tokio::time::sleep(pause).await;
            let budget = cause.renewed(TRY);
            let answer: Result<Value, CallError> =
                self.caller.post("eos-c", "/internal/pay-callback", &callback, &budget).await;
            match answer {
                Ok(_) => break,
                Err(error) if error.status().is_some_and(|status| status.is_client_error()) => {
                    tracing::error!(%error, order = %callback.order_id, "a payment was refused");
                    break;
                }
                Err(error) => {
                    tracing::warn!(%error, order = %callback.order_id, "a callback was not heard");
                    pause = (pause * 2).clamp(Duration::from_millis(100), LONGEST_PAUSE);
                }
            }
        }
        let payment_id = callback.payment_id.clone();
        let heard = self
            .store
            .write(move |connection| {
                Box::pin(async move {
                    sqlx::query("UPDATE charges SET delivered = 1 WHERE payment_id = $1")
                        .bind(payment_id)
                        .execute(connection)
                        .await?;
                    Ok(())
                })
            })
            .await;
        if let Err(error) = heard {
            // The callback goes out again after a restart, which is harmless.
            tracing::warn!(%error, "a heard callback could not be noted");
        }
        self.calling().remove(&callback.payment_id);
    }
}

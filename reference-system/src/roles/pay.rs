//! The payment mock: takes charges and calls the order service back, later and until it is heard.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::Row;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::extract::Body;
use crate::frame::{Frame, RoleError};
use crate::ids::OrderId;
use crate::rpc::{Budget, CallError, Caller, Failure};
use crate::store::{Store, StoreError};

/// Repeatable. `delivered` says whether the callback was heard.
const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS charges (
  payment_id TEXT PRIMARY KEY, order_id BIGINT NOT NULL, amount_fen BIGINT NOT NULL,
  delivered BIGINT NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS charges_open ON charges (payment_id) WHERE delivered = 0;
";

/// The longest pause between two tries to call back.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

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
    caller: Caller,
    delay: Duration,
    tracker: TaskTracker,
    stop: CancellationToken,
}

pub(super) async fn run(frame: Frame) -> Result<(), RoleError> {
    let payments = Arc::new(Payments {
        store: frame.open_store("pay", SCHEMA).await?,
        caller: frame.caller.clone(),
        delay: Duration::from_millis(frame.config.callback_delay_ms),
        tracker: frame.tracker.clone(),
        stop: frame.stop.clone(),
    });
    for charge in
        unheard(&payments.store).await.map_err(|source| RoleError::Store { name: "pay".to_owned(), source })?
    {
        payments.call_back_later(charge);
    }
    let routes = Router::new().route("/charges", post(charge)).with_state(payments);
    frame.serve(routes, Box::new(|| json!({})), std::future::ready(())).await
}

async fn unheard(store: &Store) -> Result<Vec<Charge>, StoreError> {
    let rows = sqlx::query("SELECT payment_id, order_id, amount_fen FROM charges WHERE delivered = 0")
        .fetch_all(store.readers())
        .await?;
    rows.iter()
        .map(|row| {
            Ok(Charge { payment_id: row.try_get(0)?, order_id: OrderId(row.try_get(1)?), amount_fen: row.try_get(2)? })
        })
        .collect()
}

async fn charge(State(payments): State<Arc<Payments>>, Body(charge): Body<Charge>) -> Result<Json<Value>, Failure> {
    if charge.amount_fen <= 0 {
        return Err(Failure::invalid("amount_fen must be positive"));
    }
    let row = charge.clone();
    let new = payments
        .store
        .write(move |connection| {
            Box::pin(async move {
                let inserted = sqlx::query(
                    "INSERT INTO charges (payment_id, order_id, amount_fen) VALUES ($1, $2, $3) \
                     ON CONFLICT DO NOTHING",
                )
                .bind(&row.payment_id)
                .bind(row.order_id.0)
                .bind(row.amount_fen)
                .execute(connection)
                .await?;
                Ok(inserted.rows_affected() > 0)
            })
        })
        .await?;
    if new {
        payments.call_back_later(charge);
    }
    Ok(Json(json!({ "accepted": true })))
}

impl Payments {
    fn call_back_later(self: &Arc<Self>, charge: Charge) {
        let payments = Arc::clone(self);
        self.tracker.spawn(async move {
            let stop = payments.stop.clone();
            tokio::select! {
                () = payments.call_back(charge) => {}
                () = stop.cancelled() => {}
            }
        });
    }

    async fn call_back(&self, charge: Charge) {
        let callback = Callback {
            payment_id: charge.payment_id.clone(),
            order_id: charge.order_id,
            amount_fen: charge.amount_fen,
            succeeded: true,
        };
        let mut pause = self.delay;
        loop {
            tokio::time::sleep(pause).await;
            let budget = Budget::of(Duration::from_secs(2));
            let answer: Result<Value, CallError> =
                self.caller.post("eos-c", "/internal/pay-callback", &callback, &budget).await;
            match answer {
                Ok(_) => break,
                Err(error) if error.status().is_some_and(|status| status.is_client_error()) => {
                    tracing::error!(%error, order = %charge.order_id, "a payment was refused");
                    break;
                }
                Err(error) => {
                    tracing::warn!(%error, order = %charge.order_id, "a callback was not heard");
                    pause = (pause * 2).clamp(Duration::from_millis(100), LONGEST_PAUSE);
                }
            }
        }
        let heard = self
            .store
            .write(move |connection| {
                Box::pin(async move {
                    sqlx::query("UPDATE charges SET delivered = 1 WHERE payment_id = $1")
                        .bind(&charge.payment_id)
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
    }
}

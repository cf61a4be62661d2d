//! Timers of the asynchronous pool: whoever has to do something for an order is reminded once, before the order's own
//! timer decides for them. A timer is a row; with `timer.hold = unacked` it is a message that nobody settles until it is
//! due, as the historic service kept hundreds of thousands of them.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::Value;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};
use tokio_util::sync::CancellationToken;

use crate::bus::event::Event;
use crate::bus::subscription::{Effect, Hold};
use crate::config::now_ms;
use crate::ids::OrderId;
use crate::orders::event::OrderEvent;
use crate::orders::lifecycle::Status;
use crate::orders::plan::Timers;
use crate::orders::service::Orders;
use crate::orders::{DELIVERED, Order};
use crate::roles::sms;
use crate::rpc::{Budget, CallError};
use crate::store::outbox::inbox_table;
use crate::store::{Store, StoreError};

/// Repeatable.
pub(super) const SCHEMA: &str = concat!(
    inbox_table!(),
    "
CREATE TABLE IF NOT EXISTS timers (
  timer_id IDENTITY, event_id TEXT NOT NULL, order_id BIGINT NOT NULL, version BIGINT NOT NULL,
  recipient TEXT NOT NULL, body TEXT NOT NULL, due_at_ms BIGINT NOT NULL, state BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS timers_by_due ON timers (due_at_ms) WHERE state = 0;
CREATE INDEX IF NOT EXISTS timers_by_order ON timers (order_id) WHERE state = 0;
"
);

/// `timers.state`: somebody was reminded.
const REMINDED: i64 = 1;
/// `timers.state`: the order had gone on.
const MOOT: i64 = 2;

/// A meal that has not arrived after so long is late.
const ON_TIME_MS: i64 = 45 * 60_000;
/// How often due timers are looked for.
const LOOK: Duration = Duration::from_millis(200);
/// The time for one of them.
const REMIND: Duration = Duration::from_secs(2);

/// What a timer says when it is due, to whom, and when that is.
struct Reminder {
    recipient: String,
    text: String,
    due_at_ms: i64,
}

/// The reminder that an event sets off: two thirds into the time that somebody has.
fn reminder(event: &OrderEvent, timers: &Timers) -> Option<Reminder> {
    let user = || format!("user:{}", event.user_id);
    let order_id = event.order_id;
    let (recipient, text, after_ms) = match event.kind.as_str() {
        "created" => (user(), format!("Order {order_id} is not paid yet"), timers.unpaid_ms * 2 / 3),
        "pending" => {
            let restaurant = format!("restaurant:{}", event.restaurant_id);
            (restaurant, format!("Order {order_id} waits for you"), timers.unanswered_ms * 2 / 3)
        }
        "accepted" => (user(), format!("Order {order_id} is late, and we are sorry"), ON_TIME_MS),
        _ => return None,
    };
    Some(Reminder { recipient, text, due_at_ms: event.at_ms + after_ms })
}

/// A row for each event, in place of what waited for earlier ones of the order.
pub(super) fn effect(timers: Timers) -> Effect {
    Arc::new(move |connection, event, _| Box::pin(async move { set(connection, &event, &timers).await }))
}

async fn set(connection: &mut AnyConnection, event: &Event, timers: &Timers) -> Result<(), StoreError> {
    let Event::Order(order) = event else { return Ok(()) };
    let Some(reminder) = reminder(order, timers) else { return Ok(()) };
    sqlx::query("UPDATE timers SET state = $1 WHERE order_id = $2 AND version < $3 AND state = 0")
        .bind(MOOT)
        .bind(order.order_id.0)
        .bind(order.version)
        .execute(&mut *connection)
        .await?;
    sqlx::query(
        "INSERT INTO timers (event_id, order_id, version, recipient, body, due_at_ms) VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(event.id())
    .bind(order.order_id.0)
    .bind(order.version)
    .bind(reminder.recipient)
    .bind(reminder.text)
    .bind(reminder.due_at_ms)
    .execute(connection)
    .await?;
    Ok(())
}

/// Until when the flawed design holds a message.
pub(super) fn hold(timers: Timers) -> Hold {
    Arc::new(move |event| match event {
        Event::Order(order) => reminder(order, &timers).map(|reminder| reminder.due_at_ms),
        _ => None,
    })
}

/// Carries out what is due.
pub(super) struct Reminders {
    pub(super) orders: Orders,
    pub(super) store: Store,
}

struct Due {
    timer_id: i64,
    event_id: String,
    order_id: OrderId,
    version: i64,
    message: sms::Request,
}

fn due_from(row: &AnyRow) -> Result<Due, sqlx::Error> {
    Ok(Due {
        timer_id: row.try_get(0)?,
        event_id: row.try_get(1)?,
        order_id: OrderId(row.try_get(2)?),
        version: row.try_get(3)?,
        message: sms::Request { recipient: row.try_get(4)?, text: row.try_get(5)? },
    })
}

/// Whether nothing has come of an order since the version that set the timer.
fn still_waits(order: &Order, version: i64) -> bool {
    order.version == version && (order.status != Status::Accepted || order.delivery_status < DELIVERED)
}

impl Reminders {
    /// Runs until told to stop. What was cut short is done again, and the message service sends it once.
    pub(super) async fn run(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = stop.cancelled() => return,
            }
            if let Err(error) = self.look().await {
                tracing::warn!(%error, "timers wait for their store");
            }
        }
    }

    async fn look(&self) -> Result<(), StoreError> {
        let rows = sqlx::query(
            "SELECT timer_id, event_id, order_id, version, recipient, body FROM timers \
             WHERE state = 0 AND due_at_ms <= $1 ORDER BY due_at_ms LIMIT 100",
        )
        .bind(now_ms())
        .fetch_all(self.store.readers())
        .await?;
        let due = rows.iter().map(due_from).collect::<Result<Vec<_>, _>>()?;
        let settled = futures::future::join_all(due.iter().map(|one| self.remind(one))).await;
        let settled: Vec<(i64, i64)> =
            due.iter().zip(settled).filter_map(|(one, to)| Some((one.timer_id, to?))).collect();
        if settled.is_empty() {
            return Ok(());
        }
        self.store.write(move |connection| settle(connection, settled)).await
    }

    /// The timer's new state; `None` if it has to wait.
    async fn remind(&self, due: &Due) -> Option<i64> {
        let reminded = self.remind_if_needed(due).await;
        reminded.inspect_err(|error| tracing::warn!(%error, event = due.event_id, "a reminder waits")).ok()
    }

    async fn remind_if_needed(&self, due: &Due) -> Result<i64, CallError> {
        let order = self.orders.read(due.order_id, &Budget::of(REMIND)).await?;
        if !still_waits(&order, due.version) {
            return Ok(MOOT);
        }
        let budget = Budget::of(REMIND).with_request_id(&format!("timer:{}", due.event_id));
        let _: Value = self.orders.caller.post("sms", "/send", &due.message, &budget).await?;
        Ok(REMINDED)
    }
}

fn settle(connection: &mut AnyConnection, settled: Vec<(i64, i64)>) -> BoxFuture<'_, Result<(), StoreError>> {
    Box::pin(async move {
        for (timer_id, state) in settled {
            sqlx::query("UPDATE timers SET state = $1 WHERE timer_id = $2")
                .bind(state)
                .bind(timer_id)
                .execute(&mut *connection)
                .await?;
        }
        Ok(())
    })
}

//! The outbox: what the bus must be told, written in the transaction of the event itself, and marked once the broker
//! has it. And the inbox, by which a consumer knows what it has done already.

use std::collections::{BTreeSet, HashSet};

use serde::{Deserialize, Serialize};
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::placeholders::places;
use super::{Store, StoreError};
use crate::bus::Message;
use crate::bus::event::{Cause, Event};
use crate::ids::OrderId;
use crate::switches::Emit;
use tokio::sync::watch;
use tokio::time::Instant;

/// The tables of whoever tells the bus something. Repeatable. `happened` has the events that are no transitions of an
/// order: those have rows of their own.
macro_rules! outbox_table {
    () => {
        "
CREATE TABLE IF NOT EXISTS outbox (
  outbox_id IDENTITY, message_id TEXT NOT NULL, message_key TEXT NOT NULL, body TEXT NOT NULL, state BIGINT NOT NULL
);
CREATE INDEX IF NOT EXISTS outbox_waiting ON outbox (outbox_id) WHERE state = 0;
CREATE TABLE IF NOT EXISTS happened (
  event_id TEXT PRIMARY KEY, message_key TEXT NOT NULL, at_ms BIGINT NOT NULL
) WITHOUT ROWID;
"
    };
}
pub(crate) use outbox_table;

/// The table of a consumer. Repeatable. A row says that the effect of an event is in this store.
macro_rules! inbox_table {
    () => {
        "
CREATE TABLE IF NOT EXISTS inbox (
  event_id TEXT NOT NULL, consumer TEXT NOT NULL, effects BIGINT NOT NULL,
  PRIMARY KEY (event_id, consumer)
) WITHOUT ROWID;
"
    };
}
pub(crate) use inbox_table;

/// The most rows in a statement.
const MOST: usize = 200;

/// `outbox.state`: to be published.
const WAITING: i64 = 0;
/// `outbox.state`: published.
const SENT: i64 = 1;
/// `outbox.state`: whoever wrote the row publishes it, or it is lost.
const INLINE: i64 = 2;
/// `outbox.state`: nobody is told, as the switch was.
pub(crate) const SILENT: i64 = 3;

/// How a write tells the bus of what it changes.
#[derive(Debug)]
pub(crate) struct Telling {
    /// Whether, and by whom.
    pub(crate) emit: Emit,
    /// The request that is the cause.
    pub(crate) cause: Cause,
    /// What the writer itself has to publish after its commit.
    pub(crate) inline: Vec<Message>,
}

impl Telling {
    /// Puts down that an event happened, and what must be told of it.
    pub(crate) async fn note(&mut self, connection: &mut AnyConnection, event: &Event) -> Result<(), StoreError> {
        let Some(message) = event.message() else {
            return Ok(());
        };
        if !matches!(event, Event::Order(_)) {
            sqlx::query("INSERT INTO happened (event_id, message_key, at_ms) VALUES ($1, $2, $3)")
                .bind(&message.id)
                .bind(&message.key)
                .bind(event.at_ms())
                .execute(&mut *connection)
                .await?;
        }
        let state = match self.emit {
            Emit::Outbox => WAITING,
            Emit::Inline | Emit::InlineSync => INLINE,
            Emit::Off => SILENT,
        };
        sqlx::query("INSERT INTO outbox (message_id, message_key, body, state) VALUES ($1, $2, $3, $4)")
            .bind(&message.id)
            .bind(&message.key)
            .bind(if state == WAITING { message.body.as_str() } else { "" })
            .bind(state)
            .execute(connection)
            .await?;
        if state == INLINE {
            self.inline.push(message);
        }
        Ok(())
    }
}

/// The state of a row in the copy of an order: what waits is published by whoever decides.
pub(super) fn settled_elsewhere(state: i64) -> i64 {
    if state == WAITING { SENT } else { state }
}

/// The order that a message of the user dimension is about: `ORDER.VERSION`, or `dORDER.STATUS` of its delivery.
pub(crate) fn order_of(message_id: &str) -> Option<OrderId> {
    message_id.trim_start_matches('d').split('.').next()?.parse().ok().map(OrderId)
}

/// Takes over rows that wait, from the side that decided until now. Doing it again changes nothing.
pub(crate) async fn take_over(connection: &mut AnyConnection, rows: &[Waiting]) -> Result<(), StoreError> {
    for Waiting { message, .. } in rows {
        let update = sqlx::query("UPDATE outbox SET state = $1, body = $2 WHERE message_id = $3")
            .bind(WAITING)
            .bind(&message.body)
            .bind(&message.id);
        if update.execute(&mut *connection).await?.rows_affected() > 0 {
            continue;
        }
        sqlx::query("INSERT INTO outbox (message_id, message_key, body, state) VALUES ($1, $2, $3, $4)")
            .bind(&message.id)
            .bind(&message.key)
            .bind(&message.body)
            .bind(WAITING)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// A row that waits.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Waiting {
    pub(crate) outbox_id: i64,
    pub(crate) message: Message,
}

/// Rows that wait, the oldest first.
pub(crate) async fn waiting(
    executor: impl sqlx::Executor<'_, Database = sqlx::Any>,
    limit: i64,
) -> Result<Vec<Waiting>, StoreError> {
    let rows = sqlx::query(
        "SELECT outbox_id, message_id, message_key, body FROM outbox WHERE state = 0 ORDER BY outbox_id LIMIT $1",
    )
    .bind(limit)
    .fetch_all(executor)
    .await?;
    rows.iter()
        .map(|row| {
            let message = Message { id: row.try_get(1)?, key: row.try_get(2)?, body: row.try_get(3)? };
            Ok(Waiting { outbox_id: row.try_get(0)?, message })
        })
        .collect()
}

/// As [`waiting`], as soon as there is a row, at the latest at `deadline`. `written` moves with each write.
pub(crate) async fn next_waiting(
    store: &Store,
    limit: i64,
    deadline: Instant,
    written: &mut watch::Receiver<()>,
) -> Result<Vec<Waiting>, StoreError> {
    loop {
        written.borrow_and_update();
        let rows = waiting(store.readers(), limit).await?;
        if !rows.is_empty() || Instant::now() >= deadline {
            return Ok(rows);
        }
        // Either way, look again.
        let _ = tokio::time::timeout_at(deadline, written.changed()).await;
    }
}

/// The orders of the last `count` events.
pub(crate) async fn last_orders(
    executor: impl sqlx::Executor<'_, Database = sqlx::Any>,
    count: i64,
) -> Result<BTreeSet<OrderId>, StoreError> {
    let events: Vec<String> = sqlx::query_scalar("SELECT message_id FROM outbox ORDER BY outbox_id DESC LIMIT $1")
        .bind(count)
        .fetch_all(executor)
        .await?;
    Ok(events.iter().filter_map(|event| order_of(event)).collect())
}

/// Marks rows as published. Their text is not needed any more.
pub(crate) async fn mark(connection: &mut AnyConnection, sent: &[i64]) -> Result<(), StoreError> {
    if sent.is_empty() {
        return Ok(());
    }
    let places = places(2, sent.len());
    let statement = format!("UPDATE outbox SET state = $1, body = '' WHERE outbox_id IN ({places})");
    let mut update = sqlx::query(AssertSqlSafe(statement)).bind(SENT);
    for outbox_id in sent {
        update = update.bind(*outbox_id);
    }
    update.execute(connection).await?;
    Ok(())
}

/// Notes that the effect of an event is part of this transaction; `false` if it was there before.
pub(crate) async fn note_in_inbox(
    connection: &mut AnyConnection,
    event_id: &str,
    consumer: &str,
) -> Result<bool, StoreError> {
    Ok(!note_all_in_inbox(connection, &[event_id], consumer).await?.is_empty())
}

/// Notes that the effects of these events are part of this transaction; gives those that were not there before.
pub(crate) async fn note_all_in_inbox(
    connection: &mut AnyConnection,
    event_ids: &[&str],
    consumer: &str,
) -> Result<HashSet<String>, StoreError> {
    let mut fresh = HashSet::new();
    for part in event_ids.chunks(MOST) {
        let values = (2..part.len() + 2).map(|n| format!("(${n}, $1, 1)")).collect::<Vec<_>>().join(", ");
        let statement = format!(
            "INSERT INTO inbox (event_id, consumer, effects) VALUES {values} \
             ON CONFLICT (event_id, consumer) DO NOTHING RETURNING event_id"
        );
        let mut insert = sqlx::query_scalar(AssertSqlSafe(statement)).bind(consumer);
        for event_id in part {
            insert = insert.bind(*event_id);
        }
        let noted: Vec<String> = insert.fetch_all(&mut *connection).await?;
        fresh.extend(noted);
    }
    Ok(fresh)
}

/// How often an event has taken effect for a consumer.
pub(crate) async fn effects_of(
    executor: impl sqlx::Executor<'_, Database = sqlx::Any>,
    event_id: &str,
    consumer: &str,
) -> Result<i64, StoreError> {
    let effects: Option<i64> = sqlx::query_scalar("SELECT effects FROM inbox WHERE event_id = $1 AND consumer = $2")
        .bind(event_id)
        .bind(consumer)
        .fetch_optional(executor)
        .await?;
    Ok(effects.unwrap_or(0))
}

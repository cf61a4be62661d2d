//! The outbox: what the bus must be told, written in the transaction of the event itself, and marked once the broker
//! has it. And the inbox, by which a consumer knows what it has done already.

use serde::{Deserialize, Serialize};
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::StoreError;
use crate::bus::Message;
use crate::ids::OrderId;
use crate::orders::Order;
use crate::orders::event::OrderEvent;
use crate::orders::lifecycle::Status;
use crate::switches::Emit;

/// The table of the user dimension. Repeatable.
macro_rules! outbox_table {
    () => {
        "
CREATE TABLE IF NOT EXISTS outbox (
  outbox_id IDENTITY, order_id BIGINT NOT NULL, version BIGINT NOT NULL,
  message_id TEXT NOT NULL, message_key TEXT NOT NULL, body TEXT NOT NULL, state BIGINT NOT NULL
);
CREATE INDEX IF NOT EXISTS outbox_waiting ON outbox (outbox_id) WHERE state = 0;
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

/// `outbox.state`: to be published.
const WAITING: i64 = 0;
/// `outbox.state`: published.
const SENT: i64 = 1;
/// `outbox.state`: whoever wrote the row publishes it, or it is lost.
const INLINE: i64 = 2;

/// How a write tells the bus of its transitions.
#[derive(Debug)]
pub(crate) struct Telling {
    /// Whether, and by whom.
    pub(crate) emit: Emit,
    /// The request that is the cause.
    pub(crate) req_id: Option<String>,
    /// Its load or fault tag.
    pub(crate) tag: Option<String>,
    /// What the writer itself has to publish after its commit.
    pub(crate) inline: Vec<Message>,
}

impl Telling {
    /// Puts down what must be told of the event by which `after` came about.
    pub(super) async fn note(
        &mut self,
        connection: &mut AnyConnection,
        after: &Order,
        from: Option<Status>,
        kind: &str,
    ) -> Result<(), StoreError> {
        let event = || OrderEvent::of(after, from, kind, self.req_id.clone(), self.tag.clone());
        let Some(message) = (self.emit != Emit::Off).then(event).and_then(|event| event.message()) else {
            return Ok(());
        };
        let state = if self.emit == Emit::Outbox { WAITING } else { INLINE };
        sqlx::query(
            "INSERT INTO outbox (order_id, version, message_id, message_key, body, state) VALUES ($1,$2,$3,$4,$5,$6)",
        )
        .bind(after.order_id.0)
        .bind(after.version)
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

/// A row that waits.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Waiting {
    pub(crate) outbox_id: i64,
    pub(crate) order_id: OrderId,
    pub(crate) message: Message,
}

/// Rows that wait, the oldest first.
pub(crate) async fn waiting(
    executor: impl sqlx::Executor<'_, Database = sqlx::Any>,
    limit: i64,
) -> Result<Vec<Waiting>, StoreError> {
    let rows = sqlx::query(
        "SELECT outbox_id, order_id, message_id, message_key, body FROM outbox \
         WHERE state = 0 ORDER BY outbox_id LIMIT $1",
    )
    .bind(limit)
    .fetch_all(executor)
    .await?;
    rows.iter()
        .map(|row| {
            let message = Message { id: row.try_get(2)?, key: row.try_get(3)?, body: row.try_get(4)? };
            Ok(Waiting { outbox_id: row.try_get(0)?, order_id: OrderId(row.try_get(1)?), message })
        })
        .collect()
}

/// Marks rows as published. Their text is not needed any more.
pub(crate) async fn mark(connection: &mut AnyConnection, sent: &[i64]) -> Result<(), StoreError> {
    if sent.is_empty() {
        return Ok(());
    }
    let places = (2..sent.len() + 2).map(|n| format!("${n}")).collect::<Vec<_>>().join(", ");
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
    let noted = sqlx::query(
        "INSERT INTO inbox (event_id, consumer, effects) VALUES ($1, $2, 1) ON CONFLICT (event_id, consumer) DO NOTHING",
    )
    .bind(event_id)
    .bind(consumer)
    .execute(connection)
    .await?;
    Ok(noted.rows_affected() == 1)
}

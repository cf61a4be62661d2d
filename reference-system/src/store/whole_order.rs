//! An order with everything that belongs to it, as one side of a migration hands it to the other: row, events, money,
//! what the bus was told, and the tasks that are left.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::StoreError;
use super::placeholders::places;
use super::user_dimension::{order_from, overwrite_order, select_order, write_order};
use crate::ids::OrderId;
use crate::orders::Order;
use crate::orders::event::event_id;

/// An order and what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WholeOrder {
    /// The shard that holds it among the sharded stores.
    pub(crate) shard: u16,
    pub(crate) order: Order,
    events: Vec<Event>,
    payments: Vec<Payment>,
    refunds: Vec<Refund>,
    told: Vec<Told>,
    happened: Vec<Happened>,
    tasks: Vec<Task>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Event {
    version: i64,
    from: Option<i64>,
    to: i64,
    kind: String,
    at_ms: i64,
    quote: Option<String>,
    quoted_fen: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Payment {
    payment_id: String,
    amount_fen: i64,
    state: i64,
    at_ms: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Refund {
    refund_id: String,
    payment_id: String,
    amount_fen: i64,
    source: i64,
    state: i64,
    at_ms: i64,
}

/// That the bus was to be told; whoever decides tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Told {
    message_id: String,
    message_key: String,
    state: i64,
}

/// An event that is no transition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Happened {
    event_id: String,
    message_key: String,
    at_ms: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Task {
    kind: i64,
    due_at_ms: i64,
    attempts: i64,
}

/// When a copy replaces what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Guard {
    /// Unless what is there is newer. For copies of what was just decided.
    NotOlder,
    /// Only if it is newer. For copies that were read a while ago.
    Newer,
    /// Always: the historic flaw.
    Off,
}

impl Guard {
    fn lets(self, there: Option<i64>, copy: i64) -> bool {
        there.is_none_or(|there| match self {
            Self::NotOlder => copy >= there,
            Self::Newer => copy > there,
            Self::Off => true,
        })
    }
}

/// Reads these orders whole, from one moment if `connection` is in a transaction or the store's writer. Those that are
/// not there are left out.
pub(crate) async fn read(connection: &mut AnyConnection, ids: &[OrderId]) -> Result<Vec<WholeOrder>, StoreError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut found: HashMap<i64, WholeOrder> = HashMap::new();
    let list = places(1, ids.len());
    // Of each query the first column is the order's ID.
    macro_rules! rows {
        ($statement:expr) => {{
            let mut query = sqlx::query(AssertSqlSafe(format!("{} IN ({list})", $statement)));
            for id in ids {
                query = query.bind(id.0);
            }
            query.fetch_all(&mut *connection).await?
        }};
    }
    for row in rows!(select_order!("FROM orders o WHERE o.order_id")) {
        let shard: i64 = row.try_get("shard")?;
        let shard = u16::try_from(shard).map_err(|_| StoreError::Row(format!("{shard} is no shard")))?;
        let order = order_from(&row)?;
        let (events, payments, refunds, told, happened, tasks) = Default::default();
        found.insert(order.order_id.0, WholeOrder { shard, order, events, payments, refunds, told, happened, tasks });
    }
    macro_rules! parts {
        ($part:ident, $statement:literal, $read:expr) => {
            for row in rows!($statement) {
                let order_id: i64 = row.try_get(0)?;
                if let Some(whole) = found.get_mut(&order_id) {
                    let read: fn(&sqlx::any::AnyRow) -> Result<_, sqlx::Error> = $read;
                    whole.$part.push(read(&row)?);
                }
            }
        };
    }
    parts!(
        events,
        "SELECT order_id, version, from_status, to_status, kind, at_ms, quote, quoted_fen FROM events WHERE order_id",
        |row| {
            Ok(Event {
                version: row.try_get(1)?,
                from: row.try_get(2)?,
                to: row.try_get(3)?,
                kind: row.try_get(4)?,
                at_ms: row.try_get(5)?,
                quote: row.try_get(6)?,
                quoted_fen: row.try_get(7)?,
            })
        }
    );
    parts!(payments, "SELECT order_id, payment_id, amount_fen, state, at_ms FROM payments WHERE order_id", |row| {
        Ok(Payment {
            payment_id: row.try_get(1)?,
            amount_fen: row.try_get(2)?,
            state: row.try_get(3)?,
            at_ms: row.try_get(4)?,
        })
    });
    parts!(
        refunds,
        "SELECT order_id, refund_id, payment_id, amount_fen, source, state, at_ms FROM refunds WHERE order_id",
        |row| {
            Ok(Refund {
                refund_id: row.try_get(1)?,
                payment_id: row.try_get(2)?,
                amount_fen: row.try_get(3)?,
                source: row.try_get(4)?,
                state: row.try_get(5)?,
                at_ms: row.try_get(6)?,
            })
        }
    );
    parts!(tasks, "SELECT order_id, kind, due_at_ms, attempts FROM tasks WHERE order_id", |row| {
        Ok(Task { kind: row.try_get(1)?, due_at_ms: row.try_get(2)?, attempts: row.try_get(3)? })
    });
    let mut wholes: Vec<WholeOrder> = ids.iter().filter_map(|id| found.remove(&id.0)).collect();
    for whole in &mut wholes {
        whole.events.sort_by_key(|event| event.version);
    }
    read_told(connection, &mut wholes).await?;
    Ok(wholes)
}

/// The events of an order, by the names under which the bus is told of them: its transitions and its delivery.
fn event_ids(order: &Order) -> impl Iterator<Item = String> {
    let order_id = order.order_id;
    let transitions = (1..=order.version).map(move |version| event_id(order_id.0, version));
    transitions.chain((1..=order.delivery_status).map(move |status| format!("d{order_id}.{status}")))
}

async fn read_told(connection: &mut AnyConnection, wholes: &mut [WholeOrder]) -> Result<(), StoreError> {
    const CHUNK: usize = 500;
    let of: HashMap<String, usize> =
        (0..).zip(wholes.iter()).flat_map(|(n, whole)| event_ids(&whole.order).map(move |id| (id, n))).collect();
    let names: Vec<&String> = of.keys().collect();
    for names in names.chunks(CHUNK) {
        let list = places(1, names.len());
        macro_rules! rows {
            ($statement:literal, $rest:literal) => {{
                let mut query = sqlx::query(AssertSqlSafe(format!("{} IN ({list}){}", $statement, $rest)));
                for name in names {
                    query = query.bind(name.as_str());
                }
                query.fetch_all(&mut *connection).await?
            }};
        }
        let told = rows!("SELECT message_id, message_key, state FROM outbox WHERE message_id", " ORDER BY outbox_id");
        for row in told {
            let message_id: String = row.try_get(0)?;
            if let Some(whole) = of.get(&message_id).and_then(|n| wholes.get_mut(*n)) {
                whole.told.push(Told { message_id, message_key: row.try_get(1)?, state: row.try_get(2)? });
            }
        }
        for row in rows!("SELECT event_id, message_key, at_ms FROM happened WHERE event_id", "") {
            let event_id: String = row.try_get(0)?;
            if let Some(whole) = of.get(&event_id).and_then(|n| wholes.get_mut(*n)) {
                whole.happened.push(Happened { event_id, message_key: row.try_get(1)?, at_ms: row.try_get(2)? });
            }
        }
    }
    Ok(())
}

/// Whether the copy is taken care of: written, or kept out by its guard. `false`: the same request made another order
/// here, and only one of them can be.
pub(crate) async fn apply(
    connection: &mut AnyConnection,
    whole: &WholeOrder,
    guard: Guard,
) -> Result<bool, StoreError> {
    let (shard, order) = (i64::from(whole.shard), &whole.order);
    let order_id = order.order_id.0;
    let there: Option<i64> = sqlx::query_scalar("SELECT revision FROM orders WHERE shard = $1 AND order_id = $2")
        .bind(shard)
        .bind(order_id)
        .fetch_optional(&mut *connection)
        .await?;
    if !guard.lets(there, order.revision) {
        return Ok(true);
    }
    if there.is_none() {
        let other: Option<i64> =
            sqlx::query_scalar("SELECT order_id FROM orders WHERE shard = $1 AND user_id = $2 AND req_id = $3")
                .bind(shard)
                .bind(order.user_id.0)
                .bind(&order.req_id)
                .fetch_optional(&mut *connection)
                .await?;
        if other.is_some() {
            return Ok(false);
        }
    }
    write_order!(connection, whole.shard, order, overwrite_order!(""));
    apply_events(connection, whole).await?;
    apply_money(connection, whole).await?;
    sqlx::query("DELETE FROM tasks WHERE order_id = $1").bind(order_id).execute(&mut *connection).await?;
    for task in &whole.tasks {
        sqlx::query("INSERT INTO tasks (shard, order_id, kind, due_at_ms, attempts) VALUES ($1, $2, $3, $4, $5)")
            .bind(shard)
            .bind(order_id)
            .bind(task.kind)
            .bind(task.due_at_ms)
            .bind(task.attempts)
            .execute(&mut *connection)
            .await?;
    }
    Ok(true)
}

/// Events never change: only those are written that are not there. The same holds for what the bus was told.
async fn apply_events(connection: &mut AnyConnection, whole: &WholeOrder) -> Result<(), StoreError> {
    let (shard, order_id) = (i64::from(whole.shard), whole.order.order_id.0);
    let known: Option<i64> = sqlx::query_scalar("SELECT max(version) FROM events WHERE shard = $1 AND order_id = $2")
        .bind(shard)
        .bind(order_id)
        .fetch_one(&mut *connection)
        .await?;
    for event in whole.events.iter().filter(|event| known.is_none_or(|known| event.version > known)) {
        sqlx::query(
            "INSERT INTO events (shard, order_id, version, from_status, to_status, kind, at_ms, quote, quoted_fen) \
             VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9)",
        )
        .bind(shard)
        .bind(order_id)
        .bind(event.version)
        .bind(event.from)
        .bind(event.to)
        .bind(&event.kind)
        .bind(event.at_ms)
        .bind(&event.quote)
        .bind(event.quoted_fen)
        .execute(&mut *connection)
        .await?;
    }
    for told in &whole.told {
        let known: Option<i64> = sqlx::query_scalar("SELECT outbox_id FROM outbox WHERE message_id = $1 LIMIT 1")
            .bind(&told.message_id)
            .fetch_optional(&mut *connection)
            .await?;
        if known.is_some() {
            continue;
        }
        sqlx::query("INSERT INTO outbox (message_id, message_key, body, state) VALUES ($1, $2, '', $3)")
            .bind(&told.message_id)
            .bind(&told.message_key)
            // Whoever decides publishes it; when that changes, what waits is handed over by itself.
            .bind(super::outbox::settled_elsewhere(told.state))
            .execute(&mut *connection)
            .await?;
    }
    for happened in &whole.happened {
        sqlx::query(
            "INSERT INTO happened (event_id, message_key, at_ms) VALUES ($1, $2, $3) ON CONFLICT (event_id) DO NOTHING",
        )
        .bind(&happened.event_id)
        .bind(&happened.message_key)
        .bind(happened.at_ms)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

async fn apply_money(connection: &mut AnyConnection, whole: &WholeOrder) -> Result<(), StoreError> {
    let (shard, order_id) = (i64::from(whole.shard), whole.order.order_id.0);
    for payment in &whole.payments {
        sqlx::query(
            "INSERT INTO payments (payment_id, shard, order_id, amount_fen, state, at_ms) VALUES ($1,$2,$3,$4,$5,$6) \
             ON CONFLICT (payment_id) DO UPDATE SET amount_fen = excluded.amount_fen, state = excluded.state, \
             at_ms = excluded.at_ms",
        )
        .bind(&payment.payment_id)
        .bind(shard)
        .bind(order_id)
        .bind(payment.amount_fen)
        .bind(payment.state)
        .bind(payment.at_ms)
        .execute(&mut *connection)
        .await?;
    }
    for refund in &whole.refunds {
        sqlx::query(
            "INSERT INTO refunds (refund_id, payment_id, shard, order_id, amount_fen, source, state, at_ms) \
             VALUES ($1,$2,$3,$4,$5,$6,$7,$8) \
             ON CONFLICT (refund_id) DO UPDATE SET state = excluded.state, at_ms = excluded.at_ms",
        )
        .bind(&refund.refund_id)
        .bind(&refund.payment_id)
        .bind(shard)
        .bind(order_id)
        .bind(refund.amount_fen)
        .bind(refund.source)
        .bind(refund.state)
        .bind(refund.at_ms)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guard_keeps_out_what_is_older() {
        for (guard, older, same, newer) in
            [(Guard::NotOlder, false, true, true), (Guard::Newer, false, false, true), (Guard::Off, true, true, true)]
        {
            assert_eq!((guard.lets(Some(5), 4), guard.lets(Some(5), 5), guard.lets(Some(5), 6)), (older, same, newer));
            assert!(guard.lets(None, 1));
        }
    }
}

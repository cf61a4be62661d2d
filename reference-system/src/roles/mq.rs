//! The embedded broker: topic exchanges, durable queues, one holder of a message at a time, a ladder of retries, dead
//! letters. It keeps rows; who holds what it keeps in memory, because after its death everything is handed out again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::bus::embedded::{Demand, Handed, Publication, Settlement};
use crate::bus::{Depth, Message, Queue, Topology};
use crate::config::now_ms;
use crate::extract::Body;
use crate::frame::{Frame, RoleError};
use crate::rpc::Failure;
use crate::store::{Store, StoreError};

/// Repeatable. A row is a copy of a message in one queue; `dead` is 1 for dead letters.
const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS topologies (exchange TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS messages (
  handle IDENTITY, queue TEXT NOT NULL, message_id TEXT NOT NULL, message_key TEXT NOT NULL, body TEXT NOT NULL,
  failures BIGINT NOT NULL DEFAULT 0, due_at_ms BIGINT NOT NULL, dead BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS messages_by_queue ON messages (queue, dead, handle);
";

/// The name of the store with the events of orders.
pub(crate) const STORE: &str = "mq";

/// A consumer that has said nothing for so long is gone.
const GONE: Duration = Duration::from_secs(5);
/// The longest wait for messages.
const LONGEST_WAIT_MS: u64 = 20_000;
/// Who has waited for messages waits this much longer for more of them: an answer costs more than a message in it.
const LINGER: Duration = Duration::from_millis(10);
/// The most messages that a consumer holds, and the most rows in a statement.
const MOST: usize = 200;
/// The most dead letters that are shown.
const SHOWN: i64 = 10_000;

struct Broker {
    store: Store,
    topologies: Mutex<BTreeMap<String, Topology>>,
    /// Who holds which message. Taken before the rows are looked at, so that no two are handed the same.
    held: tokio::sync::Mutex<HashMap<i64, Hold>>,
    /// By queue: moves whenever a message of it may have become free.
    freed: Mutex<HashMap<String, watch::Sender<()>>>,
    tracker: tokio_util::task::TaskTracker,
    /// Nobody waits for messages of a broker that stops.
    stop: tokio_util::sync::CancellationToken,
}

struct Hold {
    queue: String,
    consumer: String,
    until: Instant,
}

pub(super) async fn run(frame: Frame) -> Result<(), RoleError> {
    // Each broker has a store of its own.
    let name = frame.plan.service.clone();
    let store = frame.open_store(&name, SCHEMA).await?;
    let failed = |source| RoleError::Store { name, source };
    let topologies = known(&store).await.map_err(failed)?;
    let broker = Arc::new(Broker {
        store,
        topologies: Mutex::new(topologies),
        held: tokio::sync::Mutex::default(),
        freed: Mutex::default(),
        tracker: frame.tracker.clone(),
        stop: frame.stop.clone(),
    });
    let routes = Router::new()
        .route("/topology", post(declare))
        .route("/publish", post(publish))
        .route("/consume", post(consume))
        .route("/settle", post(settle))
        .route("/depth", post(depth))
        .route("/dead", post(dead))
        .route("/replay", post(replay))
        .with_state(Arc::clone(&broker));
    let describe = Box::new(move || {
        let topologies = broker.topologies.lock().unwrap_or_else(PoisonError::into_inner);
        json!({ "exchanges": topologies.keys().collect::<Vec<_>>() })
    });
    frame.serve(routes, describe, std::future::ready(())).await
}

async fn known(store: &Store) -> Result<BTreeMap<String, Topology>, StoreError> {
    let rows = sqlx::query("SELECT body FROM topologies").fetch_all(store.readers()).await?;
    let mut topologies = BTreeMap::new();
    for row in rows {
        let body: &str = row.try_get(0)?;
        let topology: Topology = serde_json::from_str(body).map_err(|error| StoreError::Row(error.to_string()))?;
        topologies.insert(topology.exchange.clone(), topology);
    }
    Ok(topologies)
}

impl Broker {
    fn topology(&self, exchange: &str) -> Result<Topology, Failure> {
        let topologies = self.topologies.lock().unwrap_or_else(PoisonError::into_inner);
        let found = topologies.get(exchange).cloned();
        found.ok_or_else(|| Failure::not_found(format!("there is no exchange {exchange}; declare it first")))
    }

    /// The ladder of a queue, in milliseconds.
    fn ladder(&self, queue: &str) -> Result<Vec<u32>, Failure> {
        let topologies = self.topologies.lock().unwrap_or_else(PoisonError::into_inner);
        let found = topologies.values().find(|topology| topology.queue(queue).is_some());
        found
            .map(|topology| topology.retry_ms.clone())
            .ok_or_else(|| Failure::not_found(format!("there is no queue {queue}; declare its exchange first")))
    }

    /// Moves whenever a message of the queue may have become free.
    fn freed(&self, queue: &str) -> watch::Sender<()> {
        let mut freed = self.freed.lock().unwrap_or_else(PoisonError::into_inner);
        freed.entry(queue.to_owned()).or_insert_with(|| watch::Sender::new(())).clone()
    }

    /// Hands out what is free, up to what the consumer may hold.
    async fn hand_out(&self, demand: &Demand) -> Result<Vec<Handed>, Failure> {
        let mut held = self.held.lock().await;
        let now = Instant::now();
        held.retain(|handle, hold| {
            if hold.consumer == demand.consumer {
                hold.until = now + GONE;
                return demand.holds.contains(handle);
            }
            // What an earlier life of it held comes first, or later events would overtake it.
            hold.until > now && !is_earlier_life(&hold.consumer, &demand.consumer)
        });
        let room = demand.most.saturating_sub(demand.holds.len()).min(MOST);
        if room == 0 {
            return Ok(Vec::new());
        }
        let taken = held.values().filter(|hold| hold.queue == demand.queue).count();
        let rows = sqlx::query(
            "SELECT handle, failures, message_id, message_key, body FROM messages \
             WHERE queue = $1 AND dead = 0 AND due_at_ms <= $2 ORDER BY handle LIMIT $3",
        )
        .bind(&demand.queue)
        .bind(now_ms())
        .bind((room + taken) as i64)
        .fetch_all(self.store.readers())
        .await
        .map_err(StoreError::from)?;
        let mut handed = Vec::new();
        for row in rows {
            let handle: i64 = row.try_get(0).map_err(StoreError::from)?;
            if handed.len() == room || held.contains_key(&handle) {
                continue;
            }
            let failures = row.try_get(1).map_err(StoreError::from)?;
            handed.push(Handed { handle, failures, message: message(&row, 2)? });
            let (queue, consumer) = (demand.queue.clone(), demand.consumer.clone());
            held.insert(handle, Hold { queue, consumer, until: now + GONE });
        }
        Ok(handed)
    }

    /// When the next message of a queue becomes free by itself after `looked_ms`: it has rested, or its holder counts
    /// as gone.
    async fn next_free(&self, queue: &str, looked_ms: i64) -> Result<Option<Instant>, StoreError> {
        let now = Instant::now();
        let gone = self.held.lock().await.values().filter(|hold| hold.queue == queue).map(|hold| hold.until).min();
        let due_ms: Option<i64> =
            sqlx::query_scalar("SELECT min(due_at_ms) FROM messages WHERE queue = $1 AND dead = 0 AND due_at_ms > $2")
                .bind(queue)
                .bind(looked_ms)
                .fetch_one(self.store.readers())
                .await?;
        let rested = due_ms.map(|at_ms| now + Duration::from_millis((at_ms - now_ms()).max(1).unsigned_abs()));
        Ok(gone.into_iter().chain(rested).min())
    }

    /// Of these, what the consumer still holds: something else may have become of the rest.
    async fn still_held(&self, settlement: &Settlement, handles: &[i64]) -> Vec<i64> {
        let held = self.held.lock().await;
        let of_consumer = |handle: &i64| held.get(handle).is_some_and(|hold| hold.consumer == settlement.consumer);
        handles.iter().copied().filter(of_consumer).collect()
    }
}

/// Whether a consumer belonged to an earlier process of the same instance: names are `INSTANCE/PROCESS/NUMBER`.
fn is_earlier_life(held_by: &str, asks: &str) -> bool {
    fn life(name: &str) -> Option<(&str, &str)> {
        let mut parts = name.split('/');
        Some((parts.next()?, parts.next()?))
    }
    match (life(held_by), life(asks)) {
        (Some((owner, process)), Some((other, now))) => owner == other && process != now,
        _ => false,
    }
}

fn message(row: &AnyRow, from: usize) -> Result<Message, StoreError> {
    Ok(Message { id: row.try_get(from)?, key: row.try_get(from + 1)?, body: row.try_get(from + 2)? })
}

async fn declare(State(broker): State<Arc<Broker>>, Body(topology): Body<Topology>) -> Result<Json<Value>, Failure> {
    let body = serde_json::to_string(&topology).map_err(|error| Failure::invalid(error.to_string()))?;
    let exchange = topology.exchange.clone();
    broker
        .store
        .write(move |connection| {
            Box::pin(async move {
                sqlx::query(
                    "INSERT INTO topologies (exchange, body) VALUES ($1, $2) \
                     ON CONFLICT (exchange) DO UPDATE SET body = excluded.body",
                )
                .bind(exchange)
                .bind(body)
                .execute(connection)
                .await?;
                Ok(())
            })
        })
        .await?;
    let mut topologies = broker.topologies.lock().unwrap_or_else(PoisonError::into_inner);
    topologies.insert(topology.exchange.clone(), topology);
    Ok(Json(json!({})))
}

async fn publish(
    State(broker): State<Arc<Broker>>,
    Body(publication): Body<Publication>,
) -> Result<Json<Value>, Failure> {
    let topology = broker.topology(&publication.exchange)?;
    if let Some(queue) = &publication.queue {
        broker.ladder(queue)?;
    }
    let mut copies = Vec::new();
    for message in &publication.messages {
        let goes_to = |queue: &Queue| match &publication.queue {
            Some(only) => queue.name == *only,
            None => queue.takes(&message.key),
        };
        for queue in topology.queues.iter().filter(|queue| goes_to(queue)) {
            copies.push((queue.name.clone(), message.clone()));
        }
    }
    let queues: BTreeSet<String> = copies.iter().map(|(queue, _)| queue.clone()).collect();
    let kept = Arc::clone(&broker);
    let keep = async move {
        let kept_all = kept.store.write(move |connection| Box::pin(insert(connection, copies))).await;
        for queue in &queues {
            kept.freed(queue).send_replace(());
        }
        kept_all
    };
    if publication.confirm {
        keep.await?;
    } else {
        broker.tracker.spawn(async move {
            if let Err(error) = keep.await {
                tracing::warn!(%error, "messages that nobody waited for are lost");
            }
        });
    }
    Ok(Json(json!({})))
}

async fn insert(connection: &mut AnyConnection, copies: Vec<(String, Message)>) -> Result<(), StoreError> {
    for part in copies.chunks(MOST) {
        let row = |n: usize| format!("(${}, ${}, ${}, ${}, $1)", 4 * n + 2, 4 * n + 3, 4 * n + 4, 4 * n + 5);
        let values = (0..part.len()).map(row).collect::<Vec<_>>().join(", ");
        let statement =
            format!("INSERT INTO messages (queue, message_id, message_key, body, due_at_ms) VALUES {values}");
        let mut insert = sqlx::query(AssertSqlSafe(statement)).bind(now_ms());
        for (queue, message) in part {
            insert = insert.bind(queue).bind(&message.id).bind(&message.key).bind(&message.body);
        }
        insert.execute(&mut *connection).await?;
    }
    Ok(())
}

/// Answers as soon as there is a message, at the latest after `wait_ms`.
async fn consume(State(broker): State<Arc<Broker>>, Body(demand): Body<Demand>) -> Result<Json<Vec<Handed>>, Failure> {
    broker.ladder(&demand.queue)?;
    let deadline = Instant::now() + Duration::from_millis(demand.wait_ms.min(LONGEST_WAIT_MS));
    let mut freed = broker.freed(&demand.queue).subscribe();
    loop {
        freed.borrow_and_update();
        let looked_ms = now_ms();
        let handed = broker.hand_out(&demand).await?;
        let now = Instant::now();
        if !handed.is_empty() || now >= deadline || broker.stop.is_cancelled() {
            return Ok(Json(handed));
        }
        // A message may become free without a write; either way, look again.
        let until = broker.next_free(&demand.queue, looked_ms).await?.map_or(deadline, |at| at.min(deadline));
        if tokio::time::timeout_at(until, freed.changed()).await.is_ok() {
            tokio::time::sleep_until(deadline.min(Instant::now() + LINGER)).await;
        }
    }
}

async fn settle(State(broker): State<Arc<Broker>>, Body(settlement): Body<Settlement>) -> Result<Json<Value>, Failure> {
    let ladder = broker.ladder(&settlement.queue)?;
    let retry = broker.still_held(&settlement, &settlement.retry).await;
    let (done, rests) = (settlement.done.clone(), ladder);
    broker
        .store
        .write(move |connection| {
            Box::pin(async move {
                for part in done.chunks(MOST) {
                    let places = (1..=part.len()).map(|n| format!("${n}")).collect::<Vec<_>>().join(", ");
                    let statement = format!("DELETE FROM messages WHERE handle IN ({places})");
                    let mut delete = sqlx::query(AssertSqlSafe(statement));
                    for handle in part {
                        delete = delete.bind(*handle);
                    }
                    delete.execute(&mut *connection).await?;
                }
                for handle in retry {
                    rest(connection, handle, &rests).await?;
                }
                Ok(())
            })
        })
        .await?;
    let mut held = broker.held.lock().await;
    for handle in settlement.done.iter().chain(&settlement.retry).chain(&settlement.requeue) {
        if held.get(handle).is_some_and(|hold| hold.consumer == settlement.consumer) {
            held.remove(handle);
        }
    }
    drop(held);
    // What is done frees nothing.
    if !(settlement.retry.is_empty() && settlement.requeue.is_empty()) {
        broker.freed(&settlement.queue).send_replace(());
    }
    Ok(Json(json!({})))
}

/// Puts a message on the next step of its ladder, or among the dead letters behind the last one.
async fn rest(connection: &mut AnyConnection, handle: i64, ladder: &[u32]) -> Result<(), StoreError> {
    let failures: Option<i64> = sqlx::query_scalar("SELECT failures FROM messages WHERE handle = $1")
        .bind(handle)
        .fetch_optional(&mut *connection)
        .await?;
    let step = failures.and_then(|failures| usize::try_from(failures).ok()).map(|failures| ladder.get(failures));
    let (dead, rest_ms) = match step {
        Some(Some(rest_ms)) => (0, i64::from(*rest_ms)),
        Some(None) => (1, 0),
        // Settled already.
        None => return Ok(()),
    };
    sqlx::query("UPDATE messages SET failures = failures + 1, due_at_ms = $1, dead = $2 WHERE handle = $3")
        .bind(now_ms() + rest_ms)
        .bind(dead)
        .bind(handle)
        .execute(connection)
        .await?;
    Ok(())
}

#[derive(Deserialize)]
struct Named {
    queue: String,
}

async fn depth(State(broker): State<Arc<Broker>>, Body(Named { queue }): Body<Named>) -> Result<Json<Depth>, Failure> {
    broker.ladder(&queue)?;
    let rows = sqlx::query(
        "SELECT CASE WHEN dead = 1 THEN 2 WHEN due_at_ms > $1 THEN 1 ELSE 0 END, count(*) FROM messages \
         WHERE queue = $2 GROUP BY 1",
    )
    .bind(now_ms())
    .bind(queue)
    .fetch_all(broker.store.readers())
    .await
    .map_err(StoreError::from)?;
    let mut depth = Depth::default();
    for row in rows {
        let (kind, count): (i64, i64) =
            (row.try_get(0).map_err(StoreError::from)?, row.try_get(1).map_err(StoreError::from)?);
        let place = [&mut depth.waiting, &mut depth.resting, &mut depth.dead];
        for (n, place) in place.into_iter().enumerate() {
            if n as i64 == kind {
                *place = count.unsigned_abs();
            }
        }
    }
    Ok(Json(depth))
}

async fn dead(
    State(broker): State<Arc<Broker>>,
    Body(Named { queue }): Body<Named>,
) -> Result<Json<Vec<Message>>, Failure> {
    broker.ladder(&queue)?;
    let rows = sqlx::query(
        "SELECT message_id, message_key, body FROM messages WHERE queue = $1 AND dead = 1 ORDER BY handle LIMIT $2",
    )
    .bind(queue)
    .bind(SHOWN)
    .fetch_all(broker.store.readers())
    .await
    .map_err(StoreError::from)?;
    Ok(Json(rows.iter().map(|row| message(row, 0)).collect::<Result<_, _>>()?))
}

#[derive(Deserialize)]
struct Replay {
    queue: String,
    most: u64,
}

/// Dead letters wait again, as if they had never failed.
async fn replay(State(broker): State<Arc<Broker>>, Body(asked): Body<Replay>) -> Result<Json<u64>, Failure> {
    broker.ladder(&asked.queue)?;
    let queue = asked.queue.clone();
    let replayed = broker
        .store
        .write(move |connection| {
            Box::pin(async move {
                let updated = sqlx::query(
                    "UPDATE messages SET dead = 0, failures = 0, due_at_ms = $1 WHERE handle IN \
                     (SELECT handle FROM messages WHERE queue = $2 AND dead = 1 ORDER BY handle LIMIT $3)",
                )
                .bind(now_ms())
                .bind(queue)
                .bind(i64::try_from(asked.most).unwrap_or(i64::MAX))
                .execute(connection)
                .await?;
                Ok(updated.rows_affected())
            })
        })
        .await?;
    broker.freed(&asked.queue).send_replace(());
    Ok(Json(replayed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_instance_in_another_process_is_an_earlier_life() {
        assert!(is_earlier_life("sms-1/17/1", "sms-1/18/1"));
        assert!(!is_earlier_life("sms-1/17/1", "sms-1/17/2"));
        assert!(!is_earlier_life("sms-1/17/1", "auditor-1/18/1"));
        assert!(!is_earlier_life("sms-1", "sms-1"));
    }
}

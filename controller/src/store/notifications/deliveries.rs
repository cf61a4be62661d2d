//! What is to be sent and what was: outbox and log.

use kennel_model::RunId;
use kennel_model::api::{DeliveryDetail, DeliveryState, DeliveryView, NotificationEvent, NotificationSubject};
use kennel_model::run::UnknownWord;
use kennel_notifications::destination::Destination;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::get;
use crate::store::{Store, StoreError, count, from_json, now};

/// Something to be sent.
#[derive(Debug, Clone)]
pub(crate) struct NewDelivery {
    pub(crate) id: String,
    pub(crate) channel: i64,
    pub(crate) channel_name: String,
    pub(crate) rule: Option<i64>,
    pub(crate) event: NotificationEvent,
    pub(crate) subject_kind: NotificationSubject,
    pub(crate) subject: String,
    pub(crate) run: Option<RunId>,
    pub(crate) title: String,
    pub(crate) body: String,
    /// When it is to be sent.
    pub(crate) send_at: String,
}

/// A delivery whose time has come.
#[derive(Debug, Clone)]
pub(crate) struct Due {
    pub(crate) id: String,
    pub(crate) channel: i64,
    pub(crate) destination: Destination,
    pub(crate) allow_private: bool,
    pub(crate) event: NotificationEvent,
    pub(crate) body: String,
    /// Attempts so far.
    pub(crate) attempts: u32,
}

/// What came of an attempt.
#[derive(Debug, Clone)]
pub(crate) struct Tried {
    pub(crate) state: DeliveryState,
    pub(crate) code: Option<u16>,
    pub(crate) answer: String,
    pub(crate) head: String,
    pub(crate) next_try_at: Option<String>,
}

/// Which deliveries to list.
#[derive(Debug, Clone, Default)]
pub(crate) struct DeliveryFilter {
    pub(crate) channel: Option<i64>,
    pub(crate) state: Option<DeliveryState>,
    pub(crate) event: Option<NotificationEvent>,
    /// Part of the subject's name or of the title; empty for all.
    pub(crate) text: String,
    /// Only those older than this one.
    pub(crate) before: Option<String>,
    pub(crate) limit: u32,
}

impl Store {
    /// Keeps something to be sent.
    pub(crate) async fn insert_delivery(&self, new: &NewDelivery) -> Result<(), StoreError> {
        let mut connection = self.writer.acquire().await.map_err(StoreError::database("keep a delivery"))?;
        Self::insert_delivery_in(&mut connection, new).await
    }

    pub(super) async fn insert_delivery_in(
        connection: &mut SqliteConnection,
        new: &NewDelivery,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO deliveries (id, channel, channel_name, rule, event, subject_kind, subject, run, title, body, \
             head, state, attempts, answer, created_at, next_try_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, '', 'waiting', 0, '', $11, $12)",
        )
        .bind(&new.id)
        .bind(new.channel)
        .bind(&new.channel_name)
        .bind(new.rule)
        .bind(new.event.word())
        .bind(new.subject_kind.word())
        .bind(&new.subject)
        .bind(new.run.map(|run| run.to_string()))
        .bind(&new.title)
        .bind(&new.body)
        .bind(now())
        .bind(&new.send_at)
        .execute(connection)
        .await
        .map_err(StoreError::database("keep a delivery"))?;
        Ok(())
    }

    /// For each channel in use, the oldest delivery whose time has come.
    pub(crate) async fn due_deliveries(&self, now: &str) -> Result<Vec<Due>, StoreError> {
        let rows = sqlx::query(
            "SELECT d.id, d.channel, d.event, d.body, d.attempts, c.destination, c.allow_private FROM deliveries d \
             JOIN notification_channels c ON c.id = d.channel WHERE c.enabled = 1 AND d.id = \
             (SELECT MIN(f.id) FROM deliveries f WHERE f.channel = d.channel AND f.state = 'waiting' \
             AND f.next_try_at <= $1) ORDER BY d.id",
        )
        .bind(now)
        .fetch_all(&self.reader)
        .await
        .map_err(StoreError::database("find what is to be sent"))?;
        rows.iter().map(due).collect()
    }

    /// When the next delivery is due that is not due by `now`.
    pub(crate) async fn next_delivery_after(&self, now: &str) -> Result<Option<String>, StoreError> {
        sqlx::query_scalar(
            "SELECT MIN(d.next_try_at) FROM deliveries d JOIN notification_channels c ON c.id = d.channel \
             WHERE d.state = 'waiting' AND c.enabled = 1 AND d.next_try_at > $1",
        )
        .bind(now)
        .fetch_one(&self.reader)
        .await
        .map_err(StoreError::database("find what is to be sent next"))
    }

    /// Keeps what came of an attempt.
    pub(crate) async fn record_attempt(&self, id: &str, tried: &Tried) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE deliveries SET state = $2, attempts = attempts + 1, code = $3, answer = $4, head = $5, \
             tried_at = $6, next_try_at = $7 WHERE id = $1",
        )
        .bind(id)
        .bind(tried.state.word())
        .bind(tried.code.map(i64::from))
        .bind(&tried.answer)
        .bind(&tried.head)
        .bind(now())
        .bind(&tried.next_try_at)
        .execute(&self.writer)
        .await
        .map_err(StoreError::database("keep what came of a delivery"))?;
        Ok(())
    }

    /// Has a delivery sent now, whatever came of it before; whether it exists and its channel too.
    pub(crate) async fn send_again(&self, id: &str) -> Result<bool, StoreError> {
        let changed = sqlx::query(
            "UPDATE deliveries SET state = 'waiting', next_try_at = $2 WHERE id = $1 AND channel IS NOT NULL",
        )
        .bind(id)
        .bind(now())
        .execute(&self.writer)
        .await
        .map_err(StoreError::database("send a delivery again"))?;
        Ok(changed.rows_affected() > 0)
    }

    /// Deliveries, newest first.
    pub(crate) async fn deliveries(&self, filter: &DeliveryFilter) -> Result<Vec<DeliveryView>, StoreError> {
        // Text is looked for as it is written, not as a pattern.
        let text = filter.text.to_lowercase().replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
        let rows = sqlx::query(
            "SELECT * FROM deliveries WHERE id < $1 AND ($2 IS NULL OR channel = $2) AND ($3 IS NULL OR state = $3) \
             AND ($4 IS NULL OR event = $4) AND lower(subject || ' ' || title) LIKE $5 ESCAPE '\\' ORDER BY id DESC LIMIT $6",
        )
        // Every UUID sorts before `g`.
        .bind(filter.before.as_deref().unwrap_or("g"))
        .bind(filter.channel)
        .bind(filter.state.map(DeliveryState::word))
        .bind(filter.event.map(NotificationEvent::word))
        .bind(format!("%{text}%"))
        .bind(i64::from(filter.limit))
        .fetch_all(&self.reader)
        .await
        .map_err(StoreError::database("list deliveries"))?;
        rows.iter().map(delivery).collect()
    }

    /// One delivery with what is sent.
    pub(crate) async fn delivery(&self, id: &str) -> Result<Option<DeliveryDetail>, StoreError> {
        let row = sqlx::query("SELECT * FROM deliveries WHERE id = $1")
            .bind(id)
            .fetch_optional(&self.reader)
            .await
            .map_err(StoreError::database("read a delivery"))?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(DeliveryDetail { delivery: delivery(&row)?, head: get(&row, "head")?, body: get(&row, "body")? }))
    }

    /// Forgets deliveries that are over and events that happened before a moment.
    pub(crate) async fn forget_notifications(&self, before: &str) -> Result<(), StoreError> {
        let failed = || StoreError::database("forget old notifications");
        for statement in [
            "DELETE FROM deliveries WHERE state <> 'waiting' AND created_at < $1",
            "DELETE FROM notification_events WHERE at < $1",
        ] {
            sqlx::query(statement).bind(before).execute(&self.writer).await.map_err(failed())?;
        }
        Ok(())
    }
}

fn word<T: std::str::FromStr<Err = UnknownWord>>(row: &SqliteRow, column: &'static str) -> Result<T, StoreError> {
    get::<String>(row, column)?.parse().map_err(StoreError::broken("word of a delivery"))
}

fn attempts(row: &SqliteRow) -> Result<u32, StoreError> {
    Ok(u32::try_from(count(get(row, "attempts")?)).unwrap_or(u32::MAX))
}

fn due(row: &SqliteRow) -> Result<Due, StoreError> {
    let destination: String = get(row, "destination")?;
    Ok(Due {
        id: get(row, "id")?,
        channel: get(row, "channel")?,
        destination: from_json("channel", &destination)?,
        allow_private: get::<i64>(row, "allow_private")? != 0,
        event: word(row, "event")?,
        body: get(row, "body")?,
        attempts: attempts(row)?,
    })
}

fn delivery(row: &SqliteRow) -> Result<DeliveryView, StoreError> {
    let run: Option<String> = get(row, "run")?;
    Ok(DeliveryView {
        id: get(row, "id")?,
        channel: get(row, "channel")?,
        channel_name: get(row, "channel_name")?,
        rule: get(row, "rule")?,
        event: word(row, "event")?,
        subject_kind: word(row, "subject_kind")?,
        subject: get(row, "subject")?,
        run: run.map(|run| run.parse()).transpose().map_err(StoreError::broken("run id"))?,
        title: get(row, "title")?,
        state: word(row, "state")?,
        attempts: attempts(row)?,
        code: get::<Option<i64>>(row, "code")?.and_then(|code| u16::try_from(code).ok()),
        answer: get(row, "answer")?,
        created_at: get(row, "created_at")?,
        tried_at: get(row, "tried_at")?,
        next_try_at: get(row, "next_try_at")?,
    })
}

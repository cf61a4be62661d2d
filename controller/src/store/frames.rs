//! Frames: appended as they come, each in one transaction; read back some seconds at a time.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use kennel_model::RunId;
use kennel_model::frame::ArrivalFrame;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{Store, StoreError, count, from_json, integer, to_json};
use crate::recording::{Measured, StoredFrame, WorkerHealth};

const APPENDING: &str = "append a second's measurements";
const READING: &str = "read a run's measurements";

impl Store {
    /// Appends a frame: all of it or, on an error, nothing. `part` numbers the frames of one agent and second,
    /// `measured_s` is how many seconds of the run are then measured.
    pub(crate) async fn append_frame(
        &self,
        run: RunId,
        part: u32,
        frame: &StoredFrame,
        measured_s: u32,
    ) -> Result<(), StoreError> {
        let id = run.to_string();
        let key = |query| bind_key(query, &id, part, frame);
        let mut transaction = self.writer.begin().await.map_err(StoreError::database(APPENDING))?;
        let statement = "INSERT INTO workers (run, second, agent, part, busy_users, lag, cpu_us, resident_bytes) \
                         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
        key(sqlx::query(statement))
            .bind(i64::from(frame.worker.busy_users))
            .bind(&frame.worker.lag)
            .bind(integer(frame.worker.cpu_us))
            .bind(integer(frame.worker.resident_bytes))
            .execute(&mut *transaction)
            .await
            .map_err(StoreError::database(APPENDING))?;
        for (name, measured) in &frame.requests {
            let statement = "INSERT INTO frames \
                             (run, second, agent, part, request, count, failures, bytes, response, service) \
                             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
            key(sqlx::query(statement))
                .bind(name)
                .bind(integer(measured.count))
                .bind(to_json("list of failures", &measured.failures)?)
                .bind(integer(measured.bytes))
                .bind(&measured.response)
                .bind(&measured.service)
                .execute(&mut *transaction)
                .await
                .map_err(StoreError::database(APPENDING))?;
        }
        for (scenario, arrivals) in &frame.arrivals {
            let statement = "INSERT INTO arrivals (run, second, agent, part, scenario, scheduled, started, dropped) \
                             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
            key(sqlx::query(statement))
                .bind(scenario)
                .bind(integer(arrivals.scheduled))
                .bind(integer(arrivals.started))
                .bind(integer(arrivals.dropped))
                .execute(&mut *transaction)
                .await
                .map_err(StoreError::database(APPENDING))?;
        }
        Self::set_measured(&mut transaction, run, measured_s).await.map_err(StoreError::database(APPENDING))?;
        transaction.commit().await.map_err(StoreError::database(APPENDING))
    }

    /// The last of the next (at most) `count` measured seconds of a run, from `from` on; nothing when there are none.
    pub(crate) async fn last_of_next_seconds(
        &self,
        run: RunId,
        from: u32,
        count: u32,
    ) -> Result<Option<u32>, StoreError> {
        let statement = "SELECT MAX(second) AS second FROM (SELECT DISTINCT second FROM workers \
                         WHERE run = $1 AND second >= $2 ORDER BY second LIMIT $3) AS next";
        let row = sqlx::query(statement)
            .bind(run.to_string())
            .bind(i64::from(from))
            .bind(i64::from(count))
            .fetch_one(&self.reader)
            .await
            .map_err(StoreError::database(READING))?;
        let second: Option<i64> = get(&row, "second")?;
        Ok(second.and_then(|second| u32::try_from(second).ok()))
    }

    /// The frames of some seconds of a run, in order of their seconds.
    pub(crate) async fn frames(
        &self,
        run: RunId,
        seconds: RangeInclusive<u32>,
    ) -> Result<Vec<StoredFrame>, StoreError> {
        let id = run.to_string();
        let asked = (id.as_str(), &seconds);
        let mut frames: BTreeMap<(u32, String, i64), StoredFrame> = BTreeMap::new();
        let mut transaction = self.reader.begin().await.map_err(StoreError::database(READING))?;
        let statement = "SELECT * FROM workers WHERE run = $1 AND second BETWEEN $2 AND $3";
        for row in rows(statement, asked, &mut transaction).await? {
            let worker = WorkerHealth {
                busy_users: u32::try_from(count(get(&row, "busy_users")?)).unwrap_or(u32::MAX),
                lag: get(&row, "lag")?,
                cpu_us: count(get(&row, "cpu_us")?),
                resident_bytes: count(get(&row, "resident_bytes")?),
            };
            let (second, agent, part) = key(&row)?;
            let (requests, arrivals) = (BTreeMap::new(), BTreeMap::new());
            let frame = StoredFrame { second, agent: agent.clone(), requests, arrivals, worker };
            frames.insert((second, agent, part), frame);
        }
        let statement = "SELECT * FROM frames WHERE run = $1 AND second BETWEEN $2 AND $3";
        for row in rows(statement, asked, &mut transaction).await? {
            let failures: String = get(&row, "failures")?;
            let measured = Measured {
                count: count(get(&row, "count")?),
                failures: from_json("list of failures", &failures)?,
                bytes: count(get(&row, "bytes")?),
                response: get(&row, "response")?,
                service: get(&row, "service")?,
            };
            if let Some(frame) = frames.get_mut(&key(&row)?) {
                frame.requests.insert(get(&row, "request")?, measured);
            }
        }
        let statement = "SELECT * FROM arrivals WHERE run = $1 AND second BETWEEN $2 AND $3";
        for row in rows(statement, asked, &mut transaction).await? {
            let arrivals = ArrivalFrame {
                scheduled: count(get(&row, "scheduled")?),
                started: count(get(&row, "started")?),
                dropped: count(get(&row, "dropped")?),
            };
            if let Some(frame) = frames.get_mut(&key(&row)?) {
                frame.arrivals.insert(get(&row, "scenario")?, arrivals);
            }
        }
        transaction.commit().await.map_err(StoreError::database(READING))?;
        Ok(frames.into_values().collect())
    }
}

type Query<'q> = sqlx::query::Query<'q, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>;

fn bind_key<'q>(query: Query<'q>, run: &'q str, part: u32, frame: &'q StoredFrame) -> Query<'q> {
    query.bind(run).bind(i64::from(frame.second)).bind(&frame.agent).bind(i64::from(part))
}

async fn rows(
    statement: &'static str,
    (run, seconds): (&str, &RangeInclusive<u32>),
    transaction: &mut sqlx::SqliteConnection,
) -> Result<Vec<SqliteRow>, StoreError> {
    let query = sqlx::query(statement).bind(run).bind(i64::from(*seconds.start())).bind(i64::from(*seconds.end()));
    query.fetch_all(transaction).await.map_err(StoreError::database(READING))
}

fn key(row: &SqliteRow) -> Result<(u32, String, i64), StoreError> {
    let second = u32::try_from(count(get(row, "second")?)).unwrap_or(u32::MAX);
    Ok((second, get(row, "agent")?, get(row, "part")?))
}

fn get<'r, T: sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>>(
    row: &'r SqliteRow,
    column: &'static str,
) -> Result<T, StoreError> {
    row.try_get(column).map_err(StoreError::database(READING))
}

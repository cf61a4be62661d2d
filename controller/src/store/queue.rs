//! What was moved to the front of the queue, and how long suites take.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use kennel_model::RunId;
use sqlx::Row as _;

use super::{Store, StoreError};

/// Runs whose length tells how long the next one takes.
const LOOKED_AT: i64 = 9;

impl Store {
    /// Runs that were moved to the front and may still wait, with their places; forgets the others.
    pub(crate) async fn queue_fronts(&self) -> Result<BTreeMap<RunId, i64>, StoreError> {
        let failed = || StoreError::database("read the queue's order");
        let statement = "DELETE FROM queue_fronts WHERE run NOT IN (SELECT id FROM suite_runs WHERE state = 'queued')";
        sqlx::query(statement).execute(&self.writer).await.map_err(failed())?;
        let rows = sqlx::query("SELECT run, place FROM queue_fronts").fetch_all(&self.writer).await.map_err(failed())?;
        rows.iter()
            .map(|row| {
                let run: String = row.try_get("run").map_err(failed())?;
                Ok((run.parse().map_err(StoreError::broken("run id"))?, row.try_get("place").map_err(failed())?))
            })
            .collect()
    }

    /// Keeps that a run was moved to the front.
    pub(crate) async fn set_queue_front(&self, run: RunId, place: i64) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO queue_fronts (run, place) VALUES ($1, $2)
             ON CONFLICT (run) DO UPDATE SET place = excluded.place",
        )
        .bind(run.to_string())
        .bind(place)
        .execute(&self.writer)
        .await
        .map_err(StoreError::database("keep the queue's order"))?;
        Ok(())
    }

    /// How long a suite's latest runs took: their median; nothing where none has ended.
    pub(crate) async fn usual_length(&self, suite: &str) -> Result<Option<Duration>, StoreError> {
        let failed = || StoreError::database("read how long a suite takes");
        let rows = sqlx::query(
            "SELECT started_at, ended_at FROM suite_runs
             WHERE suite = $1 AND state = 'ended' AND started_at IS NOT NULL AND ended_at IS NOT NULL
             AND origin <> 'import' ORDER BY id DESC LIMIT $2",
        )
        .bind(suite)
        .bind(LOOKED_AT)
        .fetch_all(&self.reader)
        .await
        .map_err(failed())?;
        let mut lengths = Vec::new();
        for row in &rows {
            let moment = |column| -> Result<Timestamp, StoreError> {
                let text: String = row.try_get(column).map_err(failed())?;
                text.parse().map_err(StoreError::broken("moment"))
            };
            let length = moment("ended_at")?.duration_since(moment("started_at")?);
            lengths.push(Duration::try_from(length).unwrap_or_default());
        }
        lengths.sort_unstable();
        Ok(lengths.get(lengths.len() / 2).copied())
    }
}

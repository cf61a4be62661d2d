//! Judgements: what runs that are over came to, as the API shows it.

use kennel_model::RunId;
use kennel_model::api::{RunDetail, SeriesView};
use serde::de::DeserializeOwned;
use sqlx::Row;

use super::{Store, StoreError, from_json, to_json};

const KEEPING: &str = "keep what a run came to";
const READING: &str = "read what a run came to";

/// What a run that is over came to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Judgement<'a> {
    pub(crate) detail: &'a RunDetail,
    pub(crate) series: &'a SeriesView,
}

impl Store {
    /// Keeps what a run came to, in place of what was kept before.
    pub(crate) async fn keep_judgement(&self, run: RunId, judgement: Judgement<'_>) -> Result<(), StoreError> {
        let mut writer = self.writer.acquire().await.map_err(StoreError::database(KEEPING))?;
        Self::insert_judgement(&mut writer, run, judgement).await
    }

    pub(super) async fn insert_judgement(
        writer: &mut sqlx::SqliteConnection,
        run: RunId,
        judgement: Judgement<'_>,
    ) -> Result<(), StoreError> {
        let statement = "INSERT INTO judgements (run, detail, series) VALUES ($1, $2, $3) \
                         ON CONFLICT (run) DO UPDATE SET detail = excluded.detail, series = excluded.series";
        sqlx::query(statement)
            .bind(run.to_string())
            .bind(to_json("judgement", judgement.detail)?)
            .bind(to_json("series", judgement.series)?)
            .execute(writer)
            .await
            .map_err(StoreError::database(KEEPING))?;
        Ok(())
    }

    /// A run as it was judged; nothing when that was not kept.
    pub(crate) async fn judged_detail(&self, run: RunId) -> Result<Option<RunDetail>, StoreError> {
        let Some(mut detail) =
            self.judged::<RunDetail>("SELECT detail FROM judgements WHERE run = $1", "judgement", run).await?
        else {
            return Ok(None);
        };
        // They may have been renamed since.
        let named = sqlx::query_as("SELECT name, target FROM runs WHERE id = $1").bind(run.to_string());
        let named = named.fetch_one(&self.reader).await.map_err(StoreError::database(READING))?;
        (detail.summary.name, detail.summary.target) = named;
        Ok(Some(detail))
    }

    /// A judged run second by second; nothing when that was not kept.
    pub(crate) async fn judged_series(&self, run: RunId) -> Result<Option<SeriesView>, StoreError> {
        self.judged("SELECT series FROM judgements WHERE run = $1", "series", run).await
    }

    async fn judged<T: DeserializeOwned>(
        &self,
        statement: &'static str,
        what: &'static str,
        run: RunId,
    ) -> Result<Option<T>, StoreError> {
        let row = sqlx::query(statement).bind(run.to_string()).fetch_optional(&self.reader).await;
        let Some(row) = row.map_err(StoreError::database(READING))? else { return Ok(None) };
        let text: String = row.try_get(0).map_err(StoreError::database(READING))?;
        // Another version of Kennel may have written it: the frames tell the same.
        let read = from_json(what, &text).inspect_err(|error| tracing::info!(%run, %error, "summing a run up anew"));
        Ok(read.ok())
    }
}

#[cfg(test)]
impl Store {
    /// Writes what no version of Kennel can read.
    pub(crate) async fn spoil_judgement(&self, run: RunId) {
        let statement = "UPDATE judgements SET detail = '{}', series = '[' WHERE run = $1";
        sqlx::query(statement).bind(run.to_string()).execute(&self.writer).await.unwrap();
    }
}
